//! Leases of deliveries: taken, released and recovered.
//!
//! No statement reads more of a backlog than it takes: it steps from hook to hook by the first
//! columns of an index, and reads at most the wanted number of rows of each. Rows are found one by
//! one by the primary key and changed at the ctid where they were found, so that no outdated
//! estimate leads to a scan.

use super::PostgresStore;
use super::batches::{leave, take_batch_members, take_batches};
use super::connection::Connection;
use super::days::literal;
use super::lease_group;
use super::leased_rows::{read_leased, taken_columns};
use super::order::take_in_turn;
use super::recover;
use super::row_state::waits_until;
use crate::Result;
use crate::batch::take_batched;
use crate::lease::{LeasedEvents, LeasedRow, Unfit, requests};
use crate::{
    DueHook, HookCache, HookRequest, LeaseRequest, Queue, RecoverResult, SettleResult, Settlement,
    target,
};
use async_trait::async_trait;
use chrono::{NaiveDate, TimeDelta};
use postrider_core::{
    DeliveryId, Event, EventId, HookId, LeaseToken, Payload, Schedules, Timestamp, monotonic_now,
};
use sqlx::postgres::PgBindIterExt;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use uuid::Uuid;

/// The wait of a delivery whose event is gone, or whose target cannot be opened: the next ones of
/// its hook must not wait for it.
const UNFIT_WAIT: TimeDelta = TimeDelta::hours(1);

