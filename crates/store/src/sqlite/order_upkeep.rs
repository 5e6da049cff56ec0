//! Upkeep of the order: hooks that are no longer ordered, or skip failed deliveries from now on,
//! and deliveries whose predecessor ended without giving them their turn.
//!
//! A run of upkeep examines a bounded number of keys of each hook.

use super::SqliteStore;
use super::order::give_turns;
use super::values::{micros, rows};
use crate::Result;
use crate::count::count;
use crate::key_cursors::KEYS_AT_ONCE;
use crate::row_state::NO_TIME;
use postrider_core::{HookId, OnFailure, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

/// Examines the order of all hooks, and frees at most `limit` deliveries of each hook that is no
/// longer ordered. Returns whether there may be more of these.
pub(super) async fn keep_order(store: &SqliteStore, now: Timestamp, limit: u32) -> Result<bool> {
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
    .bind(micros(NO_TIME))
    .fetch_all(&store.readers)
    .await?;
    if hooks.is_empty() {
        return Ok(false);
    }
    let mut more = false;
    let mut tx = store.writer.begin().await?;
    let cache = store.refresh_hooks(&mut tx).await?;
    for hook in hooks.into_iter().map(HookId) {
        // Deliveries of deleted hooks are cancelled.
        let Some(known) = cache.get(hook) else {
            continue;
        };
        match known.settings.after_failure() {
            Some(after) => examine_keys(store, &mut tx, hook, after, now).await?,
            None => more |= end_order(&mut tx, hook, now, limit).await? >= limit,
        }
    }
    tx.commit().await?;
    Ok(more)
}

async fn examine_keys(
    store: &SqliteStore,
    tx: &mut SqliteConnection,
    hook: HookId,
    after_failure: OnFailure,
    now: Timestamp,
) -> Result<()> {
    let after = store.key_cursors.begin(0, hook);
    let keys = keys_after(tx, hook, &after).await?;
    if after_failure == OnFailure::Skip {
        forget_holders(tx, hook, &keys).await?;
    }
    let of_hook = keys.iter().map(|key| (hook, key.as_str()));
    give_turns(tx, of_hook.collect(), now).await?;
    store.key_cursors.end(0, hook, keys);
    Ok(())
}

/// Frees up to `limit` blocked deliveries of a hook that is no longer ordered, and deletes the
/// rows that hold a key. Returns how many.
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
    .bind(micros(NO_TIME))
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let ended = count(far.len());
    let (holders, blocked): (Vec<_>, Vec<_>) = far.into_iter().partition(|(_, holds)| *holds);
    sqlx::query(
        "-- postrider: order_forget
        DELETE FROM postrider_deliveries
        WHERE slot = 0 AND holds_key AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(holders.iter().map(|(id, _)| id.simple())))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- postrider: order_free
        UPDATE postrider_deliveries SET next_attempt_at = max(turn_at, ?2), turn_at = NULL
        WHERE slot = 0 AND turn_at IS NOT NULL
            AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(blocked.iter().map(|(id, _)| id.simple())))
    .bind(micros(now))
    .execute(tx)
    .await?;
    Ok(ended)
}

/// The next keys of the hook, in their order.
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
    .bind(KEYS_AT_ONCE)
    .fetch_all(tx)
    .await
    .map_err(Into::into)
}

/// Deletes the failed deliveries that hold these keys.
async fn forget_holders(tx: &mut SqliteConnection, hook: HookId, keys: &[String]) -> Result<()> {
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
    .await?;
    Ok(())
}
