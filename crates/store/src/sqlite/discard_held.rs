//! Held deliveries are given up because a person says so.

use super::SqliteStore;
use super::batches::lead;
use super::bulk::{Seen, add_companions, hold_hook, waiting};
use super::hook_history::record;
use super::order::give_turns;
use super::settle_rows::{EndedRow, delete_deliveries, insert_ended};
use super::values::micros;
use crate::audit_entry::AuditEntry;
use crate::error::{hook_not_found, nothing_held};
use crate::{BulkPage, BulkPageResult, Discard, Result};
use postrider_core::{HookAction, Reason, Timestamp};
use sqlx::SqliteConnection;
use std::collections::BTreeSet;

impl SqliteStore {
    pub(super) async fn discard_page(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        let mut tx = self.writer.begin().await?;
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
            .iter()
            .filter(|seen| which.covers(seen.id))
            .map(|seen| EndedRow {
                day: seen.day,
                delivery_id: seen.id.0.simple(),
                event_id: seen.event.simple(),
                hook_id: which.hook.0.simple(),
                state: "cancelled",
                reason: Reason::Discarded.name(),
                attempts: seen.attempts,
            })
            .collect();
        delete_deliveries(&mut tx, doomed.iter().map(|row| row.delivery_id)).await?;
        insert_ended(&mut tx, &doomed, now).await?;
        let gone = seen.iter().filter(|seen| which.covers(seen.id));
        lead(&mut tx, gone.map(|seen| seen.id.0)).await?;
        let keys: BTreeSet<_> = seen
            .iter()
            .filter(|seen| which.covers(seen.id))
            .filter_map(|seen| Some((which.hook, seen.ordering_key.as_deref()?)))
            .collect();
        give_turns(&mut tx, keys.into_iter().collect(), now).await?;
        note(&mut tx, which, doomed.len(), now).await?;
        tx.commit().await?;
        Ok(page.done(doomed.len(), looked_at, last))
    }
}

/// Tells the hook's history how many were discarded; what was told at this moment is added to.
async fn note(
    tx: &mut SqliteConnection,
    which: &Discard,
    discarded: usize,
    now: Timestamp,
) -> Result<()> {
    if discarded == 0 {
        return Ok(());
    }
    let count = u32::try_from(discarded).unwrap_or(u32::MAX);
    let entry = AuditEntry {
        deliveries: Some(count),
        ..AuditEntry::new(which.hook, HookAction::Discarded, &which.by)
    };
    let added = sqlx::query(
        "-- postrider: discard_more
        UPDATE postrider_hook_history SET deliveries = deliveries + ?5
        WHERE hook_id = ?1 AND at = ?2 AND action = ?3 AND actor = ?4",
    )
    .bind(which.hook.0)
    .bind(micros(now))
    .bind(entry.action.name())
    .bind(&entry.actor)
    .bind(count)
    .execute(&mut *tx)
    .await?;
    match added.rows_affected() {
        0 => record(tx, &[entry], now).await,
        _ => Ok(()),
    }
}
