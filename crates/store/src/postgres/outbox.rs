//! The outbox: events go in, and leave it as deliveries.
//!
//! An outbox row leaves in the transaction that makes its deliveries, and is never matched
//! against hooks older than itself. Payloads stay in the database on their way to the events.
//!
//! Rows are deleted by their range of `seq`, filtered by a hash of the wanted ones: with this form
//! no outdated estimate leads to a scan of the whole backlog.

use super::PostgresStore;
use super::connection::Connection;
use super::idempotency;
use super::order::hold_order;
use super::outbox_cursor::ALL;
use super::outbox_rows::{Batch, Verdict};
use crate::Result;
use crate::count::count;
use crate::fan_out::{OutboxRow, Plan, plan, repeated_in_batch};
use crate::{
    EnqueuedOnce, Error, FanOutRequest, FanOutResult, HookCache, Idempotency, Outbox, Peek,
};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{EventId, NewEvent, Timestamp, monotonic_now, scrub};
use postrider_producer::postgres::enqueue_many;
use sqlx::Row;
use sqlx::postgres::PgBindIterExt;
use std::collections::HashSet;
use std::sync::Arc;

#[async_trait]
impl Outbox for PostgresStore {
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>> {
        let mut connection = self.intake.acquire().await?;
        // The statement is its own transaction. The answer is read to its end, so that an error of
        // the commit is an error here.
        let call = connection.lend(|raw| enqueue_many(raw, events));
        Ok(call.await?)
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
        self.peek_for_work().await
    }

    /// Fans out a batch. If the database refuses it, half of it is tried, and so on; a row that is
    /// refused alone is moved to `postrider_rejected`.
    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult> {
        let request = &request;
        let mut size = request.max_events.max(1);
        let stretch = self
            .outbox_cursor()
            .stretch_of(request.slot, monotonic_now());
        loop {
            let mut tx = self.hot.begin().await?;
            let in_order = self.cache.get().has_ordered();
            if in_order && !hold_order(&mut tx, request.slot).await? {
                tx.rollback().await?;
                return Ok(FanOutResult::default());
            }
            // With ordered hooks nothing is skipped: rows must be taken in the order of `seq`.
            let stretch = if in_order { ALL } else { stretch };
            let batch = self.read_batch(&mut tx, request, size, stretch).await?;
            if !in_order && batch.cache.has_ordered() {
                tx.rollback().await?;
                continue;
            }
            let Some(first) = batch.rows.first() else {
                tx.rollback().await?;
                return Ok(FanOutResult::default());
            };
            let (first, taken, more) = (first.seq, count(batch.rows.len()), batch.more);
            match write_batch(&mut tx, request, batch).await {
                Ok(mut fanned_out) => {
                    tx.commit().await?;
                    fanned_out.more |= more;
                    return Ok(fanned_out);
                }
                Err(failure) => match failure.refusal() {
                    Some(reason) if taken == 1 => {
                        tx.rollback().await?;
                        return self.put_aside(request, first, &reason).await;
                    }
                    Some(_) => {
                        tx.rollback().await?;
                        size = taken.div_ceil(2);
                    }
                    None => {
                        if matches!(failure, Error::Schema(_)) {
                            self.forget_partitions();
                        }
                        return Err(failure);
                    }
                },
            }
        }
    }

    fn hook_cache(&self) -> Arc<HookCache> {
        self.cache.get()
    }
}

impl PostgresStore {
    /// Moves the one row that the database refuses to `postrider_rejected`.
    async fn put_aside(
        &self,
        request: &FanOutRequest,
        seq: i64,
        reason: &str,
    ) -> Result<FanOutResult> {
        let mut tx = self.hot.begin().await?;
        let rejected = reject(&mut tx, request, &[(seq, scrub(reason))]).await?;
        tx.commit().await?;
        Ok(FanOutResult {
            rejected,
            more: true,
            ..FanOutResult::default()
        })
    }
}

async fn write_batch(
    connection: &mut Connection,
    request: &FanOutRequest,
    batch: Batch,
) -> Result<FanOutResult> {
    let day = request.now.date_naive();
    let mut sorted = Sorted::of(batch, request);
    let dropped = seen_before(connection, request.slot, day, &sorted.events).await?;
    sorted.drop_seen(&dropped, request);
    if !sorted.duplicates.is_empty() {
        drop_rows(connection, request.slot, &sorted.duplicates).await?;
    }
    let rejected = match sorted.rejected.is_empty() {
        true => 0,
        false => reject(connection, request, &sorted.rejected).await?,
    };
    if !sorted.events.is_empty() {
        keep(connection, request, day, &sorted).await?;
    }
    Ok(FanOutResult {
        events: count(sorted.events.len()),
        deliveries: count(sorted.plan.deliveries.len()),
        duplicates: count(sorted.duplicates.len()),
        rejected,
        filter_problems: sorted.plan.filter_problems,
        waiting: sorted.plan.waiting(request.now),
        batching: sorted.plan.batching(),
        more: sorted.more,
        started: sorted.plan.started(request),
    })
}

