//! Gated hooks in one file: the one worker process owns whatever it asks for, and no row says
//! so.

use super::SqliteStore;
use super::hooks::next_version;
use super::values::{moment, rows};
use crate::{OwnershipAnswer, OwnershipRequest, Result};
use postrider_core::HookId;
use sqlx::SqliteConnection;
use std::collections::HashMap;
use uuid::Uuid;

impl SqliteStore {
    pub(super) async fn answer_gates(
        &self,
        request: OwnershipRequest,
    ) -> Result<Vec<OwnershipAnswer>> {
        let held: Vec<(Uuid, i64)> = sqlx::query_as(
            "-- postrider: own_gates
            SELECT hook_id, not_before FROM postrider_hook_health
            WHERE hook_id IN (SELECT unhex(value) FROM json_each(?1)) AND not_before IS NOT NULL",
        )
        .bind(rows(request.hooks.iter().map(|hook| hook.0.simple())))
        .fetch_all(&self.readers)
        .await?;
        let held: HashMap<_, _> = held.into_iter().collect();
        let answers = request.hooks.into_iter().map(|hook| OwnershipAnswer {
            hook,
            owned: true,
            not_before: held.get(&hook.0).copied().map(moment),
        });
        Ok(answers.collect())
    }

    pub(super) async fn ramps_ended(&self, hooks: &[HookId]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: end_ramps
            UPDATE postrider_hook_health SET phase = NULL
            WHERE hook_id IN (SELECT unhex(value) FROM json_each(?1)) AND phase = 'ramping'
            RETURNING hook_id",
        )
        .bind(rows(hooks.iter().map(|hook| hook.0.simple())))
        .fetch_all(&mut *tx)
        .await?;
        if !ended.is_empty() {
            let ended: Vec<_> = ended.into_iter().map(HookId).collect();
            renew_versions(&mut tx, &ended).await?;
        }
        tx.commit().await
    }
}

/// Lets the worker know of hooks whose phase has changed: they get a new version, which is
/// returned.
pub(super) async fn renew_versions(tx: &mut SqliteConnection, hooks: &[HookId]) -> Result<i64> {
    let version = next_version(tx).await?;
    sqlx::query(
        "-- postrider: settle_phase
        UPDATE postrider_hooks SET version = ?2
        WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(hooks.iter().map(|hook| hook.0.simple())))
    .bind(version)
    .execute(tx)
    .await?;
    Ok(version)
}
