//! Events in, and out again as deliveries.
//!
//! A fan-out is one transaction: what it reads of the outbox and of the hooks cannot change
//! until the rows have left the outbox and their deliveries stand. A payload is read once and
//! copied inside the database; it never travels back.

use super::SqliteStore;
use super::idempotency;
use super::lease_group::insert_group;
use super::outbox_rows::{Verdict, kept_id, read_rows};
use super::values::{day_number, micros, push_number, rows};
use crate::count::count;
use crate::error::words;
use crate::fan_out::{OutboxRow, Plan, plan, repeated_in_batch};
use crate::{
    EnqueuedOnce, Error, FanOutRequest, FanOutResult, HookCache, Idempotency, Outbox, Peek, Result,
};
use async_trait::async_trait;
use postrider_core::{EventId, NewEvent, Timestamp};
use sqlx::SqliteConnection;
use std::collections::HashSet;
use std::sync::Arc;

/// A batch, sorted by the decision about each row.
struct Sorted {
    /// The rows that become events, and more that stay.
    kept: Vec<OutboxRow>,
    /// Rows that cannot be accepted: `seq`, the id they are kept under, and why.
    rejected: Vec<(i64, EventId, String)>,
    /// Rows whose key was seen before, by `seq`.
    duplicates: Vec<i64>,
}

#[async_trait]
impl Outbox for SqliteStore {
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>> {
        for event in events {
            event.check()?;
        }
        let mut tx = self.writer.begin().await?;
        let ids = postrider_producer::sqlite::enqueue_many(&mut tx, events).await?;
        tx.commit().await?;
        Ok(ids)
    }

    async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce> {
        idempotency::enqueue_once(self, call, events, now).await
    }

    async fn peek(&self) -> Result<Peek> {
        let mut connection = self.readers.acquire().await?;
        let (queued, hooks_version): (bool, i64) = sqlx::query_as(
            "-- postrider: peek
            SELECT EXISTS (SELECT 1 FROM postrider_outbox), hooks_version FROM postrider_meta",
        )
        .fetch_one(&mut *connection)
        .await?;
        self.hooks_at(&mut connection, hooks_version).await?;
        Ok(Peek {
            outbox: if queued { vec![0] } else { vec![] },
            hooks_version,
        })
    }

