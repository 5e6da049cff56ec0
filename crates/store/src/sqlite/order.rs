//! Ordered hooks: only the first delivery of each key is leased, and what ends it gives the next
//! its turn in the same transaction.
//!
//! There is one writer, so what a transaction sees of a key stays so until its commit.

use super::SqliteStore;
use super::errors::from_sqlx;
use super::leases::DueRow;
use super::values::{micros, rows};
use crate::order::{Due, First, never, turns};
use crate::{Lease, Result};
use postrider_core::{DeliveryId, HookId, OnFailure, Timestamp};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use uuid::Uuid;

/// How many more than can go are looked at, at first and when much of what was due is not the
/// first of its key.
const SPARE: [u32; 4] = [16, 1_000, 1_000, 1_000];

/// Keys of a hook looked over in one turn of upkeep.
const KEYS: u32 = 1_000;

/// Leases from an ordered hook: the first of each key, if it is due, and what has no key.
pub(super) async fn lease_in_turn(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &Lease,
) -> Result<Vec<DueRow>> {
    let mut places = BTreeMap::from([(hook, limit)]);
    let mut leased = Vec::new();
    for spare in SPARE {
        let left = places.get(&hook).copied().unwrap_or_default();
        let due = due_in_turn(tx, hook, left.saturating_add(spare), request).await?;
        let turns = turns(due, &mut places);
        leased.extend(lease_these(tx, hook, &turns.go, request).await?);
        let stranded = turns.stranded.iter();
        let stranded = stranded.map(|(hook, key)| (*hook, key.as_str()));
        give_turns(tx, stranded.collect(), request.now).await?;
        put_behind(tx, &turns.behind).await?;
        if turns.behind.is_empty() || places.get(&hook) == Some(&0) {
            break;
        }
    }
    leased.sort_by_key(|row| (row.next_attempt_at, row.id));
    Ok(leased)
}

/// What is due of the hook, the longest due first.
async fn due_in_turn(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    request: &Lease,
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
    .await
    .map_err(from_sqlx)?;
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
    .bind(micros(never()))
    .fetch_one(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(First {
        id: DeliveryId(id),
        stranded,
        busy,
    })
}

async fn lease_these(
    tx: &mut SqliteConnection,
    hook: HookId,
    ids: &[DeliveryId],
    request: &Lease,
) -> Result<Vec<DueRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let leased = sqlx::query_as(
        "-- postrider: lease_first
        UPDATE postrider_deliveries SET lease_token = ?2, lease_expires_at = ?3
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
        RETURNING id, day, event_id, attempts, earlier_attempts, next_attempt_at",
    )
    .bind(rows(ids.iter().map(|id| id.0.simple())))
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(leased
        .into_iter()
        .map(|row| DueRow::of(hook, row))
        .collect())
}

async fn put_behind(tx: &mut SqliteConnection, behind: &[(DeliveryId, DeliveryId)]) -> Result<()> {
    if behind.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: lease_behind
        UPDATE postrider_deliveries SET turn_at = next_attempt_at, next_attempt_at = ?2
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(behind.iter().map(|(id, _)| id.0.simple())))
    .bind(micros(never()))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

/// Gives the first delivery of each of these keys its turn, if it is behind: it is due from now on,
/// unless it is to wait for longer anyway.
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
    .bind(micros(never()))
    .bind(micros(now))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

// ---- now and then

