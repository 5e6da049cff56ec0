//! Held deliveries are given up because a person says so.
//!
//! The hook is kept as it is meanwhile: nothing is discarded of one that becomes active.

use super::PostgresStore;
use super::batches::lead_rest;
use super::bulk::{Seen, add_companions, go_by_indexes, hold_hook, waiting};
use super::hook_history::record;
use super::order::give_turns;
use crate::Result;
use crate::audit_entry::AuditEntry;
use crate::error::{hook_not_found, nothing_held};
use crate::{BulkPage, BulkPageResult, Discard};
use postrider_core::{HookAction, Reason, Timestamp};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        let mut tx = self.calm.begin().await?;
        go_by_indexes(&mut tx).await?;
        let hook = hold_hook(&mut tx, which.hook).await?;
        if hook.is_deleted {
            return Err(hook_not_found(which.hook));
        }
        if hook.is_active {
            return Err(nothing_held(which.hook));
        }
        // Nothing that was sent again at this very moment is passed over: no walk did it.
        let mut seen = waiting(&mut tx, which.hook, page, Timestamp::UNIX_EPOCH).await?;
        let (looked_at, last) = (seen.len(), seen.last().map(Seen::mark));
        add_companions(&mut tx, &mut seen).await?;
        let doomed: Vec<_> = seen
            .into_iter()
            .filter(|seen| which.covers(seen.id))
            .collect();
        let discarded = end(&mut tx, which, &doomed, now).await?;
        pass_turns(&mut tx, which, &doomed, now).await?;
        note(&mut tx, which, discarded, now).await?;
        tx.commit().await?;
        Ok(page.done(discarded, looked_at, last))
    }
}

/// Ends those that still wait, and returns how many did.
async fn end(
    connection: &mut PgConnection,
    which: &Discard,
    doomed: &[Seen],
    now: Timestamp,
) -> Result<usize> {
    if doomed.is_empty() {
        return Ok(0);
    }
    let ended: Vec<(i16, Uuid)> = sqlx::query_as(
        "-- postrider: discard
        WITH doomed AS MATERIALIZED (
            SELECT d.slot, d.id
            FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, id)
            JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.id = i.id
            WHERE d.lease_token IS NULL
            FOR UPDATE OF d SKIP LOCKED
        ), gone AS (
            DELETE FROM postrider_deliveries AS d USING doomed
            WHERE d.slot = doomed.slot AND d.id = doomed.id
            RETURNING d.slot, d.day, d.id, d.event_id, d.attempts
        )
        INSERT INTO postrider_ended
            (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
        SELECT slot, day, id, event_id, $3, 'cancelled', $4, attempts, $5 FROM gone
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at
        RETURNING slot, delivery_id",
    )
    .bind(doomed.iter().map(|seen| seen.slot).bind_iter())
    .bind(doomed.iter().map(|seen| seen.id.0).bind_iter())
    .bind(which.hook.0)
    .bind(Reason::Discarded.name())
    .bind(now)
    .fetch_all(&mut *connection)
    .await?;
    lead_rest(connection, &ended).await?;
    Ok(ended.len())
}

/// Gives those their turns that waited for what is gone.
async fn pass_turns(
    connection: &mut PgConnection,
    which: &Discard,
    gone: &[Seen],
    now: Timestamp,
) -> Result<()> {
    let mut by_slot: BTreeMap<i16, BTreeSet<&str>> = BTreeMap::new();
    for seen in gone {
        if let Some(key) = &seen.ordering_key {
            by_slot.entry(seen.slot).or_default().insert(key);
        }
    }
    for (slot, keys) in by_slot {
        let keys = keys.into_iter().map(|key| (which.hook, key)).collect();
        give_turns(connection, slot, keys, now).await?;
    }
    Ok(())
}

/// Tells the hook's history how many were discarded; what was told at this moment is added to.
async fn note(
    connection: &mut PgConnection,
    which: &Discard,
    discarded: usize,
    now: Timestamp,
) -> Result<()> {
    if discarded == 0 {
        return Ok(());
    }
    let entry = AuditEntry {
        deliveries: Some(u32::try_from(discarded).unwrap_or(u32::MAX)),
        ..AuditEntry::new(which.hook, HookAction::Discarded, &which.by)
    };
    let added = sqlx::query(
        "-- postrider: discard_more
        UPDATE postrider_hook_history SET deliveries = deliveries + $5
        WHERE hook_id = $1 AND at = $2 AND action = $3 AND actor = $4",
    )
    .bind(which.hook.0)
    .bind(now)
    .bind(entry.action.name())
    .bind(&entry.actor)
    .bind(i32::try_from(discarded).unwrap_or(i32::MAX))
    .execute(&mut *connection)
    .await?;
    match added.rows_affected() {
        0 => record(connection, &[entry], now).await,
        _ => Ok(()),
    }
}