#[async_trait]
impl Queue for PostgresStore {
    async fn due_hooks(
        &self,
        slot: i16,
        after: Option<HookId>,
        limit: u32,
    ) -> Result<Vec<DueHook>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let rows: Vec<(Uuid, Timestamp)> = sqlx::query_as(
            "-- postrider: due_hooks
            WITH RECURSIVE due AS (
                (SELECT hook_id, next_attempt_at, 1 AS place FROM postrider_deliveries
                 WHERE slot = $1 AND lease_token IS NULL AND hook_id > $2
                 ORDER BY hook_id, next_attempt_at LIMIT 1)
                UNION ALL
                SELECT next.hook_id, next.next_attempt_at, due.place + 1
                FROM due CROSS JOIN LATERAL (
                    SELECT hook_id, next_attempt_at FROM postrider_deliveries
                    WHERE slot = $1 AND lease_token IS NULL AND hook_id > due.hook_id
                    ORDER BY hook_id, next_attempt_at LIMIT 1
                ) AS next
                WHERE due.place < $3
            )
            SELECT hook_id, next_attempt_at FROM due",
        )
        .bind(slot)
        .bind(after.map_or(Uuid::nil(), |hook| hook.0))
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_all(&self.hot)
        .await?;
        let due = rows.into_iter().map(|(hook, first_due)| DueHook {
            hook: HookId(hook),
            first_due,
        });
        Ok(due.collect())
    }

    async fn slots(&self) -> Result<Vec<i16>> {
        let slots = sqlx::query_scalar(
            "-- postrider: slots
            -- Backwards: the live rows are mostly the newest, and the dead ones come before them.
            -- Leases are few, and not in the order of their slots.
            WITH RECURSIVE occupied AS (
                (SELECT slot FROM postrider_deliveries ORDER BY slot DESC, id DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT next.slot FROM postrider_deliveries AS next
                        WHERE next.slot < o.slot ORDER BY next.slot DESC, next.id DESC LIMIT 1)
                FROM occupied AS o WHERE o.slot IS NOT NULL
            )
            SELECT slot FROM occupied WHERE slot IS NOT NULL
            UNION SELECT slot FROM postrider_leases",
        )
        .fetch_all(&self.hot)
        .await?;
        Ok(slots)
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Vec<HookRequest>> {
        let request = &request;
        let wanted = wanted(request, &self.cache.get());
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut cache = self.cache.get();
        let is_unknown = |(hook, _): &(HookId, u32)| cache.get(*hook).is_none();
        if request.batches.is_some() && request.wanted.iter().any(is_unknown) {
            let mut connection = self.hot.acquire().await?;
            cache = self.refresh_hooks(&mut connection).await?;
        }
        let is_ordered = |hook: &HookId| {
            let hook = cache.get(*hook);
            hook.is_some_and(|hook| hook.settings.ordered.is_some())
        };
        let (ordered, mut wanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            wanted.into_iter().partition(|(hook, _)| is_ordered(hook));
        let batched = take_batched(&mut wanted, request.batches.as_ref(), &cache);
        let began = monotonic_now();
        let mut tx = self.hot.begin().await?;
        let (mut version, mut taken) = (None, Vec::new());
        if !wanted.is_empty() {
            let from = self.due_cursor(request, &wanted, began);
            (version, taken) = take(&mut tx, request, &wanted, &from).await?;
            self.note_emptied(request, &wanted, &from, &taken, began);
        }
        if !ordered.is_empty() {
            let (decided, in_turn) = take_in_turn(&mut tx, request, ordered).await?;
            version = version.or(decided);
            taken.extend(in_turn);
        }
        if !batched.is_empty() {
            let (decided, in_batches) = take_batches(&mut tx, request, batched).await?;
            version = version.or(decided);
            taken.extend(in_batches);
        }
        take_batch_members(&mut tx, request, &mut taken).await?;
        let Some(version) = version else {
            // Deliveries may have been blocked.
            tx.commit().await?;
            return Ok(Vec::new());
        };
        let cache = self.hooks_at(&mut tx, version).await?;
        let events = events_of(&mut tx, request.slot, &taken).await?;
        let (leased, unfit) = requests(taken, request, &cache, &events, &self.keys);
        if !unfit.is_empty() {
            release_unfit(&mut tx, request, &unfit).await?;
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
        let mut tx = self.hot.begin().await?;
        let released = sqlx::query(concat!(
            "-- postrider: release
            UPDATE postrider_deliveries
            SET lease_token = NULL, lease_expires_at = NULL, ",
            waits_until!("", "$4"),
            " WHERE slot = $1 AND lease_token = $2 AND ctid = ANY(ARRAY(
                SELECT d.place FROM unnest($3::uuid[]) AS i (id) CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM postrider_deliveries
                    WHERE slot = $1 AND id = i.id LIMIT 1
                ) AS d
            ))",
        ))
        .bind(slot)
        .bind(token.0)
        .bind(deliveries.iter().map(|id| id.0).bind_iter())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let released = u32::try_from(released.rows_affected()).unwrap_or(u32::MAX);
        let members = lease_group::release(&mut tx, slot, token, deliveries, now).await?;
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

impl PostgresStore {
    /// For each hook, the `next_attempt_at` before which it has no due row.
    fn due_cursor(
        &self,
        request: &LeaseRequest,
        wanted: &BTreeMap<HookId, u32>,
        at: Instant,
    ) -> Vec<Option<Timestamp>> {
        let due_cursor = self
            .due_cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let hooks = wanted.keys();
        hooks
            .map(|hook| due_cursor.of(request.slot, *hook, request.now, at))
            .collect()
    }

    /// Remembers up to which `next_attempt_at` each hook has no due row now: a hook that gave less
    /// than was wanted has none left.
    fn note_emptied(
        &self,
        request: &LeaseRequest,
        wanted: &BTreeMap<HookId, u32>,
        from: &[Option<Timestamp>],
        taken: &[LeasedRow],
        at: Instant,
    ) {
        let mut given: HashMap<HookId, (u32, Timestamp)> = HashMap::new();
        for taken in taken {
            let (count, last) = given.entry(taken.hook).or_insert((0, taken.due));
            *count += 1;
            *last = taken.due.max(*last);
        }
        let mut due_cursor = self
            .due_cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((hook, places), from) in wanted.iter().zip(from) {
            // A hook that gave nothing may have been skipped: it is not active, say.
            if let Some((count, last)) = given.get(hook) {
                let until = match count < places {
                    true => request.now,
                    false => *last,
                };
                due_cursor.emptied(request.slot, *hook, *from, until, at);
            }
        }
    }
}

/// The number of requests to lease of each hook. Whether a hook is active is decided by the
/// statement.
fn wanted(request: &LeaseRequest, cache: &HookCache) -> BTreeMap<HookId, u32> {
    let locked = |hook: &HookId| cache.get(*hook).is_some_and(|hook| hook.locked);
    let wanted = request.wanted.iter().copied();
    wanted
        .filter(|(hook, places)| *places > 0 && !locked(hook))
        .collect()
}

/// Leases from hooks without an order, longest due first. The number is the version of the hooks at
/// that time, `None` if nothing was due.
async fn take(
    connection: &mut Connection,
    request: &LeaseRequest,
    wanted: &BTreeMap<HookId, u32>,
    from: &[Option<Timestamp>],
) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    // A step for each wanted hook along the index of waiting rows, which stops at its places. A row
    // that another worker is just leasing is skipped, not waited for. Rows are changed at the ctid
    // where they were locked: no plan can look for them again.
    let rows = sqlx::query(concat!(
        "-- postrider: lease
        WITH owned AS MATERIALIZED (
            SELECT hook_id FROM postrider_gates
            WHERE hook_id = ANY($2) AND owner = $7 AND until > $4
            FOR SHARE
        ), due AS MATERIALIZED (
            SELECT d.place
            FROM unnest($2::uuid[], $3::bigint[], $8::timestamptz[])
                AS wanted (hook_id, places, due_cursor)
            JOIN postrider_hooks AS h
              ON h.id = wanted.hook_id AND h.status = 'active' AND h.deleted_at IS NULL
                 AND NOT h.ordered
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = wanted.hook_id
            CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = wanted.hook_id AND lease_token IS NULL
                  AND next_attempt_at >= coalesce(wanted.due_cursor, '-infinity')
                  AND next_attempt_at <= $4
                ORDER BY next_attempt_at LIMIT wanted.places
                FOR UPDATE SKIP LOCKED
            ) AS d
            WHERE (NOT h.limited AND health.phase IS NULL)
               OR wanted.hook_id IN (SELECT hook_id FROM owned)
        )
        UPDATE postrider_deliveries SET lease_token = $5, lease_expires_at = $6
        WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM due))
        RETURNING ",
        taken_columns!(),
    ))
    .bind(request.slot) // $1 slot
    .bind(wanted.keys().map(|hook| hook.0).bind_iter()) // $2 hook_id
    .bind(wanted.values().map(|places| i64::from(*places)).bind_iter()) // $3 places
    .bind(request.now) // $4 now
    .bind(request.token.0) // $5 token
    .bind(request.until) // $6 expires_at
    .bind(request.worker.0) // $7 worker
    .bind(from) // $8 due_cursor
    .fetch_all(connection)
    .await?;
    read_leased(&rows)
}

