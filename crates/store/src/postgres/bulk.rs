//! The statements of bulk operations.
//!
//! As with one delivery: only the holders of the locks of the events may make deliveries wait
//! again. The hook is locked too: nothing is discarded of one that becomes active meanwhile.

use super::batches::replace_leaders_of;
use super::connection::Connection;
use super::days::{HistoryExtent, Walk};
use super::hook_history::record;
use super::order::give_turns;
use crate::audit_entry::AuditEntry;
use crate::bulk::{BulkRow, BulkStatements, DAYS_MAX, LockedHook, PageRows};
use crate::{BulkPage, DeliveryState, Redelivery, Result};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{EventId, HookId, Reason, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Makes the transaction use indexes, in their order, whatever the statistics are: the tables may
/// have been empty a moment ago, and a page must not scan a whole table.
pub(super) async fn use_indexes(connection: &mut Connection) -> Result<()> {
    sqlx::raw_sql(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
        SET LOCAL enable_sort = off",
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl BulkStatements for Connection {
    async fn lock_hook(&mut self, id: HookId) -> Result<Option<LockedHook>> {
        let row: Option<(bool, bool)> = sqlx::query_as(
            "-- postrider: bulk_hook
            SELECT status = 'active', deleted_at IS NOT NULL FROM postrider_hooks
            WHERE id = $1 FOR SHARE",
        )
        .bind(id.0)
        .fetch_optional(self)
        .await?;
        Ok(row.map(|(is_active, is_deleted)| LockedHook {
            is_active,
            is_deleted,
        }))
    }

    async fn waiting(
        &mut self,
        hook: HookId,
        page: BulkPage,
        sent_again_at: Timestamp,
    ) -> Result<Vec<BulkRow>> {
        let after = page.begin();
        let rows = sqlx::query(
            "-- postrider: bulk_waiting
            WITH RECURSIVE occupied AS (
                (SELECT slot FROM postrider_deliveries ORDER BY slot LIMIT 1)
                UNION ALL
                SELECT (SELECT d.slot FROM postrider_deliveries AS d
                        WHERE d.slot > o.slot ORDER BY d.slot LIMIT 1)
                FROM occupied AS o WHERE o.slot IS NOT NULL
            )
            SELECT w.slot, w.day, w.id, w.event_id, w.next_attempt_at AS due, NULL::text AS ended,
                   w.ordering_key
            FROM occupied AS o CROSS JOIN LATERAL (
                SELECT * FROM postrider_deliveries AS d
                WHERE d.slot = o.slot AND d.hook_id = $1 AND d.lease_token IS NULL
                  AND d.next_attempt_at >= $2 AND (d.next_attempt_at, d.id) > ($2, $3)
                  AND NOT (d.next_attempt_at = $5 AND d.attempts = d.earlier_attempts)
                  AND NOT d.holds_key
                ORDER BY d.next_attempt_at, d.id LIMIT $4
            ) AS w
            ORDER BY w.next_attempt_at, w.id LIMIT $4",
        )
        .bind(hook.0)
        .bind(after.at)
        .bind(after.id.0)
        .bind(i64::from(page.limit))
        .bind(sent_again_at)
        .try_map(|row: PgRow| BulkRow::read(&row))
        .fetch_all(self)
        .await?;
        Ok(rows)
    }

    /// The page ends with the first stretch of days that has any, so that the locks of the
    /// transaction are those of few partitions.
    async fn ended(&mut self, which: &Redelivery, page: BulkPage) -> Result<PageRows> {
        let extent = HistoryExtent::read(self).await?;
        let begins_on = page.after.map(|cursor| cursor.at.date_naive());
        let days = extent.days.iter().rev().copied();
        let days = days.filter(|day| begins_on.is_none_or(|first| *day >= first));
        let days: Vec<_> = days.collect();
        let mut walk = Walk::within(self).await?;
        let mut stretches = days.chunks(DAYS_MAX).peekable();
        while let Some(days) = stretches.next() {
            let slots = walk.enter(self, &extent, days).await?;
            let rows = ended_on(self, &slots, days, which, page).await?;
            if !rows.is_empty() {
                let more = rows.len() >= page.limit as usize || stretches.peek().is_some();
                return Ok(PageRows { rows, more });
            }
        }
        Ok(PageRows {
            rows: Vec::new(),
            more: false,
        })
    }

    async fn batch_members(&mut self, leaders: &[BulkRow]) -> Result<Vec<BulkRow>> {
        let rows = sqlx::query(
            "-- postrider: bulk_batch_members
            SELECT d.slot, d.day, d.id, d.event_id, d.next_attempt_at AS due, NULL::text AS ended,
                   d.ordering_key
            FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, batch_id)
            JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.batch_id = i.batch_id
            WHERE d.batch_id IS NOT NULL AND d.lease_token IS NULL",
        )
        .bind(leaders.iter().map(|row| row.slot).bind_iter())
        .bind(leaders.iter().map(|row| row.id.0).bind_iter())
        .try_map(|row: PgRow| BulkRow::read(&row))
        .fetch_all(self)
        .await?;
        Ok(rows)
    }

    async fn lock_events(&mut self, rows: &[BulkRow]) -> Result<HashMap<EventId, String>> {
        let events: Vec<(Uuid, String)> = sqlx::query_as(
            "-- postrider: bulk_events
            SELECT e.id, e.event_type
            FROM unnest($1::smallint[], $2::date[], $3::uuid[]) WITH ORDINALITY
                 AS k (slot, day, id, place)
            CROSS JOIN LATERAL (
                SELECT id, event_type FROM postrider_events
                WHERE slot = k.slot AND day = k.day AND day = ANY($4) AND id = k.id
                  AND erased_at IS NULL
                LIMIT 1 FOR NO KEY UPDATE
            ) AS e
            ORDER BY k.place",
        )
        .bind(rows.iter().map(|row| row.slot).bind_iter())
        .bind(rows.iter().map(|row| row.day).bind_iter())
        .bind(rows.iter().map(|row| row.event.0).bind_iter())
        .bind(days_of(rows))
        .fetch_all(self)
        .await?;
        let types = events.into_iter();
        Ok(types
            .map(|(id, event_type)| (EventId(id), event_type))
            .collect())
    }

    async fn make_due(&mut self, rows: &[BulkRow], now: Timestamp) -> Result<u64> {
        let made_due: Vec<(i16, Uuid)> = sqlx::query_as(
            "-- postrider: bulk_hasten
            WITH selected AS MATERIALIZED (
                SELECT d.slot, d.id
                FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, id)
                JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.id = i.id
                WHERE d.lease_token IS NULL
                FOR UPDATE OF d SKIP LOCKED
            )
            UPDATE postrider_deliveries AS d
            SET next_attempt_at = $3, earlier_attempts = d.attempts, lost_leases = 0, turn_at = NULL,
                batch_id = NULL, target = NULL
            FROM selected WHERE d.slot = selected.slot AND d.id = selected.id
            RETURNING d.slot, d.id",
        )
        .bind(rows.iter().map(|row| row.slot).bind_iter())
        .bind(rows.iter().map(|row| row.id.0).bind_iter())
        .bind(now)
        .fetch_all(&mut *self)
        .await?;
        replace_leaders_of(self, &made_due).await?;
        Ok(made_due.len() as u64)
    }

    async fn revive(
        &mut self,
        which: &Redelivery,
        rows: &[BulkRow],
        now: Timestamp,
    ) -> Result<u64> {
        match which.state {
            DeliveryState::Delivered => repeat_delivered(self, which.hook, rows, now).await,
            _ => revive_ended(self, which, rows, now).await,
        }
    }

    async fn discard(&mut self, hook: HookId, rows: &[BulkRow], now: Timestamp) -> Result<u64> {
        let ended: Vec<(i16, Uuid)> = sqlx::query_as(
            "-- postrider: discard_held
            WITH doomed AS MATERIALIZED (
                SELECT d.slot, d.id
                FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, id)
                JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.id = i.id
                WHERE d.lease_token IS NULL
                FOR UPDATE OF d SKIP LOCKED
            ), gone AS (
                DELETE FROM postrider_deliveries AS d USING doomed
                WHERE d.slot = doomed.slot AND d.id = doomed.id
                RETURNING d.slot, d.day, d.id, d.event_id, d.attempts
            )
            INSERT INTO postrider_ended
                (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
            SELECT slot, day, id, event_id, $3, 'cancelled', $4, attempts, $5 FROM gone
            ON CONFLICT (slot, day, delivery_id) DO UPDATE
            SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
                ended_at = excluded.ended_at
            RETURNING slot, delivery_id",
        )
        .bind(rows.iter().map(|row| row.slot).bind_iter())
        .bind(rows.iter().map(|row| row.id.0).bind_iter())
        .bind(hook.0)
        .bind(Reason::Discarded.name())
        .bind(now)
        .fetch_all(&mut *self)
        .await?;
        replace_leaders_of(self, &ended).await?;
        Ok(ended.len() as u64)
    }

    async fn give_turns(&mut self, hook: HookId, rows: &[BulkRow], now: Timestamp) -> Result<()> {
        let mut by_slot: BTreeMap<i16, BTreeSet<&str>> = BTreeMap::new();
        for row in rows {
            if let Some(key) = &row.ordering_key {
                by_slot.entry(row.slot).or_default().insert(key);
            }
        }
        for (slot, keys) in by_slot {
            let keys = keys.into_iter().map(|key| (hook, key)).collect();
            give_turns(self, slot, keys, now).await?;
        }
        Ok(())
    }

    async fn record(&mut self, entry: AuditEntry, now: Timestamp) -> Result<()> {
        let added = sqlx::query(
            "-- postrider: discard_more
            UPDATE postrider_hook_history SET deliveries = deliveries + $5
            WHERE hook_id = $1 AND at = $2 AND action = $3 AND actor = $4",
        )
        .bind(entry.hook.0)
        .bind(now)
        .bind(entry.action.name())
        .bind(&entry.actor)
        .bind(entry.deliveries.and_then(|count| i32::try_from(count).ok()))
        .execute(&mut *self)
        .await?;
        match added.rows_affected() {
            0 => record(self, &[entry], now).await,
            _ => Ok(()),
        }
    }
}

/// The first deliveries of these days, the oldest first, that ended as wanted and come after the end
/// of the page before.
async fn ended_on(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    which: &Redelivery,
    page: BulkPage,
) -> Result<Vec<BulkRow>> {
    let statement = match which.state {
        DeliveryState::Delivered => {
            "-- postrider: bulk_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, NULL::timestamptz AS due,
                   NULL::text AS ended, NULL::text AS ordering_key
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($6::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT DISTINCT ON (delivery_id) slot, day, delivery_id, event_id
                FROM postrider_attempts
                WHERE slot = s.slot AND day = d.day AND day = ANY($6) AND hook_id = $2
                  AND outcome = 'accepted' AND NOT late
                  AND delivery_id > CASE WHEN d.day = $7 THEN $8 ELSE $3 END AND delivery_id < $4
                ORDER BY delivery_id LIMIT $5
            ) AS a
            ORDER BY a.day, a.delivery_id LIMIT $5"
        }
        _ => {
            "-- postrider: bulk_ended
            SELECT e.slot, e.day, e.delivery_id AS id, e.event_id, NULL::timestamptz AS due,
                   e.state AS ended, NULL::text AS ordering_key
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($6::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT slot, day, delivery_id, event_id, state FROM postrider_ended
                WHERE slot = s.slot AND day = d.day AND day = ANY($6) AND hook_id = $2
                  AND delivery_id > CASE WHEN d.day = $7 THEN $8 ELSE $3 END AND delivery_id < $4
                ORDER BY delivery_id LIMIT $5
            ) AS e
            ORDER BY e.day, e.delivery_id LIMIT $5"
        }
    };
    let rows = sqlx::query(statement)
        .bind(slots) // $1 slot
        .bind(which.hook.0) // $2 hook_id
        .bind(which.first().0) // $3 the first id
        .bind(which.end().0) // $4 the end of the ids
        .bind(i64::from(page.limit)) // $5 limit
        .bind(days) // $6 day
        .bind(page.after.map(|cursor| cursor.at.date_naive())) // $7 the day of the cursor
        .bind(page.after.map(|cursor| cursor.id.0)) // $8 the id of the cursor
        .try_map(|row: PgRow| BulkRow::read(&row))
        .fetch_all(connection)
        .await?;
    Ok(rows)
}

/// The days of these deliveries, for the planner.
fn days_of(rows: &[BulkRow]) -> Vec<NaiveDate> {
    let days: BTreeSet<_> = rows.iter().map(|row| row.day).collect();
    days.into_iter().collect()
}

/// The row in `postrider_ended` is deleted first: a call that finds it gone does nothing.
async fn revive_ended(
    connection: &mut Connection,
    which: &Redelivery,
    rows: &[BulkRow],
    now: Timestamp,
) -> Result<u64> {
    let revived = sqlx::query(
        "-- postrider: bulk_revive
        WITH forgotten AS (
            DELETE FROM postrider_ended AS e
            USING unnest($1::smallint[], $2::date[], $3::uuid[]) AS i (slot, day, id)
            WHERE e.slot = i.slot AND e.day = i.day AND e.day = ANY($7) AND e.delivery_id = i.id
              AND e.state = $6
            RETURNING e.slot, e.day, e.delivery_id, e.event_id
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT f.slot, f.day, f.delivery_id, f.event_id, $4, e.seq, made.number, made.number, $5
        FROM forgotten AS f CROSS JOIN LATERAL (
            SELECT seq FROM postrider_events
            WHERE slot = f.slot AND day = f.day AND day = ANY($7) AND id = f.event_id LIMIT 1
        ) AS e CROSS JOIN LATERAL (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = f.slot AND day = f.day AND day = ANY($7) AND delivery_id = f.delivery_id
              AND NOT late
        ) AS made
        ON CONFLICT (slot, id) DO UPDATE
        SET next_attempt_at = excluded.next_attempt_at, attempts = excluded.attempts,
            earlier_attempts = excluded.earlier_attempts, lost_leases = 0, turn_at = NULL,
            holds_key = false, target = NULL",
    )
    .bind(rows.iter().map(|row| row.slot).bind_iter())
    .bind(rows.iter().map(|row| row.day).bind_iter())
    .bind(rows.iter().map(|row| row.id.0).bind_iter())
    .bind(which.hook.0)
    .bind(now)
    .bind(which.state.name())
    .bind(days_of(rows))
    .execute(connection)
    .await?;
    Ok(revived.rows_affected())
}

/// Leaves out deliveries that wait again already, or that have ended otherwise since.
async fn repeat_delivered(
    connection: &mut Connection,
    hook: HookId,
    rows: &[BulkRow],
    now: Timestamp,
) -> Result<u64> {
    let repeated = sqlx::query(
        "-- postrider: bulk_repeat
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT i.slot, i.day, i.id, i.event_id, $5, e.seq, made.number, made.number, $6
        FROM unnest($1::smallint[], $2::date[], $3::uuid[], $4::uuid[])
             AS i (slot, day, id, event_id)
        CROSS JOIN LATERAL (
            SELECT seq FROM postrider_events
            WHERE slot = i.slot AND day = i.day AND day = ANY($7) AND id = i.event_id LIMIT 1
        ) AS e CROSS JOIN LATERAL (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = i.slot AND day = i.day AND day = ANY($7) AND delivery_id = i.id
              AND NOT late
        ) AS made
        WHERE (SELECT d.id FROM postrider_deliveries AS d
               WHERE d.slot = i.slot AND d.id = i.id) IS NULL
          AND (SELECT n.delivery_id FROM postrider_ended AS n
               WHERE n.slot = i.slot AND n.day = i.day AND n.day = ANY($7)
                 AND n.delivery_id = i.id) IS NULL",
    )
    .bind(rows.iter().map(|row| row.slot).bind_iter())
    .bind(rows.iter().map(|row| row.day).bind_iter())
    .bind(rows.iter().map(|row| row.id.0).bind_iter())
    .bind(rows.iter().map(|row| row.event.0).bind_iter())
    .bind(hook.0)
    .bind(now)
    .bind(days_of(rows))
    .execute(connection)
    .await?;
    Ok(repeated.rows_affected())
}
