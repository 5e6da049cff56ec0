//! Ordered hooks: only the first delivery of each key is leased, and what ends it gives the next
//! its turn in the same transaction.
//!
//! There is one writer, so what a transaction sees of a key stays so until its commit.

use super::leased_rows::leased_columns;
use super::values::{micros, rows};
use crate::lease::LeasedRow;
use crate::order::{Due, First, turns};
use crate::row_state::NO_TIME;
use crate::{LeaseRequest, Result};
use postrider_core::{DeliveryId, HookId, Timestamp};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use uuid::Uuid;
use uuid::fmt::Simple;

/// How many more than can go are looked at, at first and when much of what was due is not the
/// first of its key.
const SPARE: [u32; 4] = [16, 1_000, 1_000, 1_000];

/// Leases from an ordered hook: the first of each key, if it is due, and what has no key.
pub(super) async fn lease_in_turn(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &LeaseRequest,
) -> Result<Vec<LeasedRow>> {
    let mut places = BTreeMap::from([(hook, limit)]);
    let mut leased = Vec::new();
    for spare in SPARE {
        let left = places.get(&hook).copied().unwrap_or_default();
        let due = due_in_turn(tx, hook, left.saturating_add(spare), request).await?;
        let turns = turns(due, &mut places);
        leased.extend(lease_these(tx, &turns.go, request).await?);
        let stranded = turns.stranded.iter();
        let stranded = stranded.map(|(hook, key)| (*hook, key.as_str()));
        give_turns(tx, stranded.collect(), request.now).await?;
        block(tx, &turns.blocked).await?;
        if turns.blocked.is_empty() || places.get(&hook) == Some(&0) {
            break;
        }
    }
    leased.sort_by_key(|row| (row.due, row.id));
    Ok(leased)
}

/// What is due of the hook, the longest due first.
async fn due_in_turn(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &LeaseRequest,
) -> Result<Vec<Due>> {
    let due: Vec<(Uuid, Option<String>)> = sqlx::query_as(
        "-- postrider: lease_in_turn
        SELECT id, ordering_key
        FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
        WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL AND next_attempt_at <= ?2
        ORDER BY next_attempt_at LIMIT ?3",
    )
    .bind(hook.0)
    .bind(micros(request.now))
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let mut firsts: BTreeMap<String, First> = BTreeMap::new();
    let mut found = Vec::with_capacity(due.len());
    for (id, key) in due {
        let key = match key {
            None => None,
            Some(key) => {
                let first = match firsts.get(&key) {
                    Some(first) => *first,
                    None => first_of(tx, hook, &key).await?,
                };
                firsts.insert(key.clone(), first);
                Some((key, first))
            }
        };
        found.push(Due {
            id: DeliveryId(id),
            hook,
            key,
        });
    }
    Ok(found)
}

async fn first_of(tx: &mut SqliteConnection, hook: HookId, key: &str) -> Result<First> {
    let (id, stranded, busy): (Uuid, bool, bool) = sqlx::query_as(
        "-- postrider: lease_before
        SELECT id, turn_at IS NOT NULL AND next_attempt_at >= ?3, EXISTS (
            SELECT 1 FROM postrider_deliveries INDEXED BY postrider_deliveries_keyed_leased
            WHERE slot = 0 AND hook_id = ?1 AND ordering_key = ?2
                AND ordering_key IS NOT NULL AND lease_token IS NOT NULL
        )
        FROM postrider_deliveries INDEXED BY postrider_deliveries_keyed
        WHERE slot = 0 AND hook_id = ?1 AND ordering_key = ?2 AND ordering_key IS NOT NULL
        ORDER BY event_seq LIMIT 1",
    )
    .bind(hook.0)
    .bind(key)
    .bind(micros(NO_TIME))
    .fetch_one(tx)
    .await?;
    Ok(First {
        id: DeliveryId(id),
        stranded,
        busy,
    })
}

async fn lease_these(
    tx: &mut SqliteConnection,
    ids: &[DeliveryId],
    request: &LeaseRequest,
) -> Result<Vec<LeasedRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(concat!(
        "-- postrider: lease_first
        UPDATE postrider_deliveries SET lease_token = ?2, lease_expires_at = ?3
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
        RETURNING ",
        leased_columns!(),
    ))
    .bind(rows(ids.iter().map(|id| id.0.simple())))
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await?)
}

/// Blocks deliveries by the first of their key, given second.
async fn block(tx: &mut SqliteConnection, blocked: &[(DeliveryId, DeliveryId)]) -> Result<()> {
    if blocked.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: lease_block
        UPDATE postrider_deliveries SET turn_at = next_attempt_at, next_attempt_at = ?2
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(blocked.iter().map(|(id, _)| id.0.simple())))
    .bind(micros(NO_TIME))
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives the first delivery of each of these keys its turn, if it is blocked: it is due from now on,
/// or later at its own time.
pub(super) async fn give_turns(
    tx: &mut SqliteConnection,
    keys: Vec<(HookId, &str)>,
    now: Timestamp,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: give_turns
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        UPDATE postrider_deliveries SET next_attempt_at = max(turn_at, ?3), turn_at = NULL
        WHERE slot = 0 AND turn_at IS NOT NULL AND next_attempt_at >= ?2 AND id IN (
            SELECT (
                SELECT f.id FROM postrider_deliveries AS f INDEXED BY postrider_deliveries_keyed
                WHERE f.slot = 0 AND f.hook_id = unhex(v ->> 0) AND f.ordering_key = v ->> 1
                    AND f.ordering_key IS NOT NULL
                ORDER BY f.event_seq LIMIT 1
            ) FROM s
        )",
    )
    .bind(rows(keys.iter().map(|(hook, key)| (hook.0.simple(), *key))))
    .bind(micros(NO_TIME))
    .bind(micros(now))
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes away those of the deliveries that have failed for good and have no key to hold: repeats.
pub(super) async fn forget_repeats(tx: &mut SqliteConnection, failed: Vec<Simple>) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_repeats
        DELETE FROM postrider_deliveries
        WHERE slot = 0 AND ordering_key IS NULL AND holds_key
            AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(failed))
    .execute(tx)
    .await?;
    Ok(())
}
