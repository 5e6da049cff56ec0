//! The sample of how much waits and how the database is: taken by one process at a time, shown
//! by all.
//!
//! Hooks are stepped through in the index and counts end early, so that no backlog makes it
//! costly. There is no vacuum to watch and there are no partitions.

use super::SqliteStore;
use super::values::{day_of, micros, moment, parse_time};
use crate::Result;
use crate::gauges::{
    GAUGES_COUNTED, GaugeSample, Gauges, HookCounts, Waiting, capped, claimed_until, furthest,
    is_due, next_at,
};
use chrono::NaiveTime;
use postrider_core::Timestamp;
use sqlx::types::Json;
use std::time::Instant;

/// What the row of the latest sample holds: when the next is due, and the sample.
type Kept = (i64, Option<i64>, Option<Json<serde_json::Value>>);

impl SqliteStore {
    pub(super) async fn current_gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>> {
        let kept = self.kept_gauges().await?;
        let due = kept.as_ref().is_none_or(|kept| is_due(moment(kept.0), now));
        if !due || !self.claim_gauges(now).await? {
            return Ok(kept.and_then(read));
        }
        let begun = Instant::now();
        let gauges = self.sample(now).await?;
        let next = next_at(now, begun.elapsed());
        self.keep_gauges(now, next, &gauges).await?;
        Ok(Some(GaugeSample { at: now, gauges }))
    }

    async fn kept_gauges(&self) -> Result<Option<Kept>> {
        sqlx::query_as(
            "-- postrider: gauges
            SELECT due_at, sampled_at, sample FROM postrider_gauges WHERE singleton = 1",
        )
        .fetch_optional(&self.readers)
        .await
        .map_err(Into::into)
    }