/// A batch, sorted by the decision about each row.
struct Sorted {
    /// Rows that become events, in order, all of them covered by the plan.
    events: Vec<OutboxRow>,
    plan: Plan,
    duplicates: Vec<i64>,
    rejected: Vec<(i64, String)>,
    cache: Arc<HookCache>,
    /// Whether rows were left for the next batch.
    more: bool,
}

impl Sorted {
    fn of(batch: Batch, request: &FanOutRequest) -> Self {
        let mut rejected = Vec::new();
        let mut events = Vec::with_capacity(batch.rows.len());
        for row in batch.rows {
            match row.judge(request.deliver_before) {
                Verdict::Accepted(row) => events.push(row),
                Verdict::Rejected { seq, reason } => rejected.push((seq, reason)),
            }
        }
        let mut duplicates = Vec::new();
        let repeated = repeated_in_batch(&events);
        if !repeated.is_empty() {
            events.retain(|row| {
                let stays = !repeated.contains(&row.seq);
                if !stays {
                    duplicates.push(row.seq);
                }
                stays
            });
        }
        let plan = plan(&events, &batch.cache, request);
        let horizon = events.get(plan.covered).map(|row| row.seq);
        events.truncate(plan.covered);
        // Rows that the plan does not cover stay in the outbox, and are judged again later.
        if let Some(horizon) = horizon {
            duplicates.retain(|seq| *seq < horizon);
            rejected.retain(|(seq, _)| *seq < horizon);
        }
        Self {
            events,
            plan,
            duplicates,
            rejected,
            cache: batch.cache,
            more: horizon.is_some(),
        }
    }

    fn drop_seen(&mut self, seen: &HashSet<i64>, request: &FanOutRequest) {
        if seen.is_empty() {
            return;
        }
        self.duplicates.extend(seen);
        self.events.retain(|row| !seen.contains(&row.seq));
        self.plan = plan(&self.events, &self.cache, request);
    }
}

/// The rows, by `seq`, that repeat an earlier event. The keys of the others are recorded.
async fn seen_before(
    connection: &mut Connection,
    slot: i16,
    day: NaiveDate,
    rows: &[OutboxRow],
) -> Result<HashSet<i64>> {
    let mut keyed: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            Some((
                row.event.account.as_str(),
                row.dedup_key.as_deref()?,
                row.seq,
            ))
        })
        .collect();
    if keyed.is_empty() {
        return Ok(HashSet::new());
    }
    // In order, so that two fan-outs with the same keys cannot deadlock.
    keyed.sort_unstable();
    let taken: Vec<(String, String)> = sqlx::query_as(
        "-- postrider: fan_out_keys
        INSERT INTO postrider_dedup (slot, account, key, day)
        SELECT $1, account, key, $2
        FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS k (account, key, place)
        ORDER BY place
        ON CONFLICT (slot, account, key) DO NOTHING
        RETURNING account, key",
    )
    .bind(slot) // $1 slot
    .bind(day) // $2 day
    .bind(keyed.iter().map(|(account, ..)| *account).bind_iter()) // $3 account
    .bind(keyed.iter().map(|(_, key, _)| *key).bind_iter()) // $4 key
    .fetch_all(connection)
    .await?;
    let taken: HashSet<_> = taken
        .iter()
        .map(|(a, k)| (a.as_str(), k.as_str()))
        .collect();
    let repeats = keyed
        .iter()
        .filter(|(account, key, _)| !taken.contains(&(account, key)));
    Ok(repeats.map(|(.., seq)| *seq).collect())
}

