//! Ownership of gated hooks: the one worker process owns every hook it asks for, without a row.

use super::SqliteStore;
use super::hooks::next_version;
use super::values::{moment, rows};
use crate::{Gates, OwnershipAnswer, OwnershipRequest, Result};
use async_trait::async_trait;
use postrider_core::{HookId, WorkerId};
use sqlx::SqliteConnection;
use std::collections::HashMap;
use uuid::Uuid;

#[async_trait]
impl Gates for SqliteStore {
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>> {
        let backed_off: Vec<(Uuid, i64)> = sqlx::query_as(
            "-- postrider: own_gates
            SELECT hook_id, not_before FROM postrider_hook_health
            WHERE hook_id IN (SELECT unhex(value) FROM json_each(?1)) AND not_before IS NOT NULL",
        )
        .bind(rows(request.hooks.iter().map(|hook| hook.0.simple())))
        .fetch_all(&self.readers)
        .await?;
        let backed_off: HashMap<_, _> = backed_off.into_iter().collect();
        let answers = request.hooks.into_iter().map(|hook| OwnershipAnswer {
            hook,
            owned: true,
            not_before: backed_off.get(&hook.0).copied().map(moment),
        });
        Ok(answers.collect())
    }

    async fn disown_gates(&self, _: WorkerId, _: &[HookId]) -> Result<()> {
        Ok(())
    }

    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()> {
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

/// Gives a new version to hooks whose phase has changed, so that the worker learns of it.
/// Returns the version.
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