    /// Whether it is this process that takes the next sample.
    async fn claim_gauges(&self, now: Timestamp) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let claimed: Option<i64> = sqlx::query_scalar(
            "-- postrider: gauges_claim
            INSERT INTO postrider_gauges (singleton, due_at) VALUES (1, ?2)
            ON CONFLICT (singleton) DO UPDATE SET due_at = excluded.due_at
            WHERE due_at <= ?1 OR due_at > ?3
            RETURNING singleton",
        )
        .bind(micros(now))
        .bind(micros(claimed_until(now)))
        .bind(micros(furthest(now)))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(claimed.is_some())
    }

    async fn keep_gauges(&self, now: Timestamp, next: Timestamp, gauges: &Gauges) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: gauges_keep
            UPDATE postrider_gauges SET due_at = ?1, sampled_at = ?2, sample = ?3
            WHERE singleton = 1",
        )
        .bind(micros(next))
        .bind(micros(now))
        .bind(Json(gauges))
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn sample(&self, now: Timestamp) -> Result<Gauges> {
        let mut gauges = Gauges::default();
        self.sample_deliveries(now, &mut gauges).await?;
        self.sample_queues(now, &mut gauges).await?;
        gauges.hooks = self.sample_hooks().await?;
        self.sample_file(now, &mut gauges).await?;
        Ok(gauges)
    }

    /// What waits without a lease: a step for each hook that has anything waiting, and then no
    /// more rows than are counted.
    async fn sample_deliveries(&self, now: Timestamp, gauges: &mut Gauges) -> Result<()> {
        let rows: Vec<(String, Option<i64>, i64, i64)> = sqlx::query_as(
            "-- postrider: gauges_deliveries
            WITH RECURSIVE waiting (hook_id) AS (
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL ORDER BY d.hook_id LIMIT 1)
                UNION ALL
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL
                            AND d.hook_id > waiting.hook_id
                        ORDER BY d.hook_id LIMIT 1)
                FROM waiting WHERE hook_id IS NOT NULL
            ), of_hooks (hook_id, first_at, kind) AS MATERIALIZED (
                SELECT w.hook_id,
                       (SELECT d.next_attempt_at FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL AND d.hook_id = w.hook_id
                        ORDER BY d.next_attempt_at LIMIT 1),
                       CASE WHEN h.status <> 'active' THEN 'held'
                            WHEN h.settings ->> 'in_flight' IS NOT NULL
                                OR h.settings ->> 'ordered' IS NOT NULL
                                OR h.settings ->> 'rate' IS NOT NULL
                                OR health.phase IS NOT NULL THEN 'gated'
                            ELSE 'free' END
                FROM waiting AS w
                CROSS JOIN postrider_hooks AS h ON h.id = w.hook_id AND h.deleted_at IS NULL
                LEFT JOIN postrider_hook_health AS health ON health.hook_id = w.hook_id
            )
            SELECT k.column1,
                   (SELECT min(first_at) FROM of_hooks WHERE kind = k.column1 AND first_at <= ?1),
                   (SELECT count(*) FROM (
                        SELECT 1 FROM of_hooks AS o
                        CROSS JOIN postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE o.kind = k.column1 AND o.first_at <= ?1 AND d.slot = 0
                            AND d.hook_id = o.hook_id AND d.lease_token IS NULL
                            AND d.next_attempt_at <= ?1
                        LIMIT ?2)),
                   (SELECT count(*) FROM (
                        SELECT 1 FROM of_hooks AS o
                        CROSS JOIN postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE o.kind = k.column1 AND d.slot = 0
                            AND d.hook_id = o.hook_id AND d.lease_token IS NULL
                            AND d.next_attempt_at > ?1
                        LIMIT ?2))
            FROM (VALUES ('free'), ('gated'), ('held')) AS k",
        )
        .bind(micros(now))
        .bind(GAUGES_COUNTED)
        .fetch_all(&self.readers)
        .await?;
        let mut scheduled = 0;
        for (kind, first, due, later) in rows {
            let first = first.map(moment);
            match kind.as_str() {
                "held" => gauges.held = Waiting::since(due + later, first, now),
                "gated" => {
                    gauges.gated = Waiting::since(due, first, now);
                    scheduled += later;
                }
                _ => {
                    gauges.due = Waiting::since(due, first, now);
                    scheduled += later;
                }
            }
        }
        gauges.scheduled = capped(scheduled);
        Ok(())
    }

    /// What stands in the outbox, and what is leased.
    async fn sample_queues(&self, now: Timestamp, gauges: &mut Gauges) -> Result<()> {
        let (first, outbox, leased, started): (Option<String>, i64, i64, i64) = sqlx::query_as(
            "-- postrider: gauges_queues
            SELECT (SELECT created_at FROM postrider_outbox ORDER BY seq LIMIT 1),
                   (SELECT count(*) FROM (SELECT 1 FROM postrider_outbox LIMIT ?1)),
                   (SELECT count(*) FROM (
                        SELECT 1 FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
                        WHERE slot = 0 AND lease_token IS NOT NULL LIMIT ?1)),
                   (SELECT coalesce(sum(open), 0) FROM (
                        SELECT open FROM postrider_leases WHERE slot = 0 LIMIT ?1))",
        )
        .bind(GAUGES_COUNTED)
        .fetch_one(&self.readers)
        .await?;
        let first = first.as_deref().and_then(parse_time);
        gauges.outbox = Waiting::since(outbox, first, now);
        gauges.leased = capped(leased + started);
        Ok(())
    }

    async fn sample_hooks(&self) -> Result<HookCounts> {
        let (active, paused, disabled, backed_off, ramping) = sqlx::query_as(
            "-- postrider: gauges_hooks
            SELECT count(*) FILTER (WHERE h.status = 'active'),
                   count(*) FILTER (WHERE h.status = 'paused'),
                   count(*) FILTER (WHERE h.status = 'disabled'),
                   count(*) FILTER (WHERE h.status = 'active' AND health.phase = 'backed_off'),
                   count(*) FILTER (WHERE h.status = 'active' AND health.phase = 'ramping')
            FROM postrider_hooks AS h
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
            WHERE h.deleted_at IS NULL",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(HookCounts {
            active,
            paused,
            disabled,
            backed_off,
            ramping,
        })
    }

    /// The size of the file, and since when there is history in it.
    async fn sample_file(&self, now: Timestamp, gauges: &mut Gauges) -> Result<()> {
        let (bytes, first): (i64, Option<i32>) = sqlx::query_as(
            "-- postrider: gauges_file
            SELECT (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size),
                   (SELECT min(day) FROM postrider_events WHERE slot = 0)",
        )
        .fetch_one(&self.readers)
        .await?;
        gauges.database_bytes = u64::try_from(bytes).unwrap_or_default();
        if let Some(first) = first {
            let began = day_of(first).and_time(NaiveTime::MIN).and_utc();
            gauges.history_seconds = (now - began).as_seconds_f64().max(0.0);
        }
        Ok(())
    }
}

/// A sample as it was kept; nothing if it is none that this version can read.
fn read((_, at, sample): Kept) -> Option<GaugeSample> {
    Some(GaugeSample {
        at: moment(at?),
        gauges: serde_json::from_value(sample?.0).ok()?,
    })
}