async fn drop_rows(connection: &mut Connection, slot: i16, seqs: &[i64]) -> Result<()> {
    sqlx::query(
        "-- postrider: fan_out_drop
        DELETE FROM postrider_outbox
        WHERE slot = $1 AND seq BETWEEN (SELECT min(s) FROM unnest($2::bigint[]) AS s)
                                    AND (SELECT max(s) FROM unnest($2::bigint[]) AS s)
          AND (seq IN (SELECT unnest($2::bigint[]))) IS TRUE",
    )
    .bind(slot)
    .bind(seqs)
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves rows to `postrider_rejected`. An id that is there already is replaced: only an application
/// that sets ids can cause that.
async fn reject(
    connection: &mut Connection,
    request: &FanOutRequest,
    rows: &[(i64, String)],
) -> Result<u32> {
    let moved = sqlx::query(
        "-- postrider: fan_out_reject
        WITH taken AS (
            DELETE FROM postrider_outbox
            WHERE slot = $1 AND seq BETWEEN (SELECT min(s) FROM unnest($2::bigint[]) AS s)
                                        AND (SELECT max(s) FROM unnest($2::bigint[]) AS s)
              AND (seq IN (SELECT unnest($2::bigint[]))) IS TRUE
            RETURNING *
        ), kept AS (
            INSERT INTO postrider_rejected
                (slot, id, reason, rejected_at, account, event_type, payload, ordering_key,
                 dedup_key, deliver_after, occurred_at, headers)
            SELECT $1,
                   CASE WHEN t.nth > 1 OR EXISTS (SELECT FROM postrider_rejected AS other
                                                  WHERE other.slot = $1 AND other.id = t.id)
                        THEN postrider_uuid_v7() ELSE t.id END,
                   r.reason, $4, t.account, t.event_type, t.payload::text, t.ordering_key,
                   t.dedup_key, t.deliver_after, coalesce(t.occurred_at, t.created_at),
                   t.headers::text
            FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq) AS nth
                  FROM taken) AS t
            JOIN unnest($2::bigint[], $3::text[]) AS r (seq, reason) ON r.seq = t.seq
        )
        SELECT count(*) FROM taken",
    )
    .bind(request.slot) // $1 slot
    .bind(rows.iter().map(|(seq, _)| *seq).bind_iter()) // $2 seq
    .bind(rows.iter().map(|(_, reason)| reason.as_str()).bind_iter()) // $3 reason
    .bind(request.now) // $4 rejected_at
    .fetch_one(connection)
    .await?
    .try_get::<i64, _>(0)?;
    Ok(count(moved))
}

/// Turns the rows into events and makes their deliveries: a row for each that waits, and one lease
/// group for all that start.
async fn keep(
    connection: &mut Connection,
    request: &FanOutRequest,
    day: NaiveDate,
    sorted: &Sorted,
) -> Result<()> {
    let starting = || sorted.plan.deliveries.iter().filter(|d| d.starts);
    let waiting = || sorted.plan.deliveries.iter().filter(|d| !d.starts);
    // One statement moves the rows, so that the payload stays in the database. The deliveries that
    // start are three arrays of one row; those that wait get a row each.
    sqlx::query(
        "-- postrider: fan_out
        WITH taken AS (
            DELETE FROM postrider_outbox
            WHERE slot = $1 AND seq BETWEEN (SELECT min(s) FROM unnest($4::bigint[]) AS s)
                                        AND (SELECT max(s) FROM unnest($4::bigint[]) AS s)
              AND (seq IN (SELECT unnest($4::bigint[]))) IS TRUE
            RETURNING id, seq, account, event_type, payload, ordering_key, dedup_key, headers,
                      coalesce(occurred_at, created_at) AS happened_at
        ), kept AS (
            INSERT INTO postrider_events
                (slot, day, id, seq, account, event_type, payload, ordering_key, dedup_key,
                 headers, occurred_at, fanned_out_at)
            SELECT $1, $2, id, seq, account, event_type, payload, ordering_key, dedup_key,
                   headers, happened_at, $3
            FROM taken
        ), started AS (
            INSERT INTO postrider_leases
                (slot, token, day, expires_at, open, closed, deliveries, events, hooks)
            SELECT $1, $12, $2, $13, cardinality($14::uuid[]),
                   repeat('0', cardinality($14::uuid[]))::varbit, $14, $15, $16
            WHERE cardinality($14::uuid[]) > 0
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, ordering_key, next_attempt_at, turn_at)
        SELECT $1, $2, d.id, d.event_id, d.hook_id, d.event_seq, d.ordering_key,
               d.next_attempt_at, d.turn_at
        FROM unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::bigint[], $9::text[],
                    $10::timestamptz[], $11::timestamptz[])
             AS d (id, event_id, hook_id, event_seq, ordering_key, next_attempt_at, turn_at)",
    )
    .bind(request.slot) // $1 slot
    .bind(day) // $2 day
    .bind(request.now) // $3 fanned_out_at
    .bind(sorted.events.iter().map(|row| row.seq).bind_iter()) // $4 seq
    .bind(waiting().map(|d| d.id.0).bind_iter()) // $5 id
    .bind(waiting().map(|d| d.event.id.0).bind_iter()) // $6 event_id
    .bind(waiting().map(|d| d.hook.id.0).bind_iter()) // $7 hook_id
    .bind(waiting().map(|d| d.seq).bind_iter()) // $8 event_seq
    .bind(
        waiting()
            .map(|d| d.event.ordering_key.as_deref())
            .bind_iter(),
    ) // $9 ordering_key
    .bind(waiting().map(|d| d.columns().next_attempt_at).bind_iter()) // $10 next_attempt_at
    .bind(waiting().map(|d| d.columns().turn_at).bind_iter()) // $11 turn_at
    .bind(request.token.0) // $12 token
    .bind(request.until) // $13 expires_at
    .bind(starting().map(|d| d.id.0).bind_iter()) // $14 deliveries
    .bind(starting().map(|d| d.event.id.0).bind_iter()) // $15 events
    .bind(starting().map(|d| d.hook.id.0).bind_iter()) // $16 hooks
    .execute(connection)
    .await?;
    Ok(())
}
