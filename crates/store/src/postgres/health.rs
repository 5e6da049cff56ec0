//! The health of hooks, read and written in the transaction that settles their attempts.
//!
//! Rows are written only when something changes. They are inserted before any is locked, locked
//! in the order of the hooks' ids and never deleted, so two settlements cannot deadlock.

use super::connection::Connection;
use super::hook_history::record;
use crate::Result;
use crate::audit_entry::AuditEntry;
use crate::hook_health::{HealthResult, decide, health};
use crate::settlement::DeliverySettlement;
use crate::{Disabling, Warning};
use postrider_core::{Health, HookId, OURSELVES, Phase, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Brings the health of the concerned hooks up to date; `with_row` are hooks that have a row.
pub(super) async fn update_health(
    connection: &mut Connection,
    effective: &[DeliverySettlement<'_>],
    concerned: &BTreeSet<HookId>,
    with_row: &HashSet<Uuid>,
    now: Timestamp,
) -> Result<HealthResult> {
    if concerned.is_empty() {
        return Ok(HealthResult::default());
    }
    let known = lock_health(connection, concerned, with_row).await?;
    let mut changes = decide(effective, concerned, &known);
    if !changes.changed.is_empty() {
        write_health(connection, &changes.changed).await?;
    }
    if !changes.moved.is_empty() {
        let version = renew_versions(connection, &changes.moved).await?;
        changes.set_version(version);
    }
    Ok(HealthResult {
        disabled: disable(connection, now, changes.verdicts).await?,
        warned: warn(connection, now, changes.warnings).await?,
        phases: changes.phases,
    })
}

/// Gives hooks whose phase has changed a new version, so that every worker reads them again, and
/// returns it.
pub(super) async fn renew_versions(
    connection: &mut Connection,
    hooks: &[HookId],
) -> Result<Option<i64>> {
    make_durable(connection).await?;
    let version = sqlx::query_scalar(
        "-- postrider: settle_phase
        WITH next AS MATERIALIZED (
            UPDATE postrider_meta SET hooks_version = hooks_version + 1 WHERE singleton
            RETURNING hooks_version
        ), hooks AS (
            UPDATE postrider_hooks AS h SET version = next.hooks_version
            FROM next WHERE h.id = ANY($1)
        )
        SELECT hooks_version FROM next",
    )
    .bind(hooks.iter().map(|hook| hook.0).bind_iter())
    .fetch_optional(connection)
    .await?;
    Ok(version)
}

/// Makes this transaction's commit wait for the disk, which others of the hot path do not: a
/// version that was read must never be given out again, and a batch that was sent must be known.
pub(super) async fn make_durable(connection: &mut Connection) -> Result<()> {
    sqlx::raw_sql("SET LOCAL synchronous_commit = on")
        .execute(connection)
        .await?;
    Ok(())
}

/// Reads and locks the rows of health, in the order of the hooks' ids; makes those that are missing.
async fn lock_health(
    connection: &mut Connection,
    concerned: &BTreeSet<HookId>,
    with_row: &HashSet<Uuid>,
) -> Result<HashMap<HookId, Health>> {
    let hooks: Vec<_> = concerned.iter().map(|hook| hook.0).collect();
    if hooks.iter().any(|hook| !with_row.contains(hook)) {
        sqlx::query(
            "-- postrider: settle_health_new
            INSERT INTO postrider_hook_health (hook_id)
            SELECT hook_id FROM unnest($1::uuid[]) WITH ORDINALITY AS h (hook_id, place)
            ORDER BY place
            ON CONFLICT (hook_id) DO NOTHING",
        )
        .bind(&hooks)
        .execute(&mut *connection)
        .await?;
    }
    let rows = sqlx::query(
        "-- postrider: settle_health_read
        SELECT hook_id, fail_count, first_failure_at, last_failure_at, last_error, succeeded_at,
               recent_requests, phase, not_before, probes, warned_at
        FROM postrider_hook_health WHERE hook_id = ANY($1)
        ORDER BY hook_id FOR UPDATE",
    )
    .bind(&hooks)
    .try_map(|row: PgRow| health(&row))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn write_health(connection: &mut Connection, changed: &[(HookId, Health)]) -> Result<()> {
    let health = || changed.iter().map(|(_, health)| health);
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(
        "-- postrider: settle_health
        UPDATE postrider_hook_health AS h
        SET fail_count = i.fail_count, first_failure_at = i.first_failure_at,
            last_failure_at = i.last_failure_at, last_error = i.last_error,
            succeeded_at = i.succeeded_at, phase = i.phase, not_before = i.not_before,
            probes = i.probes, warned_at = i.warned_at, recent_requests = i.recent_requests
        FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::text[],
                    $6::timestamptz[], $7::text[], $8::timestamptz[], $9::integer[],
                    $10::timestamptz[], $11::bigint[])
             AS i (hook_id, fail_count, first_failure_at, last_failure_at, last_error,
                   succeeded_at, phase, not_before, probes, warned_at, recent_requests)
        WHERE h.hook_id = i.hook_id",
    )
    .bind(changed.iter().map(|(hook, _)| hook.0).bind_iter()) // $1 hook_id
    .bind(health().map(|h| count(h.fail_count)).bind_iter()) // $2 fail_count
    .bind(health().map(|h| h.first_failure_at).bind_iter()) // $3 first_failure_at
    .bind(health().map(|h| h.last_failure_at).bind_iter()) // $4 last_failure_at
    .bind(health().map(|h| h.last_error.as_deref()).bind_iter()) // $5 last_error
    .bind(health().map(|h| h.succeeded_at).bind_iter()) // $6 succeeded_at
    .bind(health().map(|h| h.phase.map(Phase::name)).bind_iter()) // $7 phase
    .bind(health().map(|h| h.not_before).bind_iter()) // $8 not_before
    .bind(health().map(|h| count(h.probes)).bind_iter()) // $9 probes
    .bind(health().map(|h| h.warned_at).bind_iter()) // $10 warned_at
    .bind(health().map(|h| h.recent.to_stored()).bind_iter()) // $11 recent_requests
    .execute(connection)
    .await?;
    Ok(())
}

/// Disables those of the hooks that are active, and returns them.
async fn disable(
    connection: &mut Connection,
    now: Timestamp,
    mut verdicts: Vec<Disabling>,
) -> Result<Vec<Disabling>> {
    if verdicts.is_empty() {
        return Ok(verdicts);
    }
    make_durable(connection).await?;
    let disabled: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: settle_disable
        WITH verdict AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::text[]) AS v (hook_id, reason)
        ), next AS MATERIALIZED (
            UPDATE postrider_meta SET hooks_version = hooks_version + 1
            WHERE singleton AND EXISTS (
                SELECT FROM verdict JOIN postrider_hooks AS h ON h.id = verdict.hook_id
                WHERE h.status = 'active' AND h.deleted_at IS NULL
            )
            RETURNING hooks_version
        )
        UPDATE postrider_hooks AS h
        SET status = 'disabled', disabled_reason = v.reason, disabled_at = $3,
            disabled_by = $4, updated_at = $3, version = next.hooks_version
        FROM verdict AS v, next
        WHERE h.id = v.hook_id AND h.status = 'active' AND h.deleted_at IS NULL
        RETURNING h.id",
    )
    .bind(verdicts.iter().map(|v| v.hook.0).bind_iter()) // $1 hook_id
    .bind(verdicts.iter().map(|v| v.reason.name()).bind_iter()) // $2 reason
    .bind(now) // $3 now
    .bind(OURSELVES) // $4 by
    .fetch_all(&mut *connection)
    .await?;
    verdicts.retain(|verdict| disabled.contains(&verdict.hook.0));
    let entries: Vec<_> = verdicts.iter().map(AuditEntry::disabled).collect();
    record(connection, &entries, now).await?;
    Ok(verdicts)
}

/// Records the warnings of those hooks that are active, and returns them.
async fn warn(
    connection: &mut Connection,
    now: Timestamp,
    mut warnings: Vec<Warning>,
) -> Result<Vec<Warning>> {
    if warnings.is_empty() {
        return Ok(warnings);
    }
    let active: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: settle_warn
        SELECT id FROM postrider_hooks
        WHERE id = ANY($1) AND status = 'active' AND deleted_at IS NULL",
    )
    .bind(warnings.iter().map(|warning| warning.hook.0).bind_iter())
    .fetch_all(&mut *connection)
    .await?;
    warnings.retain(|warning| active.contains(&warning.hook.0));
    let entries: Vec<_> = warnings.iter().map(AuditEntry::warned).collect();
    record(connection, &entries, now).await?;
    Ok(warnings)
}
