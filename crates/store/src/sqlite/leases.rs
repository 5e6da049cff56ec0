//! Which deliveries are due, and whose they are for the time being.
//!
//! Every statement goes from hook to hook by an index and reads no further than it needs, so
//! that its cost does not depend on how much waits.

use super::SqliteStore;
use super::batches::{lead, lease_along, lease_batches};
use super::lease_group::give_back_started;
use super::order::lease_in_turn;
use super::values::{day_of, micros, moment, rows};
use crate::batch::{along, batching_of, together};
use crate::{DueHook, HookCache, LeaseRequest, Leased, Result, target};
use chrono::TimeDelta;
use postrider_core::{
    DeliveryId, Event, EventId, HookId, HookStatus, KeyRing, LeaseToken, Ordered, Payload,
    Timestamp,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tracing::error;
use uuid::Uuid;

/// How long a delivery is left alone whose event is gone, or whose target cannot be opened: it
/// must not stand in the way of those behind it.
const UNFIT_WAIT: TimeDelta = TimeDelta::hours(1);

impl SqliteStore {
    pub(super) async fn find_due_hooks(
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

    pub(super) async fn find_slots(&self) -> Result<Vec<i16>> {
        let any: bool = sqlx::query_scalar(
            "-- postrider: slots
            SELECT EXISTS (SELECT 1 FROM postrider_deliveries)
                OR EXISTS (SELECT 1 FROM postrider_leases)",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(if any { vec![0] } else { vec![] })
    }

    pub(super) async fn take_leases(&self, request: LeaseRequest) -> Result<Vec<Leased>> {
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
        lease_along(&mut tx, &mut due, &request).await?;
        let leased = with_events(&mut tx, due, &cache, &request, &self.keys).await?;
        tx.commit().await?;
        Ok(leased)
    }

    pub(super) async fn give_back(
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
        .bind(micros(along()))
        .execute(&mut *tx)
        .await?;
        let released = u32::try_from(released.rows_affected()).unwrap_or(u32::MAX);
        let members = give_back_started(&mut tx, token, deliveries, now).await?;
        tx.commit().await?;
        Ok(released + members)
    }
}

/// A delivery that was leased a moment ago, without its event.
pub(super) struct DueRow {
    pub id: DeliveryId,
    pub batch: Option<DeliveryId>,
    seq: i64,
    day: i32,
    event_id: Uuid,
    pub hook: HookId,
    attempts: u32,
    earlier_attempts: u32,
    pub next_attempt_at: i64,
    target: Option<String>,
}

/// The columns of a delivery that was leased: id, day, event, attempts, those of earlier rounds,
/// when it was due, its target, the place of its event, and its batch.
pub(super) type Columns = (
    Uuid,
    i32,
    Uuid,
    u32,
    u32,
    i64,
    Option<String>,
    i64,
    Option<Uuid>,
);

impl DueRow {
    pub(super) fn of(hook: HookId, columns: Columns) -> Self {
        let (id, day, event_id, attempts, earlier_attempts, next_attempt_at, target, seq, batch) =
            columns;
        Self {
            id: DeliveryId(id),
            batch: batch.map(DeliveryId),
            seq,
            day,
            event_id,
            hook,
            attempts,
            earlier_attempts,
            next_attempt_at,
            target,
        }
    }
}

/// Leases the deliveries of one hook that are due longest. SQLite cannot bound a subquery for
/// each row of another, so this is one statement for each hook.
async fn lease_hook(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &LeaseRequest,
) -> Result<Vec<DueRow>> {
    let leased: Vec<Columns> = sqlx::query_as(
        "-- postrider: lease
        UPDATE postrider_deliveries SET lease_token = ?4, lease_expires_at = ?5
        WHERE slot = 0 AND id IN (
            SELECT id FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
            WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL AND next_attempt_at <= ?2
            ORDER BY next_attempt_at LIMIT ?3
        )
        RETURNING id, day, event_id, attempts, earlier_attempts, next_attempt_at, target,
            event_seq, batch_id",
    )
    .bind(hook.0)
    .bind(micros(request.now))
    .bind(limit)
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await?;
    let leased = leased.into_iter().map(|row| DueRow::of(hook, row));
    let mut due: Vec<_> = leased.collect();
    due.sort_by_key(|row| (row.next_attempt_at, row.id));
    Ok(due)
}

/// Puts the events to the leased deliveries. Those whose event is gone, or whose target cannot be
/// opened, lose the lease again.
async fn with_events(
    tx: &mut SqliteConnection,
    due: Vec<DueRow>,
    cache: &HookCache,
    request: &LeaseRequest,
    keys: &KeyRing,
) -> Result<Vec<Leased>> {
    let mut days: BTreeMap<i32, Vec<Uuid>> = BTreeMap::new();
    for row in &due {
        days.entry(row.day).or_default().push(row.event_id);
    }
    let mut events = HashMap::new();
    for (day, ids) in days {
        let found: Vec<EventRow> = sqlx::query_as(
            "-- postrider: lease_events
            SELECT id, account, event_type, payload, ordering_key, headers, occurred_at
            FROM postrider_events
            WHERE slot = 0 AND day = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))
                AND erased_at IS NULL",
        )
        .bind(day)
        .bind(rows(ids.iter().map(|id| id.simple())))
        .fetch_all(&mut *tx)
        .await?;
        events.extend(
            found
                .into_iter()
                .map(|row| ((day, row.0.id.0), Arc::new(row.0))),
        );
    }
    let (mut orphans, mut sealed) = (Vec::new(), Vec::new());
    let mut leased = Vec::with_capacity(due.len());
    for row in due {
        let (Some(event), Some(hook)) = (events.get(&(row.day, row.event_id)), cache.get(row.hook))
        else {
            orphans.push(row.id);
            continue;
        };
        let target = match target::open(keys, row.hook, row.target.as_deref()) {
            Ok(target) => target,
            Err(error) => {
                sealed.push((row.id, error));
                continue;
            }
        };
        let delivery = Leased {
            slot: 0,
            id: row.id,
            day: day_of(row.day),
            event: event.clone(),
            hook: hook.clone(),
            target,
            attempts: row.attempts,
            earlier_attempts: row.earlier_attempts,
            token: request.token,
            expires_at: request.until,
            fresh: None,
            batch: row.batch,
            companions: Vec::new(),
        };
        leased.push((row.seq, delivery));
    }
    if let Some(first) = orphans.first() {
        error!(
            delivery.id = %first,
            "{} due deliveries cannot be made because their events are gone; the first is {first}",
            orphans.len()
        );
    }
    target::warn_of_sealed(sealed.iter().map(|(id, error)| (*id, error)));
    let unfit = orphans.iter().chain(sealed.iter().map(|(id, _)| id));
    let unfit = rows(unfit.map(|id| id.0.simple()));
    if !unfit.is_empty() {
        sqlx::query(
            "-- postrider: lease_give_back
            UPDATE postrider_deliveries
            SET lease_token = NULL, lease_expires_at = NULL, next_attempt_at = ?2,
                batch_id = NULL
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))",
        )
        .bind(unfit)
        .bind(micros(request.now + UNFIT_WAIT))
        .execute(&mut *tx)
        .await?;
        lead(tx, orphans.iter().map(|id| id.0)).await?;
    }
    Ok(together(leased))
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