    /// Fans a batch out. When the database refuses it, half of it, and so on; a row that is
    /// refused alone is moved to `postrider_rejected`.
    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult> {
        if request.slot != 0 {
            return Ok(FanOutResult::default());
        }
        let mut max_events = request.max_events.max(1);
        loop {
            match self.take_rows(&request, max_events).await {
                Ok(mut done) => {
                    done.more |= max_events < request.max_events;
                    return Ok(done);
                }
                Err(Error::Refused(error)) if max_events == 1 => {
                    return self.reject_first(&request, &error).await;
                }
                Err(Error::Refused(_)) => max_events /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    fn hook_cache(&self) -> Arc<HookCache> {
        self.cache.get()
    }
}

impl SqliteStore {
    async fn take_rows(&self, request: &FanOutRequest, max_events: u32) -> Result<FanOutResult> {
        let mut tx = self.writer.begin().await?;
        let Some(head) = Head::read(&mut tx, request, max_events).await? else {
            return Ok(FanOutResult::default());
        };
        let cache = self.hooks_at(&mut tx, head.hooks_version).await?;
        let batch = read_rows(&mut tx, head.last_seq, request.now, request.deliver_before).await?;
        let read = batch.len();
        let mut sorted = sort(&mut tx, batch, request).await?;
        let plan = plan(&sorted.kept, &cache, request);
        // Rows from the first one that the plan does not cover stay in the outbox.
        let uncovered = sorted.kept.get(plan.covered);
        let last_seq = uncovered.map_or(head.last_seq, |row| row.seq - 1);
        sorted.kept.truncate(plan.covered);
        sorted.rejected.retain(|(seq, ..)| *seq <= last_seq);
        sorted.duplicates.retain(|seq| *seq <= last_seq);

        reject(&mut tx, &sorted.rejected, request.now).await?;
        keep_keys(&mut tx, &sorted.kept, request.now).await?;
        keep_events(&mut tx, &sorted.kept, request.now).await?;
        make_deliveries(&mut tx, &plan, request).await?;
        insert_group(&mut tx, &plan, request).await?;
        delete_through(&mut tx, last_seq).await?;
        tx.commit().await?;

        let taken = sorted.kept.len() + sorted.rejected.len() + sorted.duplicates.len();
        Ok(FanOutResult {
            events: count(sorted.kept.len()),
            deliveries: count(plan.deliveries.len()),
            duplicates: count(sorted.duplicates.len()),
            rejected: count(sorted.rejected.len()),
            filter_problems: plan.filter_problems,
            waiting: plan.waiting(request.now),
            batching: plan.batching(),
            started: plan.started(request),
            more: head.queued >= max_events || count(read) < head.queued || taken < read,
        })
    }

    /// Moves the first row of the outbox out of the way, which the database refuses to keep.
    async fn reject_first(
        &self,
        request: &FanOutRequest,
        error: &sqlx::Error,
    ) -> Result<FanOutResult> {
        let mut tx = self.writer.begin().await?;
        let (seq, id): (i64, Vec<u8>) = sqlx::query_as(
            "-- postrider: fan_out_first
            SELECT seq, CAST(id AS BLOB) FROM postrider_outbox ORDER BY seq LIMIT 1",
        )
        .fetch_one(&mut *tx)
        .await?;
        let id = kept_id(&id, request.now);
        reject(&mut tx, &[(seq, id, words(error))], request.now).await?;
        delete_through(&mut tx, seq).await?;
        tx.commit().await?;
        Ok(FanOutResult {
            rejected: 1,
            more: true,
            ..FanOutResult::default()
        })
    }
}

/// The rows at the head of the outbox.
struct Head {
    /// Their number, at most that of the request.
    queued: u32,
    /// The last that belongs to the batch.
    last_seq: i64,
    hooks_version: i64,
}

impl Head {
    async fn read(
        tx: &mut SqliteConnection,
        request: &FanOutRequest,
        max_events: u32,
    ) -> Result<Option<Self>> {
        type Columns = (u32, Option<i64>, Option<i64>, Option<i64>);
        let (queued, last_seq, bytes, hooks_version): Columns = sqlx::query_as(
            "-- postrider: fan_out_head
            SELECT count(*), max(seq), sum(size), (SELECT hooks_version FROM postrider_meta)
            FROM (SELECT seq, octet_length(payload) AS size
                FROM postrider_outbox ORDER BY seq LIMIT ?1)",
        )
        .bind(max_events)
        .fetch_one(&mut *tx)
        .await?;
        let (Some(mut last_seq), Some(bytes)) = (last_seq, bytes) else {
            return Ok(None);
        };
        // A missing row reads as NULL, which would pass for version 0: no hooks at all.
        let hooks_version = hooks_version.ok_or(sqlx::Error::RowNotFound)?;
        let max_bytes = i64::try_from(request.max_bytes).unwrap_or(i64::MAX);
        if bytes > max_bytes {
            last_seq = sqlx::query_scalar(
                "-- postrider: fan_out_bound
                SELECT max(seq) FROM (
                    SELECT seq, size,
                        sum(size) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS upto
                    FROM (SELECT seq, octet_length(payload) AS size
                        FROM postrider_outbox ORDER BY seq LIMIT ?1)
                ) WHERE upto <= ?2 OR upto = size",
            )
            .bind(max_events)
            .bind(max_bytes)
            .fetch_one(tx)
            .await?;
        }
        Ok(Some(Self {
            queued,
            last_seq,
            hooks_version,
        }))
    }
}

/// Sorts the rows into those that become events and those that are rejected or repeated.
async fn sort(
    tx: &mut SqliteConnection,
    batch: Vec<Verdict>,
    request: &FanOutRequest,
) -> Result<Sorted> {
    let mut sorted = Sorted {
        kept: Vec::with_capacity(batch.len()),
        rejected: Vec::new(),
        duplicates: Vec::new(),
    };
    let mut ids = HashSet::new();
    for verdict in batch {
        match verdict {
            Verdict::Accepted(row) if !ids.insert(row.event.id) => {
                let reason = "the id was used before: leave the column id out".to_owned();
                let id = EventId::draw(request.now);
                sorted.rejected.push((row.seq, id, reason));
            }
            Verdict::Accepted(row) => sorted.kept.push(row),
            Verdict::Rejected { seq, id, reason } => sorted.rejected.push((seq, id, reason)),
        }
    }
    let repeated = repeated_in_batch(&sorted.kept);
    let seen = seen_keys(tx, &sorted.kept).await?;
    let is_duplicate = |row: &OutboxRow| repeated.contains(&row.seq) || seen.contains(&row.seq);
    let (duplicates, kept) = sorted.kept.into_iter().partition(is_duplicate);
    sorted.kept = kept;
    sorted.duplicates = duplicates.iter().map(|row: &OutboxRow| row.seq).collect();
    Ok(sorted)
}

/// The rows, by `seq`, whose key was seen in an earlier batch.
async fn seen_keys(tx: &mut SqliteConnection, kept: &[OutboxRow]) -> Result<HashSet<i64>> {
    let keys: Vec<_> = kept
        .iter()
        .filter_map(|row| Some((row.seq, &row.event.account, row.dedup_key.as_ref()?)))
        .collect();
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let seen: Vec<i64> = sqlx::query_scalar(
        "-- postrider: fan_out_seen
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        SELECT v ->> 0 FROM s CROSS JOIN postrider_dedup AS d
        ON d.slot = 0 AND d.account = v ->> 1 AND d.key = v ->> 2",
    )
    .bind(rows(keys))
    .fetch_all(tx)
    .await?;
    Ok(seen.into_iter().collect())
}

async fn keep_keys(tx: &mut SqliteConnection, kept: &[OutboxRow], now: Timestamp) -> Result<()> {
    let keys: Vec<_> = kept
        .iter()
        .filter_map(|row| Some((&row.event.account, row.dedup_key.as_ref()?)))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: fan_out_keys
        INSERT INTO postrider_dedup (slot, account, key, day)
        SELECT 0, value ->> 0, value ->> 1, ?2 FROM json_each(?1)",
    )
    .bind(rows(keys))
    .bind(day_number(now.date_naive()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Copies rows to `postrider_rejected`; the caller deletes them. An id that is there already is
/// replaced: only an application that sets ids can cause that.
async fn reject(
    tx: &mut SqliteConnection,
    rejected: &[(i64, EventId, String)],
    now: Timestamp,
) -> Result<()> {
    for (seq, id, reason) in rejected {
        sqlx::query(
            "-- postrider: fan_out_reject
            INSERT INTO postrider_rejected
                (slot, id, reason, rejected_at, account, event_type, payload, ordering_key,
                 dedup_key, deliver_after, occurred_at, headers)
            SELECT 0, iif(EXISTS (SELECT 1 FROM postrider_rejected WHERE slot = 0 AND id = ?2),
                    ?3, ?2),
                ?4, ?5, account, event_type, payload, ordering_key, dedup_key, deliver_after,
                coalesce(occurred_at, created_at), headers
            FROM postrider_outbox WHERE seq = ?1",
        )
        .bind(seq)
        .bind(id.0)
        .bind(EventId::draw(now).0)
        .bind(reason)
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Turns rows into events, one statement for each run of rows without a gap. The parameter has the
/// computed values of all rows, each at the distance of its `seq` from the first.
async fn keep_events(tx: &mut SqliteConnection, kept: &[OutboxRow], now: Timestamp) -> Result<()> {
    for run in kept.chunk_by(|a, b| a.seq + 1 == b.seq) {
        let mut packed = Vec::with_capacity(run.len() * 36);
        for row in run {
            packed.extend_from_slice(row.event.id.0.as_bytes());
            push_number::<20>(&mut packed, micros(row.event.occurred_at));
        }
        sqlx::query(
            "-- postrider: fan_out_events
            INSERT INTO postrider_events
                (slot, day, id, seq, account, event_type, ordering_key, dedup_key, headers,
                 occurred_at, fanned_out_at, payload)
            SELECT 0, ?3, substr(?4, 1 + (seq - ?1) * 36, 16), seq, account, event_type,
                ordering_key, dedup_key, headers,
                CAST(substr(?4, 17 + (seq - ?1) * 36, 20) AS INTEGER), ?5, payload
            FROM postrider_outbox WHERE seq BETWEEN ?1 AND ?2",
        )
        .bind(run.first().map(|row| row.seq))
        .bind(run.last().map(|row| row.seq))
        .bind(day_number(now.date_naive()))
        .bind(packed)
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Makes the deliveries that wait; those that start have no row of their own yet.
async fn make_deliveries(
    tx: &mut SqliteConnection,
    plan: &Plan,
    request: &FanOutRequest,
) -> Result<()> {
    let waiting = plan.deliveries.iter().filter(|planned| !planned.starts);
    let deliveries = rows(waiting.map(|planned| {
        let columns = planned.columns();
        (
            planned.id.0.simple(),
            planned.event.id.0.simple(),
            planned.hook.id.0.simple(),
            planned.seq,
            &planned.event.ordering_key,
            micros(columns.next_attempt_at),
            columns.turn_at.map(micros),
        )
    }));
    if deliveries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: fan_out_deliveries
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, ordering_key, next_attempt_at, turn_at)
        SELECT 0, unhex(v ->> 0), ?2, unhex(v ->> 1), unhex(v ->> 2), v ->> 3, v ->> 4, v ->> 5,
            v ->> 6
        FROM s",
    )
    .bind(deliveries)
    .bind(day_number(request.now.date_naive()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes the outbox rows up to this one: all of them were read in this transaction.
async fn delete_through(tx: &mut SqliteConnection, last_seq: i64) -> Result<()> {
    sqlx::query(
        "-- postrider: fan_out_done
        DELETE FROM postrider_outbox WHERE seq <= ?1",
    )
    .bind(last_seq)
    .execute(tx)
    .await?;
    Ok(())
}
