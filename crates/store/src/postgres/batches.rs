//! Batches: cut by a lease, leased as a whole, and given a new leader.
//!
//! The leader's row is locked before those of the members: its lock is the right to the batch.
//! One worker at a time cuts the deliveries of a hook, so that its batches are as full as they can
//! be.

use super::connection::Connection;
use super::days::literal;
use super::health::make_durable;
use super::leased_rows::{read_leased, taken_columns};
use crate::batch::{BatchKey, Candidate, Unit, cut, looked_at};
use crate::lease::LeasedRow;
use crate::{LeaseRequest, Result};
use chrono::NaiveDate;
use postrider_core::{Batching, DeliveryId, HookId};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Leases from hooks whose deliveries are batched: new batches, leaders of earlier ones, and
/// deliveries that are in none. The number is the version of the hooks at that time, `None` if
/// nothing was leased.
pub(super) async fn take_batches(
    connection: &mut Connection,
    request: &LeaseRequest,
    mut wanted: BTreeMap<HookId, (u32, Batching)>,
) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let cutting = begin_cutting(connection, request.slot, &wanted).await?;
    wanted.retain(|hook, _| cutting.contains(&hook.0));
    if wanted.is_empty() {
        return Ok((None, Vec::new()));
    }
    let mut found = due_or_batching(connection, request, &wanted).await?;
    read_batch_keys(connection, request.slot, &mut found).await?;
    let mut units = Vec::new();
    for (hook, (places, batching)) in &wanted {
        let Some(of_hook) = found.remove(hook) else {
            continue;
        };
        let all = of_hook.len() < looked_at(*places, batching) as usize;
        let candidates: Vec<_> = of_hook.into_iter().map(|found| found.candidate).collect();
        units.extend(cut(&candidates, batching.most, *places, all));
    }
    match units.is_empty() {
        true => Ok((None, Vec::new())),
        false => lease_units(connection, request, &units).await,
    }
}

/// The hooks of which this transaction alone cuts batches until its end.
async fn begin_cutting(
    connection: &mut Connection,
    slot: i16,
    wanted: &BTreeMap<HookId, (u32, Batching)>,
) -> Result<BTreeSet<Uuid>> {
    let hooks: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: lease_cutting
        SELECT hook_id FROM unnest($2::uuid[]) AS w (hook_id)
        WHERE pg_try_advisory_xact_lock('postrider_deliveries'::regclass::oid::integer,
                                        hashtext($1::smallint::text || hook_id::text))",
    )
    .bind(slot)
    .bind(wanted.keys().map(|hook| hook.0).bind_iter())
    .fetch_all(connection)
    .await?;
    Ok(hooks.into_iter().collect())
}

/// A delivery that may be leased, and the key of its event.
struct Found {
    candidate: Candidate,
    day: NaiveDate,
    event: Uuid,
}

