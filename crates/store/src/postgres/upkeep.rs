//! Upkeep: partitions are made in advance, and deliveries of deleted hooks are cancelled.
//!
//! A partition is made as a table of its own and then attached, which does not wait for readers
//! or writers; `CREATE TABLE … PARTITION OF` would block them all.

use super::PostgresStore;
use super::connection::Connection;
use super::erase::{erase, erase_rejected_of};
use super::idempotency::forget_calls;
use super::order_upkeep::keep_order;
use super::partitions::{Partition, partitions};
use super::prune::prune;
use crate::count::count;
use crate::{Erased, Maintenance, Pruned, Result, Retention, Upkeep};
use async_trait::async_trait;
use chrono::{Days, NaiveDate, TimeDelta};
use postrider_core::{EventId, Reason, Timestamp};
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use uuid::Uuid;

/// The tables that are partitioned by day.
pub(super) const PARTITIONED: [&str; 3] =
    ["postrider_events", "postrider_attempts", "postrider_ended"];

/// The number of days made in advance, in addition to today.
const DAYS_AHEAD: u64 = 3;

/// How long the row of a gate without an owner is kept.
const GATES_KEPT: TimeDelta = TimeDelta::hours(1);

/// The key of the advisory lock under which partitions are made: the bytes of `postride`.
const PARTITIONS_LOCK: i64 = i64::from_be_bytes(*b"postride");

#[async_trait]
impl Maintenance for PostgresStore {
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        let mut connection = self.calm.acquire().await?;
        if !self.knows_partitions(now) {
            self.make_partitions(&mut connection, now).await?;
        }
        let cancelled = cancel(&mut connection, now, limit).await?;
        let more_to_free = keep_order(self, &mut connection, now, limit).await?;
        forget_gates(&mut connection, now).await?;
        forget_calls(&mut connection, now).await?;
        Ok(Upkeep {
            cancelled,
            more: cancelled >= limit || more_to_free,
        })
    }

    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned> {
        prune(self, keep, now, batch).await
    }

    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased> {
        erase(self, events, now).await
    }

    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32> {
        erase_rejected_of(self, account, limit).await
    }
}

impl PostgresStore {
    fn knows_partitions(&self, now: Timestamp) -> bool {
        let known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days_ahead(now).iter().all(|day| known.contains(day))
    }

