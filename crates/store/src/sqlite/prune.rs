//! Pruning: history past its retention is deleted in small batches, because applications wait for
//! each transaction.
//!
//! There are no partitions to drop: in SQLite a `day` is a column like any other. The remaining
//! deliveries of past events are ended before the events are deleted. Free pages are returned to
//! the file system a few at a time.

use super::SqliteStore;
use super::end_waiting::end_waiting;
use super::values::{day_number, day_of, micros, moment};
use crate::retention::{Bounds, PruneTimes, in_flight};
use crate::{Pruned, Result, Retention};
use postrider_core::{Reason, Timestamp};
use uuid::Uuid;

/// The largest number of rows deleted in one transaction: payloads may be large.
const ROWS_AT_ONCE: u32 = 500;

/// The largest number of free pages returned in one transaction.
const PAGES_AT_ONCE: u32 = 1_000;

/// See [`Maintenance::prune`](crate::Maintenance::prune).
pub(super) async fn prune(
    store: &SqliteStore,
    keep: &Retention,
    now: Timestamp,
    batch: u32,
) -> Result<Pruned> {
    let bounds = Bounds::of(keep, now);
    let batch = batch.min(ROWS_AT_ONCE);
    let (events, attempts) = (day_number(bounds.events), day_number(bounds.attempts));
    let mut pruned = Pruned::default();
    if let Some(doubt) = store.record_run(now).await?.doubt() {
        pruned.waits(doubt);
        return Ok(pruned);
    }
    let in_the_way = store.expire(events, now, batch, &mut pruned).await?;
    if in_the_way > 0 {
        pruned.waits(in_flight(in_the_way));
    } else {
        pruned.days = store.days_before("postrider_events", events).await?;
        store
            .delete(
                "-- postrider: prune_events
            DELETE FROM postrider_events WHERE rowid IN (
                SELECT rowid FROM postrider_events WHERE slot = 0 AND day < ?1 LIMIT ?2)",
                i64::from(events),
                batch,
            )
            .await?;
    }
    pruned.attempts = store.attempts(attempts, &bounds, batch).await?;
    // Events that stay keep their attempts.
    let gone = match in_the_way {
        0 => events,
        _ => 0,
    };
    store
        .delete(
            "-- postrider: prune_attempts_of_events
        DELETE FROM postrider_attempts WHERE rowid IN (
            SELECT rowid FROM postrider_attempts WHERE slot = 0 AND day < ?1 LIMIT ?2)",
            i64::from(gone),
            batch,
        )
        .await?;
    store.ended(&bounds, batch).await?;
    pruned.forgotten += store
        .delete(
            "-- postrider: prune_dedup
            DELETE FROM postrider_dedup WHERE (slot, account, key) IN (
                SELECT slot, account, key FROM postrider_dedup
                WHERE slot = 0 AND day < ?1 LIMIT ?2)",
            i64::from(events),
            batch,
        )
        .await?;
    pruned.forgotten += store
        .delete(
            "-- postrider: prune_rejected
            DELETE FROM postrider_rejected WHERE rowid IN (
                SELECT rowid FROM postrider_rejected
                WHERE slot = 0 AND rejected_at < ?1 LIMIT ?2)",
            micros(bounds.events_at),
            batch,
        )
        .await?;
    store.free_pages().await?;
    Ok(pruned)
}

impl SqliteStore {
    /// Records this run and its time.
    async fn record_run(&self, now: Timestamp) -> Result<PruneTimes> {
        let mut tx = self.writer.begin().await?;
        let (last, doubted_until): (Option<i64>, Option<i64>) = sqlx::query_as(
            "-- postrider: prune_times
            SELECT pruned_at, prune_from FROM postrider_meta",
        )
        .fetch_one(&mut *tx)
        .await?;
        let before = PruneTimes {
            last: last.map(moment),
            doubted_until: doubted_until.map(moment),
        };
        let times = before.after(now);
        sqlx::query(
            "-- postrider: prune_times_keep
            UPDATE postrider_meta SET pruned_at = ?1, prune_from = ?2",
        )
        .bind(times.last.map(micros))
        .bind(times.doubted_until.map(micros))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(times)
    }

    /// Ends deliveries of days before `first_kept` that are not leased; returns how many are.
    async fn expire(
        &self,
        first_kept: i32,
        now: Timestamp,
        batch: u32,
        pruned: &mut Pruned,
    ) -> Result<u64> {
        let leased: i64 = sqlx::query_scalar(
            "-- postrider: expire_leases
            SELECT (SELECT coalesce(sum(open), 0) FROM postrider_leases
                    WHERE slot = 0 AND day < ?1)
                + (SELECT count(*) FROM postrider_deliveries
                   WHERE slot = 0 AND day < ?1 AND lease_token IS NOT NULL)",
        )
        .bind(first_kept)
        .fetch_one(&self.readers)
        .await?;
        loop {
            // Found by a reader, so that the file is locked for the changes only.
            let found: Vec<Uuid> = sqlx::query_scalar(
                "-- postrider: expire_find
                SELECT id FROM postrider_deliveries
                WHERE slot = 0 AND day < ?1 AND lease_token IS NULL LIMIT ?2",
            )
            .bind(first_kept)
            .bind(batch)
            .fetch_all(&self.readers)
            .await?;
            let full = found.len() >= batch as usize;
            let mut tx = self.writer.begin().await?;
            pruned.expired += end_waiting(&mut tx, found, "expired", Reason::Expired, now).await?;
            tx.commit().await?;
            if !full {
                return Ok(leased.unsigned_abs());
            }
        }
    }