impl SqliteStore {
    /// Looks after hooks that are ordered no more, or skip from now on, and after deliveries whose
    /// predecessor went without giving them their turn. Lets at most `limit` deliveries of each
    /// hook go that is ordered no more; returns whether there may be more of these.
    pub(super) async fn keep_order(&self, now: Timestamp, limit: u32) -> Result<bool> {
        let hooks: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: order_hooks
            WITH RECURSIVE waiting (hook_id) AS (
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL ORDER BY d.hook_id LIMIT 1)
                UNION ALL
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL
                            AND d.hook_id > waiting.hook_id
                        ORDER BY d.hook_id LIMIT 1)
                FROM waiting WHERE hook_id IS NOT NULL
            )
            SELECT hook_id FROM waiting WHERE hook_id IS NOT NULL AND (
                SELECT d.next_attempt_at FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                WHERE d.slot = 0 AND d.hook_id = waiting.hook_id AND d.lease_token IS NULL
                ORDER BY d.next_attempt_at DESC LIMIT 1
            ) >= ?1",
        )
        .bind(micros(never()))
        .fetch_all(&self.readers)
        .await
        .map_err(from_sqlx)?;
        if hooks.is_empty() {
            return Ok(false);
        }
        let mut more = false;
        let mut tx = self.writer.begin().await?;
        let book = self.fresh_book(&mut tx).await?;
        for hook in hooks.into_iter().map(HookId) {
            // What belongs to deleted hooks is cancelled.
            let Some(known) = book.get(hook) else {
                continue;
            };
            match known.settings.after_failure() {
                Some(after) => self.look_over(&mut tx, hook, after, now).await?,
                None => more |= end_order(&mut tx, hook, now, limit).await? >= limit,
            }
        }
        tx.commit().await?;
        Ok(more)
    }

    /// Looks over some keys of the hook, beginning after those of the turn before.
    async fn look_over(
        &self,
        tx: &mut SqliteConnection,
        hook: HookId,
        after_failure: OnFailure,
        now: Timestamp,
    ) -> Result<()> {
        let looked_over = || {
            let map = self.looked_over.lock();
            map.unwrap_or_else(PoisonError::into_inner)
        };
        let after = looked_over().remove(&hook).unwrap_or_default();
        let keys = keys_after(tx, hook, &after).await?;
        if after_failure == OnFailure::Skip {
            forget_held(tx, hook, &keys).await?;
        }
        give_turns(
            tx,
            keys.iter().map(|key| (hook, key.as_str())).collect(),
            now,
        )
        .await?;
        if keys.len() >= KEYS as usize
            && let Some(last) = keys.into_iter().next_back()
        {
            looked_over().insert(hook, last);
        }
        Ok(())
    }
}

/// Nothing of the hook waits for another any more, and nothing holds a key.
async fn end_order(
    tx: &mut SqliteConnection,
    hook: HookId,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let far: Vec<(Uuid, bool)> = sqlx::query_as(
        "-- postrider: order_end
        SELECT id, holds_key
        FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
        WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL AND next_attempt_at >= ?2
        LIMIT ?3",
    )
    .bind(hook.0)
    .bind(micros(never()))
    .bind(limit)
    .fetch_all(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    let count = u32::try_from(far.len()).unwrap_or(u32::MAX);
    let (held, behind): (Vec<_>, Vec<_>) = far.into_iter().partition(|(_, holds)| *holds);
    sqlx::query(
        "-- postrider: order_forget
        DELETE FROM postrider_deliveries
        WHERE slot = 0 AND holds_key AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(held.iter().map(|(id, _)| id.simple())))
    .execute(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    sqlx::query(
        "-- postrider: order_free
        UPDATE postrider_deliveries SET next_attempt_at = max(turn_at, ?2), turn_at = NULL
        WHERE slot = 0 AND turn_at IS NOT NULL
            AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(behind.iter().map(|(id, _)| id.simple())))
    .bind(micros(now))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(count)
}

/// Some of the keys of the hook, in their order, after this one.
async fn keys_after(tx: &mut SqliteConnection, hook: HookId, after: &str) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "-- postrider: order_keys
        WITH RECURSIVE keys (ordering_key, counted) AS (
            SELECT (SELECT d.ordering_key FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_keyed
                    WHERE d.slot = 0 AND d.hook_id = ?1 AND d.ordering_key > ?2
                    ORDER BY d.ordering_key LIMIT 1), 1
            UNION ALL
            SELECT (SELECT d.ordering_key FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_keyed
                    WHERE d.slot = 0 AND d.hook_id = ?1 AND d.ordering_key > keys.ordering_key
                    ORDER BY d.ordering_key LIMIT 1), counted + 1
            FROM keys WHERE ordering_key IS NOT NULL AND counted < ?3
        )
        SELECT ordering_key FROM keys WHERE ordering_key IS NOT NULL",
    )
    .bind(hook.0)
    .bind(after)
    .bind(KEYS)
    .fetch_all(tx)
    .await
    .map_err(from_sqlx)
}

/// Takes away what has failed and stands first of its key: it holds nothing up any more.
async fn forget_held(tx: &mut SqliteConnection, hook: HookId, keys: &[String]) -> Result<()> {
    sqlx::query(
        "-- postrider: order_skip
        DELETE FROM postrider_deliveries WHERE slot = 0 AND holds_key AND id IN (
            SELECT (
                SELECT f.id FROM postrider_deliveries AS f INDEXED BY postrider_deliveries_keyed
                WHERE f.slot = 0 AND f.hook_id = ?1 AND f.ordering_key = k.value
                ORDER BY f.event_seq LIMIT 1
            ) FROM json_each(?2) AS k
        )",
    )
    .bind(hook.0)
    .bind(rows(keys))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}