/// Deliveries of these hooks that are due or may go in a batch with one that is, locked, the longest
/// due first.
async fn due_or_batching(
    connection: &mut Connection,
    request: &LeaseRequest,
    wanted: &BTreeMap<HookId, (u32, Batching)>,
) -> Result<HashMap<HookId, Vec<Found>>> {
    // Due rows by the index of waiting rows; those in their batch window as far as the window can
    // reach. Not more rows than fill the wanted requests.
    let rows = sqlx::query(
        "-- postrider: lease_batching
        WITH owned AS MATERIALIZED (
            SELECT hook_id FROM postrider_gates
            WHERE hook_id = ANY($2) AND owner = $6 AND until > $5
            FOR SHARE
        )
        SELECT d.hook_id, d.id, d.day, d.event_id, d.event_seq, d.next_attempt_at <= $5 AS is_due,
               d.batch_id IS NULL AND d.attempts = 0 AND d.lost_leases = 0 AS is_uncut
        FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[])
            AS wanted (hook_id, deliveries, until)
        JOIN postrider_hooks AS h
          ON h.id = wanted.hook_id AND h.status = 'active' AND h.deleted_at IS NULL
             AND NOT h.ordered
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = wanted.hook_id
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_deliveries
            WHERE slot = $1 AND hook_id = wanted.hook_id AND lease_token IS NULL
              AND next_attempt_at <= wanted.until
              AND (next_attempt_at <= $5
                   OR (turn_at <= $5 AND batch_id IS NULL AND attempts = 0 AND lost_leases = 0))
            ORDER BY next_attempt_at LIMIT wanted.deliveries
            FOR UPDATE SKIP LOCKED
        ) AS d
        WHERE (NOT h.limited AND health.phase IS NULL)
           OR wanted.hook_id IN (SELECT hook_id FROM owned)
        ORDER BY d.hook_id, d.next_attempt_at, d.event_seq",
    )
    .bind(request.slot) // $1 slot
    .bind(wanted.keys().map(|hook| hook.0).bind_iter()) // $2 hook_id
    .bind(
        wanted
            .values()
            .map(|(places, batching)| i64::from(looked_at(*places, batching)))
            .bind_iter(),
    ) // $3 deliveries
    .bind(
        wanted
            .values()
            .map(|(_, batching)| request.now + batching.window)
            .bind_iter(),
    ) // $4 until
    .bind(request.now) // $5 now
    .bind(request.worker.0) // $6 worker
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<HookId, Vec<Found>> = HashMap::new();
    for row in rows {
        let is_uncut: bool = row.try_get("is_uncut")?;
        let candidate = Candidate {
            id: DeliveryId(row.try_get("id")?),
            seq: row.try_get("event_seq")?,
            due: row.try_get("is_due")?,
            key: is_uncut.then(BatchKey::default),
        };
        found
            .entry(HookId(row.try_get("hook_id")?))
            .or_default()
            .push(Found {
                candidate,
                day: row.try_get("day")?,
                event: row.try_get("event_id")?,
            });
    }
    Ok(found)
}

/// Reads the batch keys of the candidates; one whose event is gone goes in no batch.
async fn read_batch_keys(
    connection: &mut Connection,
    slot: i16,
    found: &mut HashMap<HookId, Vec<Found>>,
) -> Result<()> {
    let mut by_day: BTreeMap<NaiveDate, BTreeSet<Uuid>> = BTreeMap::new();
    for found in found.values().flatten() {
        if found.candidate.key.is_some() {
            by_day.entry(found.day).or_default().insert(found.event);
        }
    }
    let mut events: HashMap<Uuid, BatchKey> = HashMap::new();
    for (day, ids) in by_day {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "-- postrider: lease_kinds
            SELECT e.*
            FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT id, event_type, headers::text,
                       octet_length(payload::text)::bigint AS bytes
                FROM postrider_events
                WHERE slot = $1 AND day = {} AND id = i.id AND erased_at IS NULL LIMIT 1
            ) AS e",
            literal(day)
        )))
        .bind(slot)
        .bind(ids.into_iter().bind_iter())
        .try_map(|row: PgRow| {
            let key = BatchKey {
                event_type: row.try_get("event_type")?,
                headers: row.try_get("headers")?,
                bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
            };
            Ok((row.try_get("id")?, key))
        })
        .fetch_all(&mut *connection)
        .await?;
        events.extend(rows);
    }
    for found in found.values_mut().flatten() {
        if found.candidate.key.is_some() {
            found.candidate.key = events.get(&found.event).cloned();
        }
    }
    Ok(())
}

/// Leases these, whose rows are locked. The commit of a cut is durable: a batch that was sent must be
/// known after a crash.
async fn lease_units(
    connection: &mut Connection,
    request: &LeaseRequest,
    units: &[Unit],
) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let mut deliveries: Vec<(Uuid, Option<Uuid>)> = Vec::new();
    for unit in units {
        match unit {
            Unit::Found(id) => deliveries.push((id.0, None)),
            Unit::Cut(ids) => {
                let batch = ids.first().map(|first| first.0);
                deliveries.extend(ids.iter().map(|id| (id.0, batch)));
            }
        }
    }
    if deliveries.iter().any(|(_, batch)| batch.is_some()) {
        make_durable(connection).await?;
    }
    // The rows are locked, so the primary key finds them where they are. One that is in a batch
    // keeps it: coalesce.
    let rows = sqlx::query(concat!(
        "-- postrider: lease_cut
        UPDATE postrider_deliveries
        SET lease_token = $4, lease_expires_at = $5, batch_id = coalesce(batch_id, found.batch)
        FROM (
            SELECT d.place, i.batch
            FROM unnest($2::uuid[], $3::uuid[]) AS i (delivery, batch) CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND id = i.delivery LIMIT 1
            ) AS d
        ) AS found
        WHERE slot = $1 AND ctid = found.place
        RETURNING ",
        taken_columns!(),
    ))
    .bind(request.slot) // $1 slot
    .bind(deliveries.iter().map(|(id, _)| *id).bind_iter()) // $2 delivery
    .bind(deliveries.iter().map(|(_, batch)| *batch).bind_iter()) // $3 batch
    .bind(request.token.0) // $4 token
    .bind(request.until) // $5 expires_at
    .fetch_all(connection)
    .await?;
    read_leased(&rows)
}

