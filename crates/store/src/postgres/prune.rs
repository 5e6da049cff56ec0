//! Pruning: history past its retention is dropped by whole partitions, one process at a time.
//!
//! Pruning blocks no traffic. A partition is detached concurrently, which waits for the
//! transactions that use its parent and blocks no others; then it is unused and dropped. Before
//! events are dropped, their remaining deliveries are ended. The partitions of attempts and of
//! ended deliveries are dropped after those of the events, because a delivery that is sent again
//! writes to its day.
//!
//! A partition is marked with a comment before it is detached. So one that a process detached
//! before it died is recognized, and one that a person detached is left alone.

use super::connection::Connection;
use super::expire::expire;
use super::partitions::{Partition, PartitionState, partitions};
use super::servers::Setting;
use super::{KEEP_ALIVE, PostgresStore};
use crate::retention::{Bounds, PruneTimes, in_flight};
use crate::{Pruned, Result, Retention};
use postrider_core::Timestamp;
use sqlx::{AssertSqlSafe, Encode, Postgres, Type};
use std::collections::BTreeSet;

/// The key of the advisory lock of the process that prunes: the bytes of `postpast`.
const PRUNE_LOCK: i64 = i64::from_be_bytes(*b"postpast");

/// The limits of its session. What exceeds them is tried again at the next run.
const SETTINGS: [Setting; 3] = [
    ("lock_timeout", "1s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("jit", "off"),
];

const EVENTS: &str = "postrider_events";
const ATTEMPTS: &str = "postrider_attempts";
const ENDED: &str = "postrider_ended";

/// See [`Maintenance::prune`](crate::Maintenance::prune).
pub(super) async fn prune(
    store: &PostgresStore,
    keep: &Retention,
    now: Timestamp,
    batch: u32,
) -> Result<Pruned> {
    // The result names the partitions that are locked; slow statements are not logged as well.
    let statement = store.tuning.prune_statement;
    let timeout = ("statement_timeout", format!("{}ms", statement.as_millis()));
    let settings = store.servers.with(&KEEP_ALIVE).with(&SETTINGS);
    let servers = settings.with(&[timeout]).without_logging();
    let bound = statement + store.tuning.margin;
    let mut connection = store.connect_to(&servers, Some(bound)).await?;
    let mine: bool = sqlx::query_scalar(
        "-- postrider: prune_run
        SELECT pg_try_advisory_lock($1)",
    )
    .bind(PRUNE_LOCK)
    .fetch_one(&mut connection)
    .await?;
    let mut pruned = Pruned::default();
    if mine {
        let mut run = PruneRun {
            connection: &mut connection,
            bounds: Bounds::of(keep, now),
            now,
            batch,
            pruned: &mut pruned,
        };
        run.take().await?;
        sqlx::query(
            "-- postrider: prune_run_ends
            SELECT pg_advisory_unlock($1)",
        )
        .bind(PRUNE_LOCK)
        .execute(&mut connection)
        .await?;
    }
    // A failed run ends with its connection, which releases the lock.
    connection.close().await;
    Ok(pruned)
}

/// One run of pruning, by the process that holds the lock.
struct PruneRun<'a> {
    connection: &'a mut Connection,
    bounds: Bounds,
    now: Timestamp,
    /// The largest number of rows read or written by one statement.
    batch: u32,
    pruned: &'a mut Pruned,
}

