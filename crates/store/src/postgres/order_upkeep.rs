//! What of the order is looked after now and then: hooks that are ordered no more, or skip from
//! now on, and deliveries whose predecessor went without giving them their turn.
//!
//! The keys of a hook are looked over some at a time, so that a turn of upkeep costs the same
//! however many there are.

use super::PostgresStore;
use super::order::{give_turns, never};
use crate::Result;
use postrider_core::{HookId, Timestamp};
use sqlx::{Acquire, PgConnection};
use std::sync::PoisonError;
use uuid::Uuid;

/// Keys of a hook looked over in one turn.
const KEYS: i32 = 1_000;

/// A hook with deliveries that wait for others.
struct Waiting {
    slot: i16,
    hook: HookId,
    ordered: bool,
    skips: bool,
}

impl PostgresStore {
    /// Looks after the order, and lets at most `limit` deliveries of each hook go that is ordered
    /// no more; returns whether there may be more of these.
    pub(super) async fn keep_order(
        &self,
        connection: &mut PgConnection,
        now: Timestamp,
        limit: u32,
    ) -> Result<bool> {
        let mut more = false;
        for waiting in hooks_waiting(connection).await? {
            match waiting.ordered {
                true => self.look_over(connection, &waiting, now).await?,
                false => more |= end_order(connection, &waiting, now, limit).await? >= limit,
            }
        }
        Ok(more)
    }

    async fn look_over(
        &self,
        connection: &mut PgConnection,
        waiting: &Waiting,
        now: Timestamp,
    ) -> Result<()> {
        let place = (waiting.slot, waiting.hook);
        let looked_over = || {
            let map = self.looked_over.lock();
            map.unwrap_or_else(PoisonError::into_inner)
        };
        let after = looked_over().remove(&place).unwrap_or_default();
        let keys = keys_after(connection, waiting, &after).await?;
        let mut tx = connection.begin().await?;
        if waiting.skips {
            forget_held(&mut tx, waiting, &keys).await?;
        }
        let of_hook = keys.iter().map(|key| (waiting.hook, key.as_str()));
        give_turns(&mut tx, waiting.slot, of_hook.collect(), now).await?;
        tx.commit().await?;
        if i32::try_from(keys.len()).is_ok_and(|count| count >= KEYS)
            && let Some(last) = keys.into_iter().next_back()
        {
            looked_over().insert(place, last);
        }
        Ok(())
    }
}

/// Hooks with deliveries that wait for others, by slot: a step for each hook that has any waiting.
async fn hooks_waiting(connection: &mut PgConnection) -> Result<Vec<Waiting>> {
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
        never!(),
    ))
    .fetch_all(connection)
    .await?;
    let waiting = rows
        .into_iter()
        .map(|(slot, hook, ordered, skips)| Waiting {
            slot,
            hook: HookId(hook),
            ordered,
            skips,
        });
    Ok(waiting.collect())
}

/// Nothing of the hook waits for another any more, and nothing holds a key.
async fn end_order(
    connection: &mut PgConnection,
    of: &Waiting,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let ended = sqlx::query_scalar::<_, i64>(concat!(
        "-- postrider: order_end
        WITH far AS MATERIALIZED (
            SELECT ctid AS place FROM postrider_deliveries
            WHERE slot = $1 AND hook_id = $2 AND lease_token IS NULL AND next_attempt_at >= ",
        never!(),
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
    .bind(of.hook.0)
    .bind(i64::from(limit))
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(ended).unwrap_or(u32::MAX))
}

/// Some of the keys of the hook, in their order, after this one.
async fn keys_after(
    connection: &mut PgConnection,
    of: &Waiting,
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
    .bind(of.hook.0)
    .bind(after)
    .bind(KEYS)
    .fetch_all(connection)
    .await?;
    Ok(keys)
}

/// Takes away what has failed and stands first of its key: it holds nothing up any more.
async fn forget_held(connection: &mut PgConnection, of: &Waiting, keys: &[String]) -> Result<()> {
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
    .bind(of.hook.0)
    .bind(keys)
    .execute(connection)
    .await?;
    Ok(())
}
