//! Upkeep of the order: hooks that are no longer ordered, or skip failed deliveries from now on,
//! and deliveries whose predecessor ended without giving them their turn.
//!
//! A run of upkeep examines a bounded number of keys of each hook.

use super::PostgresStore;
use super::connection::Connection;
use super::order::give_turns;
use super::row_state::no_time;
use crate::Result;
use crate::count::count;
use crate::key_cursors::KEYS_AT_ONCE;
use postrider_core::{HookId, Timestamp};
use uuid::Uuid;

/// A hook with deliveries that are blocked or hold their key.
struct OrderedHook {
    slot: i16,
    id: HookId,
    /// Whether it is still ordered.
    ordered: bool,
    /// Whether a failed delivery no longer blocks the next ones.
    skips: bool,
}

/// Examines the order of all hooks, and frees at most `limit` deliveries of each hook that is no
/// longer ordered. Returns whether there may be more of these.
pub(super) async fn keep_order(
    store: &PostgresStore,
    connection: &mut Connection,
    now: Timestamp,
    limit: u32,
) -> Result<bool> {
    let mut more = false;
    for hook in hooks_with_blocked(connection).await? {
        match hook.ordered {
            true => examine_keys(store, connection, &hook, now).await?,
            false => more |= end_order(connection, &hook, now, limit).await? >= limit,
        }
    }
    Ok(more)
}

async fn examine_keys(
    store: &PostgresStore,
    connection: &mut Connection,
    hook: &OrderedHook,
    now: Timestamp,
) -> Result<()> {
    let after = store.key_cursors.begin(hook.slot, hook.id);
    let keys = keys_after(connection, hook, &after).await?;
    let mut tx = connection.begin().await?;
    if hook.skips {
        forget_holders(&mut tx, hook, &keys).await?;
    }
    let of_hook = keys.iter().map(|key| (hook.id, key.as_str()));
    give_turns(&mut tx, hook.slot, of_hook.collect(), now).await?;
    tx.commit().await?;
    store.key_cursors.end(hook.slot, hook.id, keys);
    Ok(())
}

/// Hooks with deliveries that are blocked or hold their key, by slot. The cost is a step for each
/// hook with waiting deliveries.
async fn hooks_with_blocked(connection: &mut Connection) -> Result<Vec<OrderedHook>> {
    let rows: Vec<(i16, Uuid, bool, bool)> = sqlx::query_as(concat!(
        "-- postrider: order_hooks
        WITH RECURSIVE waiting AS (
            (SELECT slot, hook_id FROM postrider_deliveries WHERE lease_token IS NULL
             ORDER BY slot, hook_id LIMIT 1)
            UNION ALL
            SELECT next.slot, next.hook_id FROM waiting AS w CROSS JOIN LATERAL (
                SELECT slot, hook_id FROM postrider_deliveries AS d
                WHERE d.lease_token IS NULL AND (d.slot, d.hook_id) > (w.slot, w.hook_id)
                ORDER BY slot, hook_id LIMIT 1
            ) AS next
        )
        SELECT w.slot, w.hook_id, h.ordered,
               coalesce(h.settings ->> 'on_failure' = 'skip', false)
        FROM waiting AS w JOIN postrider_hooks AS h ON h.id = w.hook_id
        WHERE h.deleted_at IS NULL AND (
            SELECT d.next_attempt_at FROM postrider_deliveries AS d
            WHERE d.slot = w.slot AND d.hook_id = w.hook_id AND d.lease_token IS NULL
            ORDER BY d.next_attempt_at DESC LIMIT 1
        ) >= ",
        no_time!(),
    ))
    .fetch_all(connection)
    .await?;
    let waiting = rows
        .into_iter()
        .map(|(slot, id, ordered, skips)| OrderedHook {
            slot,
            id: HookId(id),
            ordered,
            skips,
        });
    Ok(waiting.collect())
}

/// Frees up to `limit` blocked deliveries of a hook that is no longer ordered, and deletes the
/// rows that hold a key. Returns how many.
async fn end_order(
    connection: &mut Connection,
    of: &OrderedHook,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let ended = sqlx::query_scalar::<_, i64>(concat!(
        "-- postrider: order_end
        WITH far AS MATERIALIZED (
            SELECT ctid AS place FROM postrider_deliveries
            WHERE slot = $1 AND hook_id = $2 AND lease_token IS NULL AND next_attempt_at >= ",
        no_time!(),
        " LIMIT $3 FOR UPDATE SKIP LOCKED
        ), forgotten AS (
            DELETE FROM postrider_deliveries
            WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM far)) AND holds_key
            RETURNING id
        ), free AS (
            UPDATE postrider_deliveries
            SET next_attempt_at = greatest(turn_at, $4), turn_at = NULL
            WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM far)) AND NOT holds_key
              AND turn_at IS NOT NULL
            RETURNING id
        )
        SELECT (SELECT count(*) FROM forgotten) + (SELECT count(*) FROM free)",
    ))
    .bind(of.slot)
    .bind(of.id.0)
    .bind(i64::from(limit))
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok(count(ended))
}

/// The next keys of the hook, in their order.
async fn keys_after(
    connection: &mut Connection,
    of: &OrderedHook,
    after: &str,
) -> Result<Vec<String>> {
    let keys = sqlx::query_scalar(
        "-- postrider: order_keys
        WITH RECURSIVE keys AS (
            (SELECT ordering_key, 1 AS place FROM postrider_deliveries
             WHERE slot = $1 AND hook_id = $2 AND ordering_key > $3
             ORDER BY ordering_key LIMIT 1)
            UNION ALL
            SELECT next.ordering_key, keys.place + 1 FROM keys CROSS JOIN LATERAL (
                SELECT ordering_key FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = $2 AND ordering_key > keys.ordering_key
                ORDER BY ordering_key LIMIT 1
            ) AS next
            WHERE keys.place < $4
        )
        SELECT ordering_key FROM keys",
    )
    .bind(of.slot)
    .bind(of.id.0)
    .bind(after)
    .bind(i32::from(KEYS_AT_ONCE))
    .fetch_all(connection)
    .await?;
    Ok(keys)
}

/// Deletes the failed deliveries that hold these keys.
async fn forget_holders(
    connection: &mut Connection,
    of: &OrderedHook,
    keys: &[String],
) -> Result<()> {
    sqlx::query(
        "-- postrider: order_forget
        DELETE FROM postrider_deliveries
        WHERE slot = $1 AND holds_key AND ctid = ANY(ARRAY(
            SELECT first.place FROM unnest($3::text[]) AS k (ordering_key) CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND hook_id = $2 AND ordering_key = k.ordering_key
                ORDER BY event_seq LIMIT 1
            ) AS first
        ))",
    )
    .bind(of.slot)
    .bind(of.id.0)
    .bind(keys)
    .execute(connection)
    .await?;
    Ok(())
}
