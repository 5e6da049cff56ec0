//! Ordered hooks: only the first delivery of each key is leased, and what ends it gives the next
//! its turn in the same transaction.
//!
//! Before it blocks a delivery, a lease locks the first of its key: the first cannot end meanwhile
//! and leave the other blocked for ever. The rows alone show which delivery is the first, so no
//! state is lost with a worker.

use super::connection::Connection;
use super::leased_rows::{read_leased, taken_columns};
use super::row_state::no_time;
use crate::lease::LeasedRow;
use crate::order::{Due, First, Turns, turns};
use crate::{LeaseRequest, Result};
use postrider_core::{DeliveryId, HookId, Timestamp};
use sqlx::Row;
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use uuid::Uuid;

/// How often a lease looks for more when much of what was due is not the first of its key.
const ROUNDS: usize = 4;
/// How many rows each round reads beyond the wanted number.
const SPARE: [i64; ROUNDS] = [16, 1_000, 1_000, 1_000];

/// Takes the right to fan out a slot; `false` when another worker has it. With it events come in
/// the order of `seq` over all workers. It lasts as long as the transaction.
pub(super) async fn hold_order(connection: &mut Connection, slot: i16) -> Result<bool> {
    let held = sqlx::query_scalar(
        "-- postrider: fan_out_order
        SELECT pg_try_advisory_xact_lock('postrider_outbox'::regclass::oid::integer, $1)",
    )
    .bind(i32::from(slot))
    .fetch_one(connection)
    .await?;
    Ok(held)
}

/// Leases from ordered hooks that the worker owns: the first of each key, if it is due, and what
/// has no key. Tells the version of the hooks that decided, unless nothing was leased.
pub(super) async fn take_in_turn(
    connection: &mut Connection,
    request: &LeaseRequest,
    mut places: BTreeMap<HookId, u32>,
) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let (mut version, mut taken) = (None, Vec::new());
    for spare in SPARE {
        let due = due_in_turn(connection, request, &places, spare).await?;
        let Turns {
            go,
            blocked,
            stranded,
        } = turns(due, &mut places);
        if !go.is_empty() {
            let (decided, leased) = lease_these(connection, request, &go).await?;
            version = version.or(decided);
            taken.extend(leased);
        }
        if !stranded.is_empty() {
            let keys = stranded.iter().map(|(hook, key)| (*hook, key.as_str()));
            give_turns(connection, request.slot, keys.collect(), request.now).await?;
        }
        if blocked.is_empty() {
            break;
        }
        block(connection, request.slot, &blocked).await?;
        places.retain(|_, left| *left > 0);
        if places.is_empty() {
            break;
        }
    }
    Ok((version, taken))
}

/// What is due of these hooks, locked, the longest due first.
async fn due_in_turn(
    connection: &mut Connection,
    request: &LeaseRequest,
    places: &BTreeMap<HookId, u32>,
    spare: i64,
) -> Result<Vec<Due>> {
    // The first of a key is the one with the lowest event_seq: one step along the index of keys
    // for each due row, however many deliveries the key has.
    let due = sqlx::query(concat!(
        "-- postrider: lease_in_turn
        WITH owned AS MATERIALIZED (
            SELECT hook_id FROM postrider_gates
            WHERE hook_id = ANY($2) AND owner = $5 AND until > $4
            FOR SHARE
        ), due AS MATERIALIZED (
            SELECT d.id, d.hook_id, d.ordering_key
            FROM unnest($2::uuid[], $3::bigint[]) AS wanted (hook_id, places)
            JOIN postrider_hooks AS h
              ON h.id = wanted.hook_id AND h.status = 'active' AND h.deleted_at IS NULL
                 AND h.ordered
            CROSS JOIN LATERAL (
                SELECT id, hook_id, ordering_key FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = wanted.hook_id AND lease_token IS NULL
                  AND next_attempt_at <= $4
                ORDER BY next_attempt_at LIMIT wanted.places + $6
                FOR UPDATE SKIP LOCKED
            ) AS d
            WHERE wanted.hook_id IN (SELECT hook_id FROM owned)
        )
        SELECT due.id, due.hook_id, due.ordering_key, first.id AS first_id, first.stranded,
               (SELECT l.ordering_key FROM postrider_deliveries AS l
                WHERE l.slot = $1 AND l.hook_id = due.hook_id
                  AND l.ordering_key = due.ordering_key
                  AND l.ordering_key IS NOT NULL AND l.lease_token IS NOT NULL
                LIMIT 1) IS NOT NULL AS busy
        FROM due LEFT JOIN LATERAL (
            SELECT id, turn_at IS NOT NULL AND next_attempt_at >= ",
        no_time!(),
        " AS stranded
            FROM postrider_deliveries AS f
            WHERE f.slot = $1 AND f.hook_id = due.hook_id AND f.ordering_key = due.ordering_key
              AND f.ordering_key IS NOT NULL
            ORDER BY event_seq LIMIT 1
        ) AS first ON true",
    ))
    .bind(request.slot) // $1 slot
    .bind(places.keys().map(|hook| hook.0).bind_iter()) // $2 hook_id
    .bind(places.values().map(|places| i64::from(*places)).bind_iter()) // $3 places
    .bind(request.now) // $4 now
    .bind(request.worker.0) // $5 worker
    .bind(spare) // $6 spare
    .try_map(|row: PgRow| {
        let first: Option<Uuid> = row.try_get("first_id")?;
        let key: Option<String> = row.try_get("ordering_key")?;
        let key = match key.zip(first) {
            None => None,
            Some((key, first)) => {
                let first = First {
                    id: DeliveryId(first),
                    stranded: row.try_get("stranded")?,
                    busy: row.try_get("busy")?,
                };
                Some((key, first))
            }
        };
        Ok(Due {
            id: DeliveryId(row.try_get("id")?),
            hook: HookId(row.try_get("hook_id")?),
            key,
        })
    })
    .fetch_all(connection)
    .await?;
    Ok(due)
}

