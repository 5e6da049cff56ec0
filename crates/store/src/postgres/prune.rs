//! What is past its retention goes: whole partitions, one process at a time.
//!
//! Nothing here keeps traffic waiting. A partition is detached concurrently, which waits for
//! those who use its parent and lets others pass; then it is nobody's and is dropped. Before its
//! events go, what still refers to them is ended. The partitions of attempts and of what ended
//! go after those of the events, because a delivery that is sent again writes to its day.
//!
//! A partition that is to go is marked by a comment first, so that one which was detached by a
//! process that then died is known, and one that a person detached is not touched.

use super::PostgresStore;
use super::expire::expire;
use super::partitions::{Partition, State, partitions};
use crate::retention::{Bounds, Looks, in_flight};
use crate::{Pruned, Result, Retention};
use postrider_core::Timestamp;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Encode, PgConnection, Postgres, Type};
use std::collections::BTreeSet;

/// The key of the lock of the process whose turn it is: the bytes of `postpast`.
const PRUNE_LOCK: i64 = i64::from_be_bytes(*b"postpast");

/// What waits longer is tried again at the next turn.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "10min"),
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
    // What waits for a lock is told once by the answer, not each time as a slow statement.
    let options = store.options.clone().options(SETTINGS);
    let options = options.disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await?;
    let mine: bool = sqlx::query_scalar(
        "-- postrider: prune_turn
        SELECT pg_try_advisory_lock($1)",
    )
    .bind(PRUNE_LOCK)
    .fetch_one(&mut connection)
    .await?;
    let mut pruned = Pruned::default();
    if mine {
        let mut turn = PruneTurn {
            connection: &mut connection,
            bounds: Bounds::of(keep, now),
            now,
            batch,
            pruned: &mut pruned,
        };
        turn.take().await?;
        sqlx::query(
            "-- postrider: prune_turn_ends
            SELECT pg_advisory_unlock($1)",
        )
        .bind(PRUNE_LOCK)
        .execute(&mut connection)
        .await?;
    }
    // A turn that failed ends with its connection; the server notices by itself.
    connection.close().await.ok();
    Ok(pruned)
}

/// The turn of one process.
struct PruneTurn<'a> {
    connection: &'a mut PgConnection,
    bounds: Bounds,
    now: Timestamp,
    /// Rows written or looked at in one statement at most.
    batch: u32,
    pruned: &'a mut Pruned,
}

impl PruneTurn<'_> {
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

    /// Whether the clock may be relied on for what cannot be undone. Keeps that it was looked at.
    async fn believes_the_clock(&mut self) -> Result<bool> {
        let (last, doubted_until) = sqlx::query_as(
            "-- postrider: prune_looks
            SELECT pruned_at, prune_from FROM postrider_meta WHERE singleton",
        )
        .fetch_one(&mut *self.connection)
        .await?;
        let before = Looks {
            last,
            doubted_until,
        };
        let looks = before.after(self.now);
        let kept = sqlx::query(
            "-- postrider: prune_look
            UPDATE postrider_meta SET pruned_at = $1, prune_from = $2 WHERE singleton",
        )
        .bind(looks.last)
        .bind(looks.doubted_until)
        .execute(&mut *self.connection)
        .await;
        match (kept, looks.doubt()) {
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

    /// Ends what refers to events that are past, detaches their partitions and drops them.
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
        // A delivery may have been sent again until its event could not be found any more.
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

    /// Ends deliveries of events that are past. Returns whether none is left.
    async fn expire(&mut self) -> Result<bool> {
        let done = expire(self.connection, self.bounds.events, self.now, self.batch).await?;
        self.pruned.expired += done.ended;
        if done.in_flight > 0 {
            self.pruned.waits(in_flight(done.in_flight));
        }
        Ok(done.in_flight == 0)
    }

    /// Empties partitions of attempts whose events are kept for longer. They stay: what is sent
    /// again writes to them.
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

    /// Drops the partitions of attempts, and of what ended, of days whose events are gone.
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

    /// Whether a partition has a row as late as this.
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

    /// Finishes what was begun to be detached, by us or by a person. Returns whether others can
    /// be detached now: one at a time can be, and none while there is a default partition.
    async fn may_detach(&mut self, all: &[Partition]) -> Result<bool> {
        for part in all.iter().filter(|part| part.state == State::Leaving) {
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

    /// Marks a partition and takes it from its parent. `false` when somebody uses the parent
    /// for long: what was begun is finished at a later turn.
    async fn detach(&mut self, part: &Partition) -> Result<bool> {
        let mark = part.mark();
        if !self.patiently(&mark).await? {
            return Ok(false);
        }
        self.patiently(&part.detach()).await
    }

    /// Takes the mark from a partition that was to go and is kept after all, because the
    /// retention was made longer: a person may detach it, and then it is theirs.
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

    /// Takes all rows of a partition away, unless somebody uses it at this moment: nobody is to
    /// wait behind us.
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

    /// Runs a statement that needs a lock. `false` when it could not have it in time.
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

/// The slots that rows may lie in.
pub(super) async fn slots(connection: &mut PgConnection) -> Result<Vec<i16>> {
    let slots = sqlx::query_scalar(
        "-- postrider: prune_slots
        SELECT generate_series(0, slots - 1)::smallint FROM postrider_meta WHERE singleton",
    )
    .fetch_all(connection)
    .await?;
    Ok(slots)
}

/// Whether a lock was not to be had in time, or only by undoing what somebody else does.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Whether something else depends on what was to be dropped.
fn is_needed(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.as_deref() == Some("2BP01")
}
