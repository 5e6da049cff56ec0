//! The sample of the backlog and of the state of the database.
//!
//! The hooks with waiting deliveries are found step by step in the index, and counts end early, so
//! that the cost does not depend on the backlog. A sample that takes long all the same, because of
//! very many hooks or dead rows, is taken less often.

use super::PostgresStore;
use super::connection::Connection;
use super::diagnostics::diagnostics;
use super::upkeep::PARTITIONED;
use crate::gauges::{
    self, GAUGES_COUNTED, GaugeStatements, Gauges, HookCounts, KeptSample, PartitionGauge,
    SnapshotGauge, TAKING_MAX, TableGauge, Waiting, WaitingRow, capped,
};
use crate::{Diagnostics, Error, GaugeSample, Monitoring, Result};
use async_trait::async_trait;
use chrono::{NaiveDate, NaiveTime};
use postrider_core::{Timestamp, monotonic_now};
use sqlx::postgres::PgRow;
use sqlx::types::Json;

/// The tables that are updated all the time, whose dead rows matter.
const QUEUE_TABLES: [&str; 7] = [
    "postrider_outbox",
    "postrider_deliveries",
    "postrider_leases",
    "postrider_dedup",
    "postrider_hook_health",
    "postrider_hook_latest",
    "postrider_gates",
];

impl PostgresStore {
    async fn take_sample(&self, now: Timestamp) -> Result<Gauges> {
        let mut gauges = Gauges::default();
        let mut connection = self.hot.acquire().await?;
        sample_deliveries(&mut connection, now, &mut gauges).await?;
        let (from, _) = self.outbox_cursor().known(monotonic_now());
        sample_queues(&mut connection, now, from, &mut gauges).await?;
        drop(connection);
        let mut connection = self.calm.acquire().await?;
        gauges.hooks = sqlx::query(HookCounts::STATEMENT)
            .try_map(|row: PgRow| HookCounts::read(&row))
            .fetch_one(&mut *connection)
            .await?;
        sample_sizes(&mut connection, &mut gauges).await?;
        gauges.snapshot = Some(sample_snapshot(&mut connection).await?);
        sample_history(&mut connection, now, &mut gauges).await?;
        Ok(gauges)
    }
}

#[async_trait]
impl Monitoring for PostgresStore {
    async fn diagnostics(&self, now: Timestamp) -> Result<Diagnostics> {
        diagnostics(self, now).await
    }

    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>> {
        gauges::current(self, now).await
    }
}

#[async_trait]
impl GaugeStatements for PostgresStore {
    async fn kept(&self) -> Result<Option<KeptSample>> {
        let kept = sqlx::query(
            "-- postrider: gauges
            SELECT due_at, sampled_at, sample::text AS sample
            FROM postrider_gauges WHERE singleton",
        )
        .try_map(|row: PgRow| KeptSample::read(&row))
        .fetch_optional(&self.hot)
        .await?;
        Ok(kept)
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, furthest: Timestamp) -> Result<bool> {
        let claimed: Option<bool> = sqlx::query_scalar(
            "-- postrider: gauges_claim
            INSERT INTO postrider_gauges AS g (due_at) VALUES ($2)
            ON CONFLICT (singleton) DO UPDATE SET due_at = excluded.due_at
            WHERE g.due_at <= $1 OR g.due_at > $3
            RETURNING true",
        )
        .bind(now)
        .bind(until)
        .bind(furthest)
        .fetch_optional(&self.hot)
        .await?;
        Ok(claimed.is_some())
    }

    async fn sample(&self, now: Timestamp) -> Result<Gauges> {
        let sample = tokio::time::timeout(TAKING_MAX, self.take_sample(now)).await;
        sample.unwrap_or_else(|_| {
            Err(Error::Database(format!(
                "sampling the gauges took longer than {} s; it is tried again in a minute",
                TAKING_MAX.as_secs()
            )))
        })
    }

    async fn keep(&self, now: Timestamp, next: Timestamp, gauges: &Gauges) -> Result<()> {
        sqlx::query(
            "-- postrider: gauges_keep
            UPDATE postrider_gauges SET due_at = $1, sampled_at = $2, sample = $3 WHERE singleton",
        )
        .bind(next)
        .bind(now)
        .bind(Json(gauges))
        .execute(&self.hot)
        .await?;
        Ok(())
    }
}

