//! The statements that erase the content of events. A call is one transaction.

use super::SqliteStore;
use super::end_waiting::end_waiting;
use super::history::days;
use super::lease_group::LeaseGroup;
use super::values::{day_number, micros, rows};
use crate::count::count;
use crate::erase::{self, EraseStatements, Erasure, FannedOutEvent};
use crate::{Erased, Result};
use async_trait::async_trait;
use postrider_core::{EventId, HookId, Reason, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeSet;
use uuid::Uuid;

/// See [`Maintenance::erase`](crate::Maintenance::erase).
pub(super) async fn erase(store: &SqliteStore, ids: &[EventId], now: Timestamp) -> Result<Erased> {
    let mut tx = store.writer.begin().await?;
    let (erased, _) = erase::erase(&mut *tx, ids, now).await?;
    tx.commit().await?;
    Ok(erased)
}

/// See [`Maintenance::erase_rejected`](crate::Maintenance::erase_rejected).
pub(super) async fn erase_rejected_of(
    store: &SqliteStore,
    account: &str,
    limit: u32,
) -> Result<u32> {
    let mut tx = store.writer.begin().await?;
    let done = sqlx::query(
        "-- postrider: erase_rejected_of_account
        UPDATE postrider_rejected SET payload = NULL, headers = NULL
        WHERE rowid IN (
            SELECT rowid FROM postrider_rejected
            WHERE account = ?1 AND (payload IS NOT NULL OR headers IS NOT NULL) LIMIT ?2)",
    )
    .bind(account)
    .bind(limit)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(count(done.rows_affected()))
}

#[async_trait]
impl EraseStatements for SqliteConnection {
    async fn lock_fanned_out(&mut self, ids: &[EventId]) -> Result<Vec<FannedOutEvent>> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let event = sqlx::query(concat!(
                "-- postrider: erase_find\n",
                days!("postrider_events"),
                "SELECT e.slot, e.day, e.id, e.account FROM days CROSS JOIN postrider_events AS e
                WHERE e.slot = 0 AND e.day = days.day AND e.id = ?1 LIMIT 1"
            ))
            .bind(id.0)
            .try_map(|row: SqliteRow| FannedOutEvent::read(&row))
            .fetch_optional(&mut *self)
            .await?;
            found.extend(event);
        }
        Ok(found)
    }

    async fn delete_queued(&mut self, ids: &[EventId]) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase_queued
            DELETE FROM postrider_outbox WHERE id IN (SELECT value FROM json_each(?1))",
        )
        .bind(rows(ids))
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn erase_rejected(&mut self, ids: &[EventId]) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase_rejected
            UPDATE postrider_rejected SET payload = NULL, headers = NULL
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))",
        )
        .bind(rows(ids.iter().map(|id| id.0.simple())))
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn hooks_of(&mut self, accounts: &BTreeSet<&str>) -> Result<Vec<(String, HookId)>> {
        let hooks: Vec<(String, Uuid)> = sqlx::query_as(
            "-- postrider: erase_hooks
            SELECT account, id FROM postrider_hooks
            WHERE account IN (SELECT value FROM json_each(?1))",
        )
        .bind(rows(accounts))
        .fetch_all(self)
        .await?;
        let hooks = hooks.into_iter().map(|(account, id)| (account, HookId(id)));
        Ok(hooks.collect())
    }

    async fn cancel(&mut self, of: &Erasure, now: Timestamp) -> Result<u64> {
        let ids = of.deliveries.iter().map(|(id, _)| id.0);
        end_waiting(self, ids, "cancelled", Reason::Erased, now).await
    }

    async fn in_flight(&mut self, of: &Erasure) -> Result<BTreeSet<EventId>> {
        let leased: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: erase_in_flight
            SELECT event_id FROM postrider_deliveries
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
                AND lease_token IS NOT NULL",
        )
        .bind(rows(of.deliveries.iter().map(|(id, _)| id.0.simple())))
        .fetch_all(&mut *self)
        .await?;
        let mut events: BTreeSet<_> = leased.into_iter().map(EventId).collect();
        for group in LeaseGroup::all(self).await? {
            events.extend(group.open_members().map(|member| member.event));
        }
        Ok(events)
    }

    async fn erase_events(&mut self, of: &Erasure, now: Timestamp) -> Result<u64> {
        let mut erased = 0;
        for event in &of.events {
            let done = sqlx::query(
                "-- postrider: erase
                UPDATE postrider_events SET payload = 'null', headers = NULL, erased_at = ?3
                WHERE slot = 0 AND day = ?1 AND id = ?2 AND erased_at IS NULL",
            )
            .bind(day_number(event.day))
            .bind(event.id.0)
            .bind(micros(now))
            .execute(&mut *self)
            .await?;
            erased += done.rows_affected();
        }
        Ok(erased)
    }

    async fn erase_responses(&mut self, of: &Erasure) -> Result<u64> {
        let mut erased = 0;
        for day in of
            .events
            .iter()
            .map(|event| event.day)
            .collect::<BTreeSet<_>>()
        {
            let done = sqlx::query(
                "-- postrider: erase_responses
                UPDATE postrider_attempts SET response = NULL
                WHERE slot = 0 AND day = ?1 AND response IS NOT NULL
                    AND delivery_id IN (SELECT unhex(value) FROM json_each(?2))",
            )
            .bind(day_number(day))
            .bind(rows(of.deliveries.iter().map(|(id, _)| id.0.simple())))
            .execute(&mut *self)
            .await?;
            erased += done.rows_affected();
        }
        Ok(erased)
    }
}
