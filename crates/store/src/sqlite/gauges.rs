//! The sample of the backlog and of the state of the database.
//!
//! The hooks with waiting deliveries are found step by step in the index, and counts end early, so
//! that the cost does not depend on the backlog.

use super::SqliteStore;
use super::diagnostics::diagnostics;
use super::values::{day_of, micros, parse_time};
use crate::gauges::{
    self, GAUGES_COUNTED, GaugeStatements, Gauges, HookCounts, KeptSample, Waiting, WaitingRow,
    capped,
};
use crate::{Diagnostics, GaugeSample, Monitoring, Result};
use async_trait::async_trait;
use chrono::NaiveTime;
use postrider_core::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;

impl SqliteStore {
    /// Deliveries that wait without a lease: a step for each hook with waiting deliveries, and then
    /// as many rows as are counted.
    async fn sample_deliveries(&self, now: Timestamp, gauges: &mut Gauges) -> Result<()> {
        let rows = sqlx::query(
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
            SELECT k.column1 AS kind,
                   (SELECT min(first_at) FROM of_hooks
                    WHERE kind = k.column1 AND first_at <= ?1) AS first_at,
                   (SELECT count(*) FROM (
                        SELECT 1 FROM of_hooks AS o
                        CROSS JOIN postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE o.kind = k.column1 AND o.first_at <= ?1 AND d.slot = 0
                            AND d.hook_id = o.hook_id AND d.lease_token IS NULL
                            AND d.next_attempt_at <= ?1
                        LIMIT ?2)) AS due,
                   (SELECT count(*) FROM (
                        SELECT 1 FROM of_hooks AS o
                        CROSS JOIN postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE o.kind = k.column1 AND d.slot = 0
                            AND d.hook_id = o.hook_id AND d.lease_token IS NULL
                            AND d.next_attempt_at > ?1
                        LIMIT ?2)) AS later
            FROM (VALUES ('free'), ('gated'), ('held')) AS k",
        )
        .bind(micros(now))
        .bind(GAUGES_COUNTED)
        .try_map(|row: SqliteRow| WaitingRow::read(&row))
        .fetch_all(&self.readers)
        .await?;
        gauges.set_waiting(rows, now);
        Ok(())
    }

    /// Rows of the outbox, and leased deliveries.
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

    /// The size of the file, and the age of the history in it.
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

#[async_trait]
impl Monitoring for SqliteStore {
    async fn diagnostics(&self, _: Timestamp) -> Result<Diagnostics> {
        diagnostics(self).await
    }

    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>> {
        gauges::current(self, now).await
    }
}

#[async_trait]
impl GaugeStatements for SqliteStore {
    async fn kept(&self) -> Result<Option<KeptSample>> {
        let kept = sqlx::query(
            "-- postrider: gauges
            SELECT due_at, sampled_at, sample FROM postrider_gauges WHERE singleton = 1",
        )
        .try_map(|row: SqliteRow| KeptSample::read(&row))
        .fetch_optional(&self.readers)
        .await?;
        Ok(kept)
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, furthest: Timestamp) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let claimed: Option<i64> = sqlx::query_scalar(
            "-- postrider: gauges_claim
            INSERT INTO postrider_gauges (singleton, due_at) VALUES (1, ?2)
            ON CONFLICT (singleton) DO UPDATE SET due_at = excluded.due_at
            WHERE due_at <= ?1 OR due_at > ?3
            RETURNING singleton",
        )
        .bind(micros(now))
        .bind(micros(until))
        .bind(micros(furthest))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(claimed.is_some())
    }

    async fn sample(&self, now: Timestamp) -> Result<Gauges> {
        let mut gauges = Gauges::default();
        self.sample_deliveries(now, &mut gauges).await?;
        self.sample_queues(now, &mut gauges).await?;
        gauges.hooks = sqlx::query(HookCounts::STATEMENT)
            .try_map(|row: SqliteRow| HookCounts::read(&row))
            .fetch_one(&self.readers)
            .await?;
        self.sample_file(now, &mut gauges).await?;
        Ok(gauges)
    }

    async fn keep(&self, now: Timestamp, next: Timestamp, gauges: &Gauges) -> Result<()> {
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
}
