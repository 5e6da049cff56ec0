//! Who may attempt which delivery: leased, and given back.
//!
//! No statement looks at more of a backlog than it takes: hooks are stepped through by the
//! first columns of an index, and each gives at most what was asked of it. Rows are looked up
//! one by one through the primary key and changed at the place where they were found, which no
//! outdated estimate can turn into a walk over all of them.

use super::PostgresStore;
use super::batches::{leave, take_along, take_batches, waits_until};
use super::lease_group;
use super::order::take_in_turn;
use crate::Result;
use crate::batch::{take_batched, together};
use crate::{DueHook, HookCache, LeaseRequest, Leased, target};
use chrono::{NaiveDate, TimeDelta};
use postrider_core::{
    DeliveryId, Event, EventId, HookId, KeyRing, LeaseToken, Payload, SealError, Timestamp,
};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use uuid::Uuid;

/// How long a delivery is left alone whose event is gone, or whose target cannot be opened: it
/// must not stand in the way of those behind it.
const UNFIT_WAIT: TimeDelta = TimeDelta::hours(1);

impl PostgresStore {
    pub(super) async fn due_hooks(
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

    pub(super) async fn slots(&self) -> Result<Vec<i16>> {
        let slots = sqlx::query_scalar(
            "-- postrider: slots
            -- Backwards: those that stand are mostly the newest, behind all that are dead. Leases
            -- are few, and not in the order of their slots.
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

    pub(super) async fn lease(&self, request: &LeaseRequest) -> Result<Vec<Leased>> {
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
        let began = Instant::now();
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
        take_along(&mut tx, request, &mut taken).await?;
        let Some(version) = version else {
            // Deliveries may have been put behind others.
            tx.commit().await?;
            return Ok(Vec::new());
        };
        let cache = self.hooks_at(&mut tx, version).await?;
        let events = events_of(&mut tx, request.slot, &taken).await?;
        let (leased, unfit): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|taken| {
                let seq = taken.seq;
                Ok((seq, fit_out(taken, request, &cache, &events, &self.keys)?))
            })
            .partition(std::result::Result::is_ok);
        let unfit: Vec<_> = unfit
            .into_iter()
            .filter_map(std::result::Result::err)
            .collect();
        if !unfit.is_empty() {
            give_back(&mut tx, request, &unfit).await?;
        }
        tx.commit().await?;
        Ok(together(leased.into_iter().flatten().collect()))
    }

    /// From where on to look for what is due of each hook.
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

    /// Remembers up to where each hook's queue is empty now: a hook that gave less than was
    /// wanted has nothing left that is due.
    fn note_emptied(
        &self,
        request: &LeaseRequest,
        wanted: &BTreeMap<HookId, u32>,
        from: &[Option<Timestamp>],
        taken: &[Taken],
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
            // One that gave nothing may have been passed over.
            if let Some((count, last)) = given.get(hook) {
                let until = match count < places {
                    true => request.now,
                    false => *last,
                };
                due_cursor.emptied(request.slot, *hook, *from, until, at);
            }
        }
    }

    pub(super) async fn release(
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
        let members = lease_group::give_back(&mut tx, slot, token, deliveries, now).await?;
        tx.commit().await?;
        Ok(released + members)
    }
}

/// What may be leased, each hook once; hooks that became active since are told by the
/// statement itself.
fn wanted(request: &LeaseRequest, cache: &HookCache) -> BTreeMap<HookId, u32> {
    let locked = |hook: &HookId| cache.get(*hook).is_some_and(|hook| hook.locked);
    let wanted = request.wanted.iter().copied();
    wanted
        .filter(|(hook, places)| *places > 0 && !locked(hook))
        .collect()
}

/// A delivery that was leased, without what is needed to attempt it.
pub(super) struct Taken {
    id: DeliveryId,
    seq: i64,
    batch: Option<DeliveryId>,
    day: NaiveDate,
    event: EventId,
    hook: HookId,
    attempts: i32,
    earlier_attempts: i32,
    due: Timestamp,
    target: Option<String>,
}

/// What is read of a delivery that is leased, and the version of the hooks.
macro_rules! taken_columns {
    () => {
        "id, day, event_id, hook_id, attempts, earlier_attempts, next_attempt_at,
                  (SELECT hooks_version FROM postrider_meta WHERE singleton), target,
                  event_seq, batch_id"
    };
}
pub(super) use taken_columns;

impl Taken {
    /// What was leased, longest due first, and the version of the hooks that decided; `None` when
    /// there is nothing.
    pub(super) fn read(rows: &[PgRow]) -> Result<(Option<i64>, Vec<Self>)> {
        let version = rows.first().map(|row| row.try_get(7)).transpose()?;
        let taken = rows.iter().map(|row| {
            Ok(Self {
                id: DeliveryId(row.try_get(0)?),
                day: row.try_get(1)?,
                event: EventId(row.try_get(2)?),
                hook: HookId(row.try_get(3)?),
                attempts: row.try_get(4)?,
                earlier_attempts: row.try_get(5)?,
                due: row.try_get(6)?,
                target: row.try_get(8)?,
                seq: row.try_get(9)?,
                batch: row.try_get::<Option<Uuid>, _>(10)?.map(DeliveryId),
            })
        });
        let mut taken = taken.collect::<std::result::Result<Vec<_>, sqlx::Error>>()?;
        taken.sort_unstable_by_key(|taken| (taken.due, taken.id));
        Ok((version, taken))
    }