/// Leases these, whose rows are locked.
async fn lease_these(
    connection: &mut Connection,
    request: &LeaseRequest,
    ids: &[DeliveryId],
) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let rows = sqlx::query(concat!(
        "-- postrider: lease_first
        UPDATE postrider_deliveries SET lease_token = $3, lease_expires_at = $4
        WHERE slot = $1 AND ctid = ANY(ARRAY(
            SELECT d.place FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND id = i.id LIMIT 1
            ) AS d
        ))
        RETURNING ",
        taken_columns!(),
    ))
    .bind(request.slot) // $1 slot
    .bind(ids.iter().map(|id| id.0).bind_iter()) // $2 id
    .bind(request.token.0) // $3 token
    .bind(request.until) // $4 expires_at
    .fetch_all(connection)
    .await?;
    read_leased(&rows)
}

/// Blocks deliveries whose rows are locked. Each comes with the first of its key. If that first has
/// ended or is locked by another transaction, the delivery stays due, and the next round reads it.
async fn block(
    connection: &mut Connection,
    slot: i16,
    blocked: &[(DeliveryId, DeliveryId)],
) -> Result<()> {
    let firsts: BTreeSet<_> = blocked.iter().map(|(_, first)| first.0).collect();
    let there: HashSet<Uuid> = sqlx::query_scalar(
        "-- postrider: lease_before
        SELECT d.id FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
            SELECT id FROM postrider_deliveries
            WHERE slot = $1 AND id = i.id LIMIT 1 FOR SHARE SKIP LOCKED
        ) AS d",
    )
    .bind(slot)
    .bind(firsts.into_iter().bind_iter())
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let waiting = blocked.iter().filter(|(_, first)| there.contains(&first.0));
    let waiting: Vec<_> = waiting.map(|(id, _)| id.0).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    // turn_at has the due time from now on: see `RowState::Blocked`.
    sqlx::query(concat!(
        "-- postrider: lease_block
        UPDATE postrider_deliveries SET turn_at = next_attempt_at, next_attempt_at = ",
        no_time!(),
        " WHERE slot = $1 AND ctid = ANY(ARRAY(
            SELECT d.place FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND id = i.id LIMIT 1
            ) AS d
        ))",
    ))
    .bind(slot)
    .bind(waiting)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the first delivery of each of these keys its turn, if it is blocked: it is due from now on,
/// or later at its own time.
pub(super) async fn give_turns(
    connection: &mut Connection,
    slot: i16,
    keys: Vec<(HookId, &str)>,
    now: Timestamp,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // Only the first of each key, and only if it is blocked: one that was leased or became due
    // meanwhile stays as it is.
    sqlx::query(concat!(
        "-- postrider: give_turns
        UPDATE postrider_deliveries
        SET next_attempt_at = greatest(turn_at, $4), turn_at = NULL
        WHERE slot = $1 AND turn_at IS NOT NULL AND next_attempt_at >= ",
        no_time!(),
        " AND ctid = ANY(ARRAY(
            SELECT first.place
            FROM unnest($2::uuid[], $3::text[]) AS k (hook_id, ordering_key)
            CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = k.hook_id AND ordering_key = k.ordering_key
                  AND ordering_key IS NOT NULL
                ORDER BY event_seq LIMIT 1
            ) AS first
        ))",
    ))
    .bind(slot) // $1 slot
    .bind(keys.iter().map(|(hook, _)| hook.0).bind_iter()) // $2 hook_id
    .bind(keys.iter().map(|(_, key)| *key).bind_iter()) // $3 ordering_key
    .bind(now) // $4 now
    .execute(connection)
    .await?;
    Ok(())
}