    /// Deletes the attempts of days whose latest attempt is past; returns those days.
    async fn attempts(
        &self,
        first_kept: i32,
        bounds: &Bounds,
        batch: u32,
    ) -> Result<Vec<chrono::NaiveDate>> {
        let mut gone = Vec::new();
        for day in self.days_before("postrider_attempts", first_kept).await? {
            let recent: i64 = sqlx::query_scalar(
                "-- postrider: prune_latest
                SELECT EXISTS (SELECT 1 FROM postrider_attempts
                               WHERE slot = 0 AND day = ?1 AND at >= ?2)",
            )
            .bind(day_number(day))
            .bind(micros(bounds.attempts_at))
            .fetch_one(&self.readers)
            .await?;
            if recent == 0 && day >= bounds.events {
                self.delete(
                    "-- postrider: prune_attempts
                    DELETE FROM postrider_attempts WHERE rowid IN (
                        SELECT rowid FROM postrider_attempts
                        WHERE slot = 0 AND day = ?1 LIMIT ?2)",
                    i64::from(day_number(day)),
                    batch,
                )
                .await?;
                gone.push(day);
            }
        }
        Ok(gone)
    }

    /// Deletes the records of ended deliveries of days whose latest end is past.
    async fn ended(&self, bounds: &Bounds, batch: u32) -> Result<()> {
        let first_kept = day_number(bounds.ended);
        for day in self.days_before("postrider_ended", first_kept).await? {
            let told: i64 = sqlx::query_scalar(
                "-- postrider: prune_latest
                SELECT EXISTS (SELECT 1 FROM postrider_ended
                               WHERE slot = 0 AND day = ?1 AND ended_at >= ?2)",
            )
            .bind(day_number(day))
            .bind(micros(bounds.ended_at))
            .fetch_one(&self.readers)
            .await?;
            if told == 0 {
                self.delete(
                    "-- postrider: prune_ended
                    DELETE FROM postrider_ended WHERE (slot, day, delivery_id) IN (
                        SELECT slot, day, delivery_id FROM postrider_ended
                        WHERE slot = 0 AND day = ?1 LIMIT ?2)",
                    i64::from(day_number(day)),
                    batch,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// The days before `first_kept` of which a table has rows, oldest first: a step in its key
    /// for each.
    async fn days_before(
        &self,
        table: &'static str,
        first_kept: i32,
    ) -> Result<Vec<chrono::NaiveDate>> {
        let days: Vec<i32> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- postrider: prune_days
            WITH RECURSIVE days (day) AS (
                SELECT (SELECT min(t.day) FROM {table} AS t WHERE t.slot = 0)
                UNION ALL
                SELECT (SELECT min(t.day) FROM {table} AS t
                        WHERE t.slot = 0 AND t.day > days.day)
                FROM days WHERE day < ?1
            )
            SELECT day FROM days WHERE day < ?1"
        )))
        .bind(first_kept)
        .fetch_all(&self.readers)
        .await?;
        Ok(days.into_iter().map(day_of).collect())
    }

    /// Runs a statement that deletes up to `batch` rows until there are no more, each time in a
    /// transaction of its own. Returns how many were deleted.
    async fn delete(&self, statement: &'static str, bound: i64, batch: u32) -> Result<u64> {
        let mut total = 0;
        loop {
            let mut tx = self.writer.begin().await?;
            let done = sqlx::query(statement)
                .bind(bound)
                .bind(batch)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            total += done.rows_affected();
            if done.rows_affected() < u64::from(batch) {
                return Ok(total);
            }
        }
    }

    /// Returns free pages to the file system.
    async fn free_pages(&self) -> Result<()> {
        loop {
            let mut tx = self.writer.begin().await?;
            let free: i64 = sqlx::query_scalar("PRAGMA freelist_count")
                .fetch_one(&mut *tx)
                .await?;
            if free > 0 {
                // One page is returned with each row that is fetched.
                sqlx::query(sqlx::AssertSqlSafe(format!(
                    "PRAGMA incremental_vacuum({PAGES_AT_ONCE})"
                )))
                .fetch_all(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            if free <= i64::from(PAGES_AT_ONCE) {
                return Ok(());
            }
        }
    }
}