/// The events of the deliveries, one look at one partition for each day. Each day has a statement of
/// its own, so that its plan knows no other partition.
async fn events_of(
    connection: &mut Connection,
    slot: i16,
    taken: &[LeasedRow],
) -> Result<LeasedEvents> {
    let mut by_day: BTreeMap<NaiveDate, BTreeSet<Uuid>> = BTreeMap::new();
    for taken in taken {
        by_day.entry(taken.day).or_default().insert(taken.event.0);
    }
    let mut events = HashMap::with_capacity(taken.len());
    for (day, ids) in by_day {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "-- postrider: lease_events
            SELECT e.*
            FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT id, account, event_type, payload::text, ordering_key, headers::text,
                       occurred_at
                FROM postrider_events
                WHERE slot = $1 AND day = {} AND id = i.id AND erased_at IS NULL LIMIT 1
            ) AS e",
            literal(day)
        )))
        .bind(slot)
        .bind(ids.into_iter().bind_iter())
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let id = EventId(row.try_get("id")?);
            let event = Event {
                id,
                account: row.try_get("account")?,
                event_type: row.try_get("event_type")?,
                payload: Payload::from_checked(row.try_get::<&str, _>("payload")?),
                ordering_key: row.try_get("ordering_key")?,
                headers: row.try_get("headers")?,
                occurred_at: row.try_get("occurred_at")?,
            };
            events.insert((day, id), Arc::new(event));
        }
    }
    Ok(events)
}

async fn release_unfit(
    connection: &mut Connection,
    request: &LeaseRequest,
    unfit: &[Unfit],
) -> Result<()> {
    let later = request.now + UNFIT_WAIT;
    let without_event = unfit.iter().filter(|u| matches!(u, Unfit::Event(_)));
    let without_event: Vec<_> = without_event.map(|unfit| unfit.id().0).collect();
    if !without_event.is_empty() {
        let count = without_event.len();
        tracing::error!(
            deliveries = count,
            "The events of {count} deliveries are gone: they are not attempted"
        );
        leave(connection, request.slot, &without_event).await?;
    }
    target::warn_of_sealed(unfit.iter().filter_map(|unfit| match unfit {
        Unfit::Target(id, error) => Some((*id, error)),
        Unfit::Hook(_) | Unfit::Event(_) => None,
    }));
    sqlx::query(concat!(
        "-- postrider: lease_release_unfit
        UPDATE postrider_deliveries AS d
        SET lease_token = NULL, lease_expires_at = NULL, ",
        waits_until!("d.", "coalesce(u.later, $5)"),
        " FROM unnest($3::uuid[], $4::timestamptz[]) AS u (id, later)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM postrider_deliveries
            WHERE slot = $1 AND id = u.id LIMIT 1
        ) AS found
        WHERE d.slot = $1 AND d.ctid = found.place AND d.lease_token = $2",
    ))
    .bind(request.slot) // $1 slot
    .bind(request.token.0) // $2 token
    .bind(unfit.iter().map(|unfit| unfit.id().0).bind_iter()) // $3 id
    .bind(
        unfit
            .iter()
            .map(|unfit| unfit.stays().then_some(later))
            .bind_iter(),
    ) // $4 later
    .bind(request.now) // $5 now
    .execute(connection)
    .await?;
    Ok(())
}
