//! Leases of deliveries: taken, released and recovered.
//!
//! Every statement steps from hook to hook by an index and reads at most the wanted number of rows
//! of each, so that its cost does not grow with the backlog.

use super::SqliteStore;
use super::batches::{lease_batch_members, lease_batches, replace_leaders};
use super::lease_group;
use super::leased_rows::leased_columns;
use super::order::lease_in_turn;
use super::recover;
use super::values::{day_number, micros, moment, rows};
use crate::batch::batching_of;
use crate::count::count;
use crate::lease::{LeasedEvents, LeasedRow, Unfit, requests};
use crate::row_state::WITH_LEADER;
use crate::{
    DueHook, HookRequest, LeaseRequest, Queue, RecoverResult, Result, SettleResult, Settlement,
    target,
};
use async_trait::async_trait;
use chrono::{NaiveDate, TimeDelta};
use postrider_core::{
    DeliveryId, Event, EventId, HookId, HookStatus, LeaseToken, Ordered, Payload, Schedules,
    Timestamp,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::error;
use uuid::Uuid;

/// The wait of a delivery whose event is gone, or whose target cannot be opened: the next ones of
/// its hook must not wait for it.
const UNFIT_WAIT: TimeDelta = TimeDelta::hours(1);

#[async_trait]
impl Queue for SqliteStore {
    async fn due_hooks(
        &self,
        slot: i16,
        after: Option<HookId>,
        limit: u32,
    ) -> Result<Vec<DueHook>> {
        if slot != 0 || limit == 0 {
            return Ok(Vec::new());
        }
        let found: Vec<(Uuid, i64)> = sqlx::query_as(
            "-- postrider: due_hooks
            WITH RECURSIVE waiting (hook_id, counted) AS (
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL AND d.hook_id > ?1
                        ORDER BY d.hook_id LIMIT 1), 1
                UNION ALL
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL
                            AND d.hook_id > waiting.hook_id
                        ORDER BY d.hook_id LIMIT 1), counted + 1
                FROM waiting WHERE hook_id IS NOT NULL AND counted < ?2
            )
            SELECT hook_id, (SELECT d.next_attempt_at FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                WHERE d.slot = 0 AND d.lease_token IS NULL AND d.hook_id = waiting.hook_id
                ORDER BY d.next_attempt_at LIMIT 1)
            FROM waiting WHERE hook_id IS NOT NULL",
        )
        .bind(after.map(|id| id.0.as_bytes().to_vec()).unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let due = found.into_iter().map(|(hook, first_due)| DueHook {
            hook: HookId(hook),
            first_due: moment(first_due),
        });
        Ok(due.collect())
    }

    async fn slots(&self) -> Result<Vec<i16>> {
        let any: bool = sqlx::query_scalar(
            "-- postrider: slots
            SELECT EXISTS (SELECT 1 FROM postrider_deliveries)
                OR EXISTS (SELECT 1 FROM postrider_leases)",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(if any { vec![0] } else { vec![] })
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Vec<HookRequest>> {
        if request.slot != 0 || request.wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.writer.begin().await?;
        let cache = self.refresh_hooks(&mut tx).await?;
        let mut due = Vec::new();
        for (hook, limit) in &request.wanted {
            let known = cache.get(*hook);
            let starts = known.filter(|hook| hook.status == HookStatus::Active && !hook.locked);
            let Some(known) = starts else {
                continue;
            };
            let batching = batching_of(request.batches.as_ref(), known);
            due.extend(match (known.settings.ordered, batching) {
                (Some(Ordered::Key), _) => lease_in_turn(&mut tx, *hook, *limit, &request).await?,
                (None, Some(batching)) => {
                    lease_batches(&mut tx, *hook, *limit, &batching, &request).await?
                }
                (None, None) => lease_hook(&mut tx, *hook, *limit, &request).await?,
            });
        }
        lease_batch_members(&mut tx, &mut due, &request).await?;
        let events = events_of(&mut tx, &due).await?;
        let (leased, unfit) = requests(due, &request, &cache, &events, &self.keys);
        if !unfit.is_empty() {
            release_unfit(&mut tx, &request, &unfit).await?;
        }
        tx.commit().await?;
        Ok(leased)
    }

    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<SettleResult> {
        self.settle_in_parts(now, settlements).await
    }

    async fn release(
        &self,
        slot: i16,
        token: LeaseToken,
        deliveries: &[DeliveryId],
        now: Timestamp,
    ) -> Result<u32> {
        if slot != 0 || deliveries.is_empty() {
            return Ok(0);
        }
        let mut tx = self.writer.begin().await?;
        let released = sqlx::query(
            "-- postrider: release
            UPDATE postrider_deliveries
            SET lease_token = NULL, lease_expires_at = NULL,
                next_attempt_at = CASE WHEN batch_id <> id THEN ?4 ELSE ?3 END,
                turn_at = CASE WHEN batch_id <> id THEN ?3 END
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
                AND lease_token = ?2",
        )
        .bind(rows(deliveries.iter().map(|id| id.0.simple())))
        .bind(token.0)
        .bind(micros(now))
        .bind(micros(WITH_LEADER))
        .execute(&mut *tx)
        .await?;
        let released = count(released.rows_affected());
        let members = lease_group::release(&mut tx, token, deliveries, now).await?;
        tx.commit().await?;
        Ok(released + members)
    }

    async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult> {
        recover::recover(self, slot, now, limit, schedules).await
    }
}

/// Leases the deliveries of one hook that are due longest. SQLite cannot bound a subquery for
/// each row of another, so this is one statement for each hook.
async fn lease_hook(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &LeaseRequest,
) -> Result<Vec<LeasedRow>> {
    let mut leased: Vec<LeasedRow> = sqlx::query_as(concat!(
        "-- postrider: lease
        UPDATE postrider_deliveries SET lease_token = ?4, lease_expires_at = ?5
        WHERE slot = 0 AND id IN (
            SELECT id FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
            WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL AND next_attempt_at <= ?2
            ORDER BY next_attempt_at LIMIT ?3
        )
        RETURNING ",
        leased_columns!(),
    ))
    .bind(hook.0)
    .bind(micros(request.now))
    .bind(limit)
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await?;
    leased.sort_by_key(|row| (row.due, row.id));
    Ok(leased)
}

/// Reads the events of leased deliveries, one statement for each day.
async fn events_of(tx: &mut SqliteConnection, leased: &[LeasedRow]) -> Result<LeasedEvents> {
    let mut days: BTreeMap<NaiveDate, Vec<Uuid>> = BTreeMap::new();
    for row in leased {
        days.entry(row.day).or_default().push(row.event.0);
    }
    let mut events = LeasedEvents::with_capacity(leased.len());
    for (day, ids) in days {
        let found: Vec<EventRow> = sqlx::query_as(
            "-- postrider: lease_events
            SELECT id, account, event_type, payload, ordering_key, headers, occurred_at
            FROM postrider_events
            WHERE slot = 0 AND day = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))
                AND erased_at IS NULL",
        )
        .bind(day_number(day))
        .bind(rows(ids.iter().map(|id| id.simple())))
        .fetch_all(&mut *tx)
        .await?;
        events.extend(
            found
                .into_iter()
                .map(|row| ((day, row.0.id), Arc::new(row.0))),
        );
    }
    Ok(events)
}