impl PruneRun<'_> {
    async fn take(&mut self) -> Result<()> {
        if !self.believes_the_clock().await? {
            return Ok(());
        }
        self.events().await?;
        self.attempts_before_their_events().await?;
        self.attempts_and_ended().await?;
        for slot in slots(self.connection).await? {
            self.forget(slot).await?;
        }
        Ok(())
    }

    /// Whether the clock can be trusted for what cannot be undone. Records this run.
    async fn believes_the_clock(&mut self) -> Result<bool> {
        let (last, doubted_until) = sqlx::query_as(
            "-- postrider: prune_times
            SELECT pruned_at, prune_from FROM postrider_meta WHERE singleton",
        )
        .fetch_one(&mut *self.connection)
        .await?;
        let before = PruneTimes {
            last,
            doubted_until,
        };
        let times = before.after(self.now);
        let kept = sqlx::query(
            "-- postrider: prune_times_keep
            UPDATE postrider_meta SET pruned_at = $1, prune_from = $2 WHERE singleton",
        )
        .bind(times.last)
        .bind(times.doubted_until)
        .execute(&mut *self.connection)
        .await;
        match (kept, times.doubt()) {
            (Ok(_), None) => Ok(true),
            (Ok(_), Some(doubt)) => {
                self.pruned.waits(doubt);
                Ok(false)
            }
            (Err(error), _) if is_locked(&error) => {
                self.pruned
                    .waits("a transaction that changes a hook has been open for long");
                Ok(false)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Ends the remaining deliveries of past events, then detaches and drops the partitions.
    async fn events(&mut self) -> Result<()> {
        let first_kept = self.bounds.events;
        let all = partitions(self.connection, EVENTS).await?;
        let past = |part: &Partition| part.is_attached() && part.is_before(first_kept);
        if self.may_detach(&all).await? {
            if all.iter().any(past) && !self.expire().await? {
                return Ok(());
            }
            for part in &all {
                match past(part) {
                    true if !self.detach(part).await? => break,
                    true => {}
                    false => self.keep(part).await?,
                }
            }
        }
        let all = partitions(self.connection, EVENTS).await?;
        let gone: Vec<_> = all.iter().filter(|part| part.is_marked_alone()).collect();
        let Some(newest) = gone.iter().filter_map(|part| part.day).max() else {
            return Ok(());
        };
        // A delivery may have been sent again as long as its event could be found.
        self.bounds.events = self.bounds.events.max(newest.succ_opt().unwrap_or(newest));
        if !self.expire().await? {
            return Ok(());
        }
        for part in gone {
            if self.drop_table(part).await? {
                self.pruned.days.extend(part.day);
            }
        }
        Ok(())
    }

    /// Ends deliveries of past events. Returns whether none is left.
    async fn expire(&mut self) -> Result<bool> {
        let done = expire(self.connection, self.bounds.events, self.now, self.batch).await?;
        self.pruned.expired += done.ended;
        if done.in_flight > 0 {
            self.pruned.waits(in_flight(done.in_flight));
        }
        Ok(done.in_flight == 0)
    }

    /// Empties partitions of attempts whose events are kept longer. The partitions stay:
    /// deliveries sent again write to them.
    async fn attempts_before_their_events(&mut self) -> Result<()> {
        for part in partitions(self.connection, ATTEMPTS).await? {
            let past = part.is_attached() && part.is_before(self.bounds.attempts);
            let gone = part.is_before(self.bounds.events);
            let due = past && !gone && part.bytes > 0;
            if due && !self.has_since(&part, "at", self.bounds.attempts_at).await? {
                self.empty(&part).await?;
            }
        }
        Ok(())
    }

    /// Drops the partitions of attempts and of ended deliveries of days whose events are gone.
    async fn attempts_and_ended(&mut self) -> Result<()> {
        let events = partitions(self.connection, EVENTS).await?;
        let events: BTreeSet<_> = events.into_iter().filter_map(|part| part.day).collect();
        for (table, first_kept) in [(ATTEMPTS, self.bounds.events), (ENDED, self.bounds.ended)] {
            let all = partitions(self.connection, table).await?;
            let mut free = self.may_detach(&all).await?;
            for part in &all {
                if part.is_attached() {
                    let past = part.is_before(first_kept)
                        && part.day.is_none_or(|day| !events.contains(&day));
                    if !past {
                        self.keep(part).await?;
                        continue;
                    }
                    let told = table == ENDED
                        && self
                            .has_since(part, "ended_at", self.bounds.ended_at)
                            .await?;
                    if told || !free {
                        continue;
                    }
                    free = self.detach(part).await?;
                    if !free {
                        continue;
                    }
                } else if !part.is_marked_alone() {
                    continue;
                }
                self.drop_table(part).await?;
            }
        }
        Ok(())
    }

    /// Whether a partition has a row of this time or later.
    async fn has_since(&mut self, part: &Partition, column: &str, at: Timestamp) -> Result<bool> {
        let table = &part.name;
        let found = sqlx::query_scalar(AssertSqlSafe(format!(
            "-- postrider: prune_latest
            SELECT EXISTS (SELECT FROM {table} WHERE {column} >= $1)"
        )))
        .bind(at)
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(found)
    }

    /// Completes a detachment that was begun earlier, also by a person. Returns whether another
    /// partition can be detached now: only one at a time can, and none while there is a default
    /// partition.
    async fn may_detach(&mut self, all: &[Partition]) -> Result<bool> {
        for part in all
            .iter()
            .filter(|part| part.state == PartitionState::Leaving)
        {
            if !self.patiently(&part.finish_detaching()).await? {
                return Ok(false);
            }
        }
        if let Some(part) = all.iter().find(|part| part.is_default()) {
            self.pruned.waits(format!(
                "the default partition {} keeps all others from being detached beside the \
                 traffic: move its rows away and drop it",
                part.name
            ));
            return Ok(false);
        }
        Ok(true)
    }

    /// Marks a partition and detaches it. `false` if a long transaction uses the parent: a later
    /// run completes the detachment.
    async fn detach(&mut self, part: &Partition) -> Result<bool> {
        let mark = part.mark();
        if !self.patiently(&mark).await? {
            return Ok(false);
        }
        self.patiently(&part.detach()).await
    }

    /// Removes the mark of a partition that is kept after all, because the retention was made
    /// longer. If a person detaches it later, it is left alone.
    async fn keep(&mut self, part: &Partition) -> Result<()> {
        if part.is_marked_attached() {
            self.patiently(&part.unmark()).await?;
        }
        Ok(())
    }

    async fn drop_table(&mut self, part: &Partition) -> Result<bool> {
        let sql = format!("-- postrider: prune_drop\nDROP TABLE {}", part.name);
        self.patiently(&sql).await
    }

    /// Deletes all rows of a partition, unless it is in use at this moment: nobody may be blocked
    /// by pruning.
    async fn empty(&mut self, part: &Partition) -> Result<()> {
        let table = &part.name;
        let sql = format!(
            "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT; TRUNCATE {table}; COMMIT"
        );
        if self.patiently(&sql).await? {
            self.pruned.attempts.extend(part.day);
        } else {
            sqlx::raw_sql("ROLLBACK")
                .execute(&mut *self.connection)
                .await?;
        }
        Ok(())
    }

    /// Runs a statement that needs a lock. `false` if the lock was not available in time.
    async fn patiently(&mut self, sql: &str) -> Result<bool> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *self.connection)
            .await;
        match ran {
            Ok(_) => Ok(true),
            Err(error) if is_locked(&error) => {
                self.pruned.waits(
                    "a transaction that has been open for long reads what is past its retention: \
                     it goes when that transaction has ended (`postrider check` names the oldest)",
                );
                Ok(false)
            }
            Err(error) if is_needed(&error) => {
                self.pruned.waits(format!(
                    "something that was made by hand, such as a view, needs what is past its \
                     retention: {error}"
                ));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes deduplication keys of days that are past, and rejected rows.
    async fn forget(&mut self, slot: i16) -> Result<()> {
        let keys = "-- postrider: prune_dedup
            DELETE FROM postrider_dedup
            WHERE slot = $1 AND ctid = ANY(ARRAY(
                SELECT ctid FROM postrider_dedup WHERE slot = $1 AND day < $2
                LIMIT $3 FOR UPDATE SKIP LOCKED
            ))";
        let rejected = "-- postrider: prune_rejected
            DELETE FROM postrider_rejected
            WHERE slot = $1 AND ctid = ANY(ARRAY(
                SELECT ctid FROM postrider_rejected WHERE slot = $1 AND rejected_at < $2
                LIMIT $3 FOR UPDATE SKIP LOCKED
            ))";
        self.delete_before(keys, slot, self.bounds.events).await?;
        self.delete_before(rejected, slot, self.bounds.events_at)
            .await
    }

    /// Runs a statement that deletes up to a batch of rows until there are no more.
    async fn delete_before<T>(&mut self, statement: &'static str, slot: i16, bound: T) -> Result<()>
    where
        T: for<'q> Encode<'q, Postgres> + Type<Postgres> + Copy + Send + 'static,
    {
        loop {
            let done = sqlx::query(statement)
                .bind(slot)
                .bind(bound)
                .bind(i64::from(self.batch))
                .execute(&mut *self.connection)
                .await?;
            self.pruned.forgotten += done.rows_affected();
            if done.rows_affected() < u64::from(self.batch) {
                return Ok(());
            }
        }
    }
}

/// All slots.
pub(super) async fn slots(connection: &mut Connection) -> Result<Vec<i16>> {
    let slots = sqlx::query_scalar(
        "-- postrider: prune_slots
        SELECT generate_series(0, slots - 1)::smallint FROM postrider_meta WHERE singleton",
    )
    .fetch_all(connection)
    .await?;
    Ok(slots)
}

/// Whether a lock was not available in time, or waiting for it was a deadlock.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Whether another object depends on the one to be dropped.
fn is_needed(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.as_deref() == Some("2BP01")
}