    /// The batch that it is the first of.
    pub(super) fn leads(&self) -> Option<Uuid> {
        self.batch.filter(|batch| *batch == self.id).map(|id| id.0)
    }
}

/// Why a delivery that was leased is given back.
enum Unfit {
    /// Its hook is not to be sent to.
    Hook(DeliveryId),
    /// Its event is gone.
    Event(DeliveryId),
    /// Where it goes cannot be opened with our keys.
    Target(DeliveryId, SealError),
}

impl Unfit {
    fn id(&self) -> DeliveryId {
        match self {
            Self::Hook(id) | Self::Event(id) | Self::Target(id, _) => *id,
        }
    }

    /// Whether it cannot be attempted for as long as nobody mends that.
    fn stays(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Target(..))
    }
}

/// Leases from hooks without an order, longest due first, and tells the version of the hooks that
/// decided; `None` when nothing was due.
async fn take(
    connection: &mut PgConnection,
    request: &LeaseRequest,
    wanted: &BTreeMap<HookId, u32>,
    from: &[Option<Timestamp>],
) -> Result<(Option<i64>, Vec<Taken>)> {
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
    .bind(request.slot)
    .bind(wanted.keys().map(|hook| hook.0).bind_iter())
    .bind(wanted.values().map(|places| i64::from(*places)).bind_iter())
    .bind(request.now)
    .bind(request.token.0)
    .bind(request.until)
    .bind(request.worker.0)
    .bind(from)
    .fetch_all(connection)
    .await?;
    Taken::read(&rows)
}

/// The events of the deliveries, one look at one partition for each day.
async fn events_of(
    connection: &mut PgConnection,
    slot: i16,
    taken: &[Taken],
) -> Result<HashMap<EventId, Arc<Event>>> {
    let mut by_day: BTreeMap<NaiveDate, BTreeSet<Uuid>> = BTreeMap::new();
    for taken in taken {
        by_day.entry(taken.day).or_default().insert(taken.event.0);
    }
    let mut events = HashMap::with_capacity(taken.len());
    for (day, ids) in by_day {
        let rows = sqlx::query(
            "-- postrider: lease_events
            SELECT e.*
            FROM unnest($3::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT id, account, event_type, payload::text, ordering_key, headers::text,
                       occurred_at
                FROM postrider_events
                WHERE slot = $1 AND day = $2 AND id = i.id AND erased_at IS NULL LIMIT 1
            ) AS e",
        )
        .bind(slot)
        .bind(day)
        .bind(ids.into_iter().bind_iter())
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let id = EventId(row.try_get(0)?);
            let event = Event {
                id,
                account: row.try_get(1)?,
                event_type: row.try_get(2)?,
                payload: Payload::from_checked(row.try_get::<&str, _>(3)?),
                ordering_key: row.try_get(4)?,
                headers: row.try_get(5)?,
                occurred_at: row.try_get(6)?,
            };
            events.insert(id, Arc::new(event));
        }
    }
    Ok(events)
}

fn fit_out(
    taken: Taken,
    request: &LeaseRequest,
    cache: &HookCache,
    events: &HashMap<EventId, Arc<Event>>,
    keys: &KeyRing,
) -> std::result::Result<Leased, Unfit> {
    let hook = cache.get(taken.hook).filter(|hook| !hook.locked);
    let hook = hook.ok_or(Unfit::Hook(taken.id))?.clone();
    let event = events.get(&taken.event).ok_or(Unfit::Event(taken.id))?;
    let target = target::open(keys, taken.hook, taken.target.as_deref());
    let target = target.map_err(|error| Unfit::Target(taken.id, error))?;
    Ok(Leased {
        slot: request.slot,
        id: taken.id,
        day: taken.day,
        event: event.clone(),
        hook,
        target,
        attempts: taken.attempts.unsigned_abs(),
        earlier_attempts: taken.earlier_attempts.unsigned_abs(),
        token: request.token,
        expires_at: request.until,
        fresh: None,
        batch: taken.batch,
        companions: Vec::new(),
    })
}

async fn give_back(
    connection: &mut PgConnection,
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
        "-- postrider: lease_give_back
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
    .bind(request.slot)
    .bind(request.token.0)
    .bind(unfit.iter().map(|unfit| unfit.id().0).bind_iter())
    .bind(
        unfit
            .iter()
            .map(|unfit| unfit.stays().then_some(later))
            .bind_iter(),
    )
    .bind(request.now)
    .execute(connection)
    .await?;
    Ok(())
}