    /// Makes the partitions of today and the next days, unless they are there.
    pub(super) async fn make_partitions(
        &self,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Result<()> {
        let days = days_ahead(now);
        self.make_days(connection, &days).await?;
        let mut known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        *known = days.into_iter().collect();
        Ok(())
    }

    /// Makes the partitions of these days, unless they are there.
    pub(super) async fn make_days(
        &self,
        connection: &mut Connection,
        days: &[NaiveDate],
    ) -> Result<()> {
        if !missing_partitions(connection, days).await?.is_empty() {
            let mut tx = connection.begin().await?;
            sqlx::query(
                "-- postrider: partitions_lock
                SELECT pg_advisory_xact_lock($1)",
            )
            .bind(PARTITIONS_LOCK)
            .execute(&mut *tx)
            .await?;
            sqlx::raw_sql("SET LOCAL lock_timeout = '2s'")
                .execute(&mut *tx)
                .await?;
            for partition in missing_partitions(&mut tx, days).await? {
                sqlx::raw_sql(AssertSqlSafe(partition.statements()))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Makes the next run of upkeep look for missing partitions again.
    pub(super) fn forget_partitions(&self) {
        self.days
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn days_ahead(now: Timestamp) -> Vec<NaiveDate> {
    let today = now.date_naive();
    (0..=DAYS_AHEAD)
        .filter_map(|ahead| today.checked_add_days(Days::new(ahead)))
        .collect()
}

/// A partition that is to be made.
struct Missing {
    /// The parent's schema, quoted.
    schema: String,
    table: &'static str,
    day: NaiveDate,
}

impl Missing {
    fn statements(&self) -> String {
        let Self { schema, table, day } = self;
        let name = format!("{schema}.{table}_{}", day.format("%Y%m%d"));
        let next = day.checked_add_days(Days::new(1)).unwrap_or(*day);
        format!(
            "CREATE TABLE IF NOT EXISTS {name} (LIKE {schema}.{table} INCLUDING ALL);
            ALTER TABLE {schema}.{table} ATTACH PARTITION {name}
                FOR VALUES FROM ('{day}') TO ('{next}');"
        )
    }
}

/// Partitions made by hand, which upkeep neither makes nor drops.
pub(super) async fn made_by_hand(connection: &mut Connection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for table in PARTITIONED {
        let all = partitions(connection, table).await?;
        let odd = |part: &Partition| part.is_attached() && part.day.is_none();
        found.extend(all.into_iter().filter(odd).map(|part| part.name));
    }
    Ok(found)
}

/// The missing partitions of today and the next days.
pub(super) async fn missing_days(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<String>> {
    let missing = missing_partitions(connection, &days_ahead(now)).await?;
    let names = missing.iter();
    Ok(names
        .map(|partition| format!("{}_{}", partition.table, partition.day.format("%Y%m%d")))
        .collect())
}

async fn missing_partitions(
    connection: &mut Connection,
    days: &[NaiveDate],
) -> Result<Vec<Missing>> {
    let mut missing = Vec::new();
    for table in PARTITIONED {
        let Some(schema) = schema_of(connection, table).await? else {
            continue;
        };
        let there = partitions(connection, table).await?;
        let untaken = days
            .iter()
            .filter(|day| !there.iter().any(|p| p.takes(**day)));
        missing.extend(untaken.map(|day| Missing {
            schema: schema.clone(),
            table,
            day: *day,
        }));
    }
    Ok(missing)
}

/// The schema of a table, quoted.
async fn schema_of(connection: &mut Connection, table: &str) -> Result<Option<String>> {
    let schema = sqlx::query_scalar(
        "-- postrider: schema_of
        SELECT quote_ident(n.nspname) FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
    )
    .bind(table)
    .fetch_optional(connection)
    .await?;
    Ok(schema)
}

/// Deletes the rows of owners that vanished long ago.
async fn forget_gates(connection: &mut Connection, now: Timestamp) -> Result<()> {
    sqlx::query(
        "-- postrider: forget_gates
        DELETE FROM postrider_gates WHERE until < $1",
    )
    .bind(now - GATES_KEPT)
    .execute(connection)
    .await?;
    Ok(())
}

/// Cancels deliveries of deleted hooks that are not leased, at most `limit`.
async fn cancel(connection: &mut Connection, now: Timestamp, limit: u32) -> Result<u32> {
    let mut cancelled = 0;
    for (slot, hooks) in deleted_hooks_waiting(connection).await? {
        if cancelled >= limit {
            break;
        }
        let ended = sqlx::query(
            "-- postrider: cancel
            WITH doomed AS MATERIALIZED (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = ANY($2) AND lease_token IS NULL
                LIMIT $3 FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM postrider_deliveries
                WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM doomed))
                RETURNING day, id, event_id, hook_id, attempts
            )
            INSERT INTO postrider_ended
                (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
            SELECT $1, day, id, event_id, hook_id, 'cancelled', $4, attempts, $5 FROM gone
            ON CONFLICT (slot, day, delivery_id) DO UPDATE
            SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
                ended_at = excluded.ended_at",
        )
        .bind(slot)
        .bind(hooks)
        .bind(i64::from(limit - cancelled))
        .bind(Reason::HookDeleted.name())
        .bind(now)
        .execute(&mut *connection)
        .await?;
        cancelled += count(ended.rows_affected());
    }
    Ok(cancelled)
}

/// Deleted hooks with waiting deliveries, by slot. The cost is a step for each hook with waiting
/// deliveries; hooks deleted long ago cost nothing.
async fn deleted_hooks_waiting(connection: &mut Connection) -> Result<BTreeMap<i16, Vec<Uuid>>> {
    let rows: Vec<(i16, Uuid)> = sqlx::query_as(
        "-- postrider: cancel_hooks
        WITH RECURSIVE waiting AS (
            (SELECT slot, hook_id FROM postrider_deliveries WHERE lease_token IS NULL
             ORDER BY slot, hook_id LIMIT 1)
            UNION ALL
            SELECT next.slot, next.hook_id FROM waiting AS w CROSS JOIN LATERAL (
                SELECT slot, hook_id FROM postrider_deliveries AS d
                WHERE d.lease_token IS NULL AND (d.slot, d.hook_id) > (w.slot, w.hook_id)
                ORDER BY slot, hook_id LIMIT 1
            ) AS next
        )
        SELECT w.slot, w.hook_id
        FROM waiting AS w JOIN postrider_hooks AS h ON h.id = w.hook_id
        WHERE h.deleted_at IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let mut by_slot: BTreeMap<i16, Vec<Uuid>> = BTreeMap::new();
    for (slot, hook) in rows {
        by_slot.entry(slot).or_default().push(hook);
    }
    Ok(by_slot)
}