/// Leases the members of the batches whose leaders were taken.
pub(super) async fn take_batch_members(
    connection: &mut Connection,
    request: &LeaseRequest,
    taken: &mut Vec<LeasedRow>,
) -> Result<()> {
    let leaders = taken.iter().filter(|row| row.is_leader());
    let batches: Vec<_> = leaders.map(|row| row.id.0).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(concat!(
        "-- postrider: lease_batch_members
        UPDATE postrider_deliveries SET lease_token = $3, lease_expires_at = $4
        WHERE slot = $1 AND batch_id = ANY($2) AND batch_id IS NOT NULL AND lease_token IS NULL
        RETURNING ",
        taken_columns!(),
    ))
    .bind(request.slot) // $1 slot
    .bind(batches) // $2 batches
    .bind(request.token.0) // $3 token
    .bind(request.until) // $4 expires_at
    .fetch_all(connection)
    .await?;
    let (_, members) = read_leased(&rows)?;
    taken.extend(members);
    Ok(())
}

/// Takes deliveries out of their batches, which are leased.
pub(super) async fn leave(connection: &mut Connection, slot: i16, leaving: &[Uuid]) -> Result<()> {
    sqlx::query(
        "-- postrider: batch_leave
        UPDATE postrider_deliveries SET batch_id = NULL
        WHERE slot = $1 AND id = ANY($2) AND batch_id IS NOT NULL",
    )
    .bind(slot)
    .bind(leaving)
    .execute(&mut *connection)
    .await?;
    replace_leaders(connection, slot, leaving).await
}

/// Where one of these deliveries, which have ended or left their batches, was a leader, the first
/// remaining member becomes the leader.
pub(super) async fn replace_leaders(
    connection: &mut Connection,
    slot: i16,
    left: &[Uuid],
) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    // Locked: a member that is just leaving is waited for, and does not become the leader.
    let rest: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "-- postrider: batch_rest
        SELECT batch_id, id FROM postrider_deliveries
        WHERE slot = $1 AND batch_id = ANY($2) AND batch_id IS NOT NULL
        ORDER BY event_seq DESC, id DESC FOR UPDATE",
    )
    .bind(slot)
    .bind(left)
    .fetch_all(&mut *connection)
    .await?;
    // Of each the last one that is read comes first in the order of the outbox.
    let firsts: HashMap<_, _> = rest.into_iter().collect();
    if firsts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: batch_lead
        UPDATE postrider_deliveries AS d
        SET batch_id = f.id,
            next_attempt_at = CASE WHEN d.id = f.id THEN coalesce(d.turn_at, d.next_attempt_at)
                                   ELSE d.next_attempt_at END,
            turn_at = CASE WHEN d.id = f.id THEN NULL ELSE d.turn_at END
        FROM unnest($2::uuid[], $3::uuid[]) AS f (batch_id, id)
        WHERE d.slot = $1 AND d.batch_id = f.batch_id AND d.batch_id IS NOT NULL",
    )
    .bind(slot) // $1 slot
    .bind(firsts.keys().copied().bind_iter()) // $2 batch_id
    .bind(firsts.values().copied().bind_iter()) // $3 id
    .execute(connection)
    .await?;
    Ok(())
}

/// [`replace_leaders`] for deliveries of several slots.
pub(super) async fn replace_leaders_of(
    connection: &mut Connection,
    left: &[(i16, Uuid)],
) -> Result<()> {
    let mut by_slot: BTreeMap<i16, Vec<Uuid>> = BTreeMap::new();
    for (slot, id) in left {
        by_slot.entry(*slot).or_default().push(*id);
    }
    for (slot, left) in by_slot {
        replace_leaders(connection, slot, &left).await?;
    }
    Ok(())
}
