//! The health of hooks, read and written in the transaction that settles their attempts.
//!
//! A row is written only when something changes: a hook that always answers has none.

use super::gates::renew_versions;
use super::hook_history::record;
use super::hooks::{disable, is_active};
use super::values::{micros, rows};
use crate::Result;
use crate::audit_entry::AuditEntry;
use crate::hook_health::{HealthResult, concerned, decide, health, is_failing};
use crate::settlement::DeliverySettlement;
use postrider_core::{Health, HookId, Phase, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::{BTreeSet, HashMap};

/// Brings the health of the concerned hooks up to date.
pub(super) async fn update_health(
    tx: &mut SqliteConnection,
    effective: &[DeliverySettlement<'_>],
    now: Timestamp,
) -> Result<HealthResult> {
    let hooks: BTreeSet<_> = effective.iter().map(DeliverySettlement::hook).collect();
    let known = read(tx, hooks.into_iter()).await?;
    let concerned = concerned(effective, |hook| known.get(&hook).is_some_and(is_failing));
    let mut changes = decide(effective, &concerned, &known);
    for (hook, health) in &changes.changed {
        write(tx, *hook, health).await?;
    }
    if !changes.moved.is_empty() {
        let version = renew_versions(tx, &changes.moved).await?;
        changes.set_version(Some(version));
    }
    let mut result = HealthResult::default();
    for disabling in changes.verdicts {
        if disable(tx, disabling.hook, disabling.reason, now).await? {
            result.disabled.push(disabling);
        }
    }
    for warning in changes.warnings {
        if is_active(tx, warning.hook).await? {
            result.warned.push(warning);
        }
    }
    let disabled = result.disabled.iter().map(AuditEntry::disabled);
    let warned = result.warned.iter().map(AuditEntry::warned);
    let entries: Vec<_> = disabled.chain(warned).collect();
    record(tx, &entries, now).await?;
    result.phases = changes.phases;
    Ok(result)
}

async fn read(
    tx: &mut SqliteConnection,
    hooks: impl Iterator<Item = HookId>,
) -> Result<HashMap<HookId, Health>> {
    let found = sqlx::query(
        "-- postrider: settle_health_read
        SELECT hook_id, fail_count, first_failure_at, last_failure_at, last_error, succeeded_at,
            recent_requests, phase, not_before, probes, warned_at
        FROM postrider_hook_health
        WHERE hook_id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(hooks.map(|hook| hook.0.simple())))
    .try_map(|row: SqliteRow| health(&row))
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().collect())
}

async fn write(tx: &mut SqliteConnection, hook: HookId, health: &Health) -> Result<()> {
    sqlx::query(
        "-- postrider: settle_health
        INSERT INTO postrider_hook_health
            (hook_id, fail_count, first_failure_at, last_failure_at, last_error, succeeded_at,
             phase, not_before, probes, warned_at, recent_requests)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT (hook_id) DO UPDATE
        SET fail_count = excluded.fail_count, first_failure_at = excluded.first_failure_at,
            last_failure_at = excluded.last_failure_at, last_error = excluded.last_error,
            succeeded_at = excluded.succeeded_at, phase = excluded.phase,
            not_before = excluded.not_before, probes = excluded.probes,
            warned_at = excluded.warned_at, recent_requests = excluded.recent_requests",
    )
    .bind(hook.0)
    .bind(health.fail_count)
    .bind(health.first_failure_at.map(micros))
    .bind(health.last_failure_at.map(micros))
    .bind(&health.last_error)
    .bind(health.succeeded_at.map(micros))
    .bind(health.phase.map(Phase::name))
    .bind(health.not_before.map(micros))
    .bind(health.probes)
    .bind(health.warned_at.map(micros))
    .bind(health.recent.to_stored())
    .execute(tx)
    .await?;
    Ok(())
}