/// Deliveries that wait without a lease: a step for each hook with waiting deliveries, and then as
/// many rows as are counted.
async fn sample_deliveries(
    connection: &mut Connection,
    now: Timestamp,
    gauges: &mut Gauges,
) -> Result<()> {
    let rows = sqlx::query(
        "-- postrider: gauges_deliveries
        WITH RECURSIVE waiting AS (
            (SELECT slot, hook_id, next_attempt_at FROM postrider_deliveries
             WHERE lease_token IS NULL ORDER BY slot, hook_id, next_attempt_at LIMIT 1)
            UNION ALL
            SELECT next.slot, next.hook_id, next.next_attempt_at
            FROM waiting AS w CROSS JOIN LATERAL (
                SELECT slot, hook_id, next_attempt_at FROM postrider_deliveries AS d
                WHERE d.lease_token IS NULL AND (d.slot, d.hook_id) > (w.slot, w.hook_id)
                ORDER BY slot, hook_id, next_attempt_at LIMIT 1
            ) AS next
        ), of_hooks AS MATERIALIZED (
            SELECT w.slot, w.hook_id, w.next_attempt_at AS first_at,
                   CASE WHEN h.status <> 'active' THEN 'held'
                        WHEN h.limited OR health.phase IS NOT NULL THEN 'gated'
                        ELSE 'free' END AS kind
            FROM waiting AS w
            JOIN postrider_hooks AS h ON h.id = w.hook_id AND h.deleted_at IS NULL
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = w.hook_id
        )
        SELECT k.kind,
               (SELECT min(first_at) FROM of_hooks
                WHERE kind = k.kind AND first_at <= $1) AS first_at,
               (SELECT count(*) FROM (
                    SELECT FROM of_hooks AS o CROSS JOIN LATERAL (
                        SELECT FROM postrider_deliveries AS d
                        WHERE d.slot = o.slot AND d.hook_id = o.hook_id
                          AND d.lease_token IS NULL AND d.next_attempt_at <= $1
                        ORDER BY d.next_attempt_at LIMIT $2
                    ) AS d
                    WHERE o.kind = k.kind AND o.first_at <= $1 LIMIT $2
                ) AS due) AS due,
               (SELECT count(*) FROM (
                    SELECT FROM of_hooks AS o CROSS JOIN LATERAL (
                        SELECT FROM postrider_deliveries AS d
                        WHERE d.slot = o.slot AND d.hook_id = o.hook_id
                          AND d.lease_token IS NULL AND d.next_attempt_at > $1
                        ORDER BY d.next_attempt_at LIMIT $2
                    ) AS d
                    WHERE o.kind = k.kind LIMIT $2
                ) AS later) AS later
        FROM (VALUES ('free'), ('gated'), ('held')) AS k (kind)",
    )
    .bind(now)
    .bind(i64::from(GAUGES_COUNTED))
    .try_map(|row: PgRow| WaitingRow::read(&row))
    .fetch_all(connection)
    .await?;
    gauges.set_waiting(rows, now);
    Ok(())
}

/// Rows of the outbox from `from` on, and leased deliveries.
///
/// An earlier row was committed late while dead rows pile up. The search for such rows finds it
/// soon, so it is not looked for here as well.
async fn sample_queues(
    connection: &mut Connection,
    now: Timestamp,
    from: i64,
    gauges: &mut Gauges,
) -> Result<()> {
    let (first, outbox, leased, started): (Option<Timestamp>, i64, i64, i64) = sqlx::query_as(
        "-- postrider: gauges_queues
        WITH slots AS MATERIALIZED (
            SELECT n::smallint AS slot
            FROM generate_series(0, (SELECT slots - 1 FROM postrider_meta WHERE singleton))
                AS s (n)
        )
        SELECT (SELECT min(head.created_at) FROM slots AS s CROSS JOIN LATERAL (
                    SELECT created_at FROM postrider_outbox
                    WHERE slot = s.slot AND seq >= $2 ORDER BY seq LIMIT 1
                ) AS head),
               (SELECT count(*) FROM (
                    SELECT FROM slots AS s CROSS JOIN LATERAL (
                        SELECT FROM postrider_outbox
                        WHERE slot = s.slot AND seq >= $2 ORDER BY seq LIMIT $1
                    ) AS o LIMIT $1
                ) AS o),
               (SELECT count(*) FROM (
                    SELECT FROM postrider_deliveries WHERE lease_token IS NOT NULL
                    ORDER BY slot, lease_expires_at LIMIT $1) AS d),
               (SELECT coalesce(sum(open), 0) FROM (
                    SELECT open FROM postrider_leases
                    ORDER BY token DESC LIMIT $1) AS l)",
    )
    .bind(i64::from(GAUGES_COUNTED))
    .bind(from)
    .fetch_one(connection)
    .await?;
    gauges.outbox = Waiting::since(outbox, first, now);
    gauges.leased = capped(leased + started);
    Ok(())
}

