//! Ownership of gated hooks: which one worker starts their deliveries.
//!
//! A lease checks that its worker is the owner and that the ownership has not ended, under a
//! shared lock on the row. A change of owner waits for that lock.

use super::PostgresStore;
use super::health::renew_versions;
use crate::{Gates, OwnershipAnswer, OwnershipRequest, Result};
use async_trait::async_trait;
use postrider_core::{HookId, Timestamp, WorkerId};
use sqlx::postgres::PgBindIterExt;
use uuid::Uuid;

#[async_trait]
impl Gates for PostgresStore {
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>> {
        if request.hooks.is_empty() {
            return Ok(Vec::new());
        }
        let mut hooks: Vec<_> = request.hooks.iter().map(|hook| hook.0).collect();
        // In order, so that two workers that ask for the same hooks do not deadlock.
        hooks.sort_unstable();
        let rows: Vec<(Uuid, bool, Option<Timestamp>)> = sqlx::query_as(
            "-- postrider: own_gates
            WITH asked AS MATERIALIZED (
                SELECT a.hook_id, a.place, health.not_before, g.owner, g.until
                FROM unnest($4::uuid[]) WITH ORDINALITY AS a (hook_id, place)
                LEFT JOIN postrider_hook_health AS health ON health.hook_id = a.hook_id
                LEFT JOIN postrider_gates AS g ON g.hook_id = a.hook_id
            ), taken AS (
                INSERT INTO postrider_gates AS g (hook_id, owner, until)
                SELECT hook_id, $1, $3 FROM asked
                WHERE owner = $1
                   OR ((owner IS NULL OR until <= $2)
                       AND (not_before IS NULL OR not_before <= $2))
                ORDER BY place
                ON CONFLICT (hook_id) DO UPDATE SET owner = excluded.owner, until = excluded.until
                WHERE g.owner = $1 OR g.until <= $2
                RETURNING hook_id
            )
            SELECT hook_id, hook_id IN (SELECT hook_id FROM taken), not_before FROM asked",
        )
        .bind(request.worker.0)
        .bind(request.now)
        .bind(request.until)
        .bind(hooks)
        .fetch_all(&self.hot)
        .await?;
        let answers = rows
            .into_iter()
            .map(|(hook, owned, not_before)| OwnershipAnswer {
                hook: HookId(hook),
                owned,
                not_before,
            });
        Ok(answers.collect())
    }

    async fn disown_gates(&self, worker: WorkerId, hooks: &[HookId]) -> Result<()> {
        sqlx::query(
            "-- postrider: disown_gates
            DELETE FROM postrider_gates WHERE owner = $1 AND hook_id = ANY($2)",
        )
        .bind(worker.0)
        .bind(hooks.iter().map(|hook| hook.0).bind_iter())
        .execute(&self.hot)
        .await?;
        Ok(())
    }

    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()> {
        let mut tx = self.hot.begin().await?;
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: end_ramps
            WITH ramping AS MATERIALIZED (
                SELECT hook_id FROM postrider_hook_health
                WHERE hook_id = ANY($1) AND phase = 'ramping'
                ORDER BY hook_id FOR UPDATE
            )
            UPDATE postrider_hook_health SET phase = NULL
            WHERE hook_id = ANY(ARRAY(SELECT hook_id FROM ramping)) RETURNING hook_id",
        )
        .bind(hooks.iter().map(|hook| hook.0).bind_iter())
        .fetch_all(&mut *tx)
        .await?;
        if !ended.is_empty() {
            let ended: Vec<_> = ended.into_iter().map(HookId).collect();
            renew_versions(&mut tx, &ended).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
