//! The statements of bulk operations.

use super::batches::replace_leaders;
use super::end_waiting::end_waiting;
use super::hook_history::record;
use super::order::give_turns;
use super::values::{day_number, micros, rows as packed};
use crate::audit_entry::AuditEntry;
use crate::bulk::{BulkRow, BulkStatements, LockedHook, PageRows};
use crate::{BulkPage, DeliveryState, Redelivery, Result};
use async_trait::async_trait;
use postrider_core::{EventId, HookId, Reason, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

#[async_trait]
impl BulkStatements for SqliteConnection {
    async fn lock_hook(&mut self, id: HookId) -> Result<Option<LockedHook>> {
        let row: Option<(bool, bool)> = sqlx::query_as(
            "-- postrider: bulk_hook
            SELECT status = 'active', deleted_at IS NOT NULL FROM postrider_hooks WHERE id = ?1",
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
            SELECT slot, day, id, event_id, next_attempt_at AS due, NULL AS ended, ordering_key
            FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
            WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL
                AND (next_attempt_at, id) > (?2, ?3)
                AND NOT (next_attempt_at = ?5 AND attempts = earlier_attempts) AND NOT holds_key
            ORDER BY next_attempt_at, id LIMIT ?4",
        )
        .bind(hook.0)
        .bind(micros(after.at))
        .bind(after.id.0)
        .bind(page.limit)
        .bind(micros(sent_again_at))
        .try_map(|row: SqliteRow| BulkRow::read(&row))
        .fetch_all(self)
        .await?;
        Ok(rows)
    }

    async fn ended(&mut self, which: &Redelivery, page: BulkPage) -> Result<PageRows> {
        let statement = match which.state {
            DeliveryState::Delivered => {
                "-- postrider: bulk_delivered
                SELECT slot, day, delivery_id AS id, event_id, NULL AS due,
                    NULL AS ended, NULL AS ordering_key
                FROM postrider_attempts
                WHERE slot = 0 AND hook_id = ?1 AND delivery_id > ?2 AND delivery_id < ?3
                    AND late = 0 AND outcome = 'accepted'
                GROUP BY delivery_id ORDER BY delivery_id LIMIT ?4"
            }
            _ => {
                "-- postrider: bulk_ended
                SELECT slot, day, delivery_id AS id, event_id, NULL AS due, state AS ended,
                    NULL AS ordering_key
                FROM postrider_ended
                WHERE slot = 0 AND hook_id = ?1 AND delivery_id > ?2 AND delivery_id < ?3
                ORDER BY delivery_id LIMIT ?4"
            }
        };
        let after = page.after.map_or(which.first(), |cursor| cursor.id);
        let rows: Vec<_> = sqlx::query(statement)
            .bind(which.hook.0)
            .bind(after.0)
            .bind(which.end().0)
            .bind(page.limit)
            .try_map(|row: SqliteRow| BulkRow::read(&row))
            .fetch_all(self)
            .await?;
        let more = rows.len() >= page.limit as usize;
        Ok(PageRows { rows, more })
    }

    async fn batch_members(&mut self, leaders: &[BulkRow]) -> Result<Vec<BulkRow>> {
        let rows = sqlx::query(
            "-- postrider: bulk_batch_members
            SELECT slot, day, id, event_id, next_attempt_at AS due, NULL AS ended, ordering_key
            FROM postrider_deliveries INDEXED BY postrider_deliveries_batched
            WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
                AND batch_id IS NOT NULL AND lease_token IS NULL",
        )
        .bind(packed(leaders.iter().map(|row| row.id.0.simple())))
        .try_map(|row: SqliteRow| BulkRow::read(&row))
        .fetch_all(self)
        .await?;
        Ok(rows)
    }

    async fn lock_events(&mut self, rows: &[BulkRow]) -> Result<HashMap<EventId, String>> {
        let keys = rows
            .iter()
            .map(|row| (day_number(row.day), row.event.0.simple()));
        let events: Vec<(Uuid, String)> = sqlx::query_as(
            "-- postrider: bulk_events
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
            SELECT e.id, e.event_type FROM s CROSS JOIN postrider_events AS e
            ON e.slot = 0 AND e.day = v ->> 0 AND e.id = unhex(v ->> 1) AND e.erased_at IS NULL",
        )
        .bind(packed(keys))
        .fetch_all(self)
        .await?;
        let types = events.into_iter();
        Ok(types
            .map(|(id, event_type)| (EventId(id), event_type))
            .collect())
    }

    async fn make_due(&mut self, rows: &[BulkRow], now: Timestamp) -> Result<u64> {
        let made_due = sqlx::query(
            "-- postrider: bulk_hasten
            UPDATE postrider_deliveries
            SET next_attempt_at = ?2, earlier_attempts = attempts, lost_leases = 0, turn_at = NULL,
                batch_id = NULL, target = NULL
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
                AND lease_token IS NULL",
        )
        .bind(packed(rows.iter().map(|row| row.id.0.simple())))
        .bind(micros(now))
        .execute(&mut *self)
        .await?;
        replace_leaders(self, rows.iter().map(|row| row.id.0)).await?;
        Ok(made_due.rows_affected())
    }

    async fn revive(
        &mut self,
        which: &Redelivery,
        rows: &[BulkRow],
        now: Timestamp,
    ) -> Result<u64> {
        let named = packed(
            rows.iter()
                .map(|row| (day_number(row.day), row.id.0.simple(), row.event.0.simple())),
        );
        // One that was delivered and has ended otherwise since is left alone.
        let has_ended_row = which.state != DeliveryState::Delivered;
        let revived = sqlx::query(
            "-- postrider: bulk_revive
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
            i AS MATERIALIZED (
                SELECT v ->> 0 AS day, unhex(v ->> 1) AS id, unhex(v ->> 2) AS event_id FROM s
            )
            INSERT INTO postrider_deliveries
                (slot, id, day, event_id, hook_id, event_seq, attempts, earlier_attempts,
                 next_attempt_at)
            SELECT 0, i.id, i.day, i.event_id, ?2, e.seq,
                (SELECT coalesce(max(number), 0) FROM postrider_attempts AS a
                    WHERE a.slot = 0 AND a.day = i.day AND a.delivery_id = i.id AND NOT a.late),
                (SELECT coalesce(max(number), 0) FROM postrider_attempts AS a
                    WHERE a.slot = 0 AND a.day = i.day AND a.delivery_id = i.id AND NOT a.late),
                ?3
            FROM i CROSS JOIN postrider_events AS e
            ON e.slot = 0 AND e.day = i.day AND e.id = i.event_id
            WHERE NOT EXISTS (SELECT 1 FROM postrider_deliveries AS d
                    WHERE d.slot = 0 AND d.id = i.id AND NOT d.holds_key)
                AND EXISTS (SELECT 1 FROM postrider_ended AS n
                    WHERE n.slot = 0 AND n.day = i.day AND n.delivery_id = i.id) = ?4
            ON CONFLICT (slot, id) DO UPDATE
            SET next_attempt_at = excluded.next_attempt_at, attempts = excluded.attempts,
                earlier_attempts = excluded.earlier_attempts, lost_leases = 0, holds_key = 0,
                target = NULL",
        )
        .bind(&named)
        .bind(which.hook.0)
        .bind(micros(now))
        .bind(has_ended_row)
        .execute(&mut *self)
        .await?;
        if has_ended_row {
            sqlx::query(
                "-- postrider: bulk_forget
                WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
                DELETE FROM postrider_ended WHERE slot = 0 AND (day, delivery_id) IN
                    (SELECT v ->> 0, unhex(v ->> 1) FROM s)",
            )
            .bind(&named)
            .execute(self)
            .await?;
        }
        Ok(revived.rows_affected())
    }

    async fn discard(&mut self, _: HookId, rows: &[BulkRow], now: Timestamp) -> Result<u64> {
        let ids = rows.iter().map(|row| row.id.0);
        let ended = end_waiting(self, ids, "cancelled", Reason::Discarded, now).await?;
        Ok(ended)
    }

    async fn give_turns(&mut self, hook: HookId, rows: &[BulkRow], now: Timestamp) -> Result<()> {
        let keys: BTreeSet<_> = rows
            .iter()
            .filter_map(|row| Some((hook, row.ordering_key.as_deref()?)))
            .collect();
        give_turns(self, keys.into_iter().collect(), now).await
    }

    async fn record(&mut self, entry: AuditEntry, now: Timestamp) -> Result<()> {
        let added = sqlx::query(
            "-- postrider: discard_more
            UPDATE postrider_hook_history SET deliveries = deliveries + ?5
            WHERE hook_id = ?1 AND at = ?2 AND action = ?3 AND actor = ?4",
        )
        .bind(entry.hook.0)
        .bind(micros(now))
        .bind(entry.action.name())
        .bind(&entry.actor)
        .bind(entry.deliveries)
        .execute(&mut *self)
        .await?;
        match added.rows_affected() {
            0 => record(self, &[entry], now).await,
            _ => Ok(()),
        }
    }
}