async fn sample_sizes(connection: &mut Connection, gauges: &mut Gauges) -> Result<()> {
    let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(
        "-- postrider: gauges_sizes
        SELECT pg_database_size(current_database()), name,
               coalesce(pg_total_relation_size(to_regclass(name)), 0),
               coalesce(pg_stat_get_dead_tuples(to_regclass(name)), 0)
        FROM unnest($1::text[]) AS name ORDER BY name",
    )
    .bind(&QUEUE_TABLES[..])
    .fetch_all(connection)
    .await?;
    for (database, table, bytes, dead) in rows {
        gauges.database_bytes = unsigned(database);
        gauges.tables.push(TableGauge {
            table,
            bytes: unsigned(bytes),
            dead_rows: Some(unsigned(dead)),
        });
    }
    Ok(())
}

/// The oldest snapshot, transaction, prepared transaction or replication slot that keeps vacuum
/// from removing rows. Vacuum itself does not count.
async fn sample_snapshot(connection: &mut Connection) -> Result<SnapshotGauge> {
    let (seconds, transactions): (f64, i64) = sqlx::query_as(
        "-- postrider: gauges_snapshot
        SELECT coalesce(extract(epoch FROM max(clock_timestamp() - since)), 0)::float8,
               coalesce(max(held), 0)::bigint
        FROM (
            SELECT xact_start AS since, greatest(age(backend_xmin), age(backend_xid)) AS held
            FROM pg_stat_activity
            WHERE (datname = current_database() OR backend_type = 'walsender')
              AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
              AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
            UNION ALL
            SELECT prepared, age(transaction) FROM pg_prepared_xacts
            WHERE database = current_database()
            UNION ALL
            SELECT NULL, age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL
        ) AS holders",
    )
    .fetch_one(connection)
    .await?;
    Ok(SnapshotGauge {
        seconds: seconds.max(0.0),
        transactions: unsigned(transactions),
    })
}

/// The partitions of history, whose names end with their days.
async fn sample_history(
    connection: &mut Connection,
    now: Timestamp,
    gauges: &mut Gauges,
) -> Result<()> {
    type Row = (String, i64, i64, Option<NaiveDate>, Option<NaiveDate>);
    let rows: Vec<Row> = sqlx::query_as(
        "-- postrider: gauges_history
        SELECT p.name, count(i.inhrelid),
               coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::bigint,
               min(to_date(substring(c.relname FROM '_(\\d{8})$'), 'YYYYMMDD')),
               max(to_date(substring(c.relname FROM '_(\\d{8})$'), 'YYYYMMDD'))
        FROM unnest($1::text[]) AS p (name)
        LEFT JOIN pg_inherits AS i ON i.inhparent = to_regclass(p.name)
        LEFT JOIN pg_class AS c ON c.oid = i.inhrelid
        GROUP BY p.name ORDER BY p.name",
    )
    .bind(&PARTITIONED[..])
    .fetch_all(connection)
    .await?;
    let today = now.date_naive();
    for (table, count, bytes, first, last) in rows {
        if let Some(first) = first.filter(|first| *first <= today) {
            let age = now - first.and_time(NaiveTime::MIN).and_utc();
            gauges.history_seconds = gauges.history_seconds.max(age.as_seconds_f64());
        }
        let ahead = last.map_or(-1, |last| (last - today).num_days());
        gauges.partitions.push(PartitionGauge {
            table: table.clone(),
            count: u32::try_from(count).unwrap_or_default(),
            days_ahead: i32::try_from(ahead).unwrap_or(i32::MAX),
        });
        gauges.tables.push(TableGauge {
            table,
            bytes: unsigned(bytes),
            dead_rows: None,
        });
    }
    Ok(())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