/// Releases the leases of deliveries that cannot be sent. One whose event is gone leaves its
/// batch; the others stay in theirs.
async fn release_unfit(
    tx: &mut SqliteConnection,
    request: &LeaseRequest,
    unfit: &[Unfit],
) -> Result<()> {
    let orphans: Vec<_> = unfit
        .iter()
        .filter(|unfit| matches!(unfit, Unfit::Event(_)))
        .map(Unfit::id)
        .collect();
    if let Some(first) = orphans.first() {
        error!(
            delivery.id = %first,
            "{} due deliveries cannot be made because their events are gone; the first is {first}",
            orphans.len()
        );
    }
    target::warn_of_sealed(unfit.iter().filter_map(|unfit| match unfit {
        Unfit::Target(id, error) => Some((*id, error)),
        Unfit::Hook(_) | Unfit::Event(_) => None,
    }));
    let later = request.now + UNFIT_WAIT;
    let released = unfit.iter().map(|unfit| {
        let due = if unfit.stays() { later } else { request.now };
        let leaves_batch = matches!(unfit, Unfit::Event(_));
        (unfit.id().0.simple(), micros(due), leaves_batch)
    });
    sqlx::query(
        "-- postrider: lease_release_unfit
        WITH t (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        s AS MATERIALIZED (
            SELECT unhex(v ->> 0) AS id, v ->> 1 AS due, v ->> 2 AS leaves_batch FROM t
        )
        UPDATE postrider_deliveries AS d
        SET lease_token = NULL, lease_expires_at = NULL,
            next_attempt_at = CASE WHEN d.batch_id <> d.id AND NOT s.leaves_batch THEN ?2
                ELSE s.due END,
            turn_at = CASE WHEN d.batch_id <> d.id AND NOT s.leaves_batch THEN s.due END,
            batch_id = CASE WHEN NOT s.leaves_batch THEN d.batch_id END
        FROM s WHERE d.slot = 0 AND d.id IN (SELECT id FROM s) AND s.id = d.id",
    )
    .bind(rows(released))
    .bind(micros(WITH_LEADER))
    .execute(&mut *tx)
    .await?;
    replace_leaders(tx, orphans.iter().map(|id| id.0)).await
}

struct EventRow(Event);

impl FromRow<'_, SqliteRow> for EventRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self(Event {
            id: EventId(row.try_get("id")?),
            account: row.try_get("account")?,
            event_type: row.try_get("event_type")?,
            payload: Payload::from_checked(row.try_get::<&str, _>("payload")?),
            ordering_key: row.try_get("ordering_key")?,
            headers: row.try_get("headers")?,
            occurred_at: moment(row.try_get("occurred_at")?),
        }))
    }
}
