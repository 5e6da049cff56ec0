//! What settled attempts mean for the health of their hooks, and for their status.
//!
//! Rows are written only when something changes, made before any is locked, locked in the
//! order of the hooks and never deleted: two settlements cannot wait for each other in a circle.

use super::hook_history::record;
use crate::Result;
use crate::audit_entry::AuditEntry;
use crate::settlement::{DeliverySettlement, requests_of};
use crate::{Disabling, HookPhase, Warning};
use postrider_core::{
    Health, HealthPolicy, HookId, OURSELVES, Observation, Phase, Timestamp, Verdict, scrub,
};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// What the attempts of one hook say about it, in the order they ended.
pub(super) struct Observed {
    attempts: Vec<Observation>,
    policy: HealthPolicy,
}

/// The hooks whose health these settlements may change: a success that finds no failures
/// changes nothing.
pub(super) fn observed(
    effective: &[DeliverySettlement<'_>],
    failing: &HashSet<Uuid>,
) -> BTreeMap<HookId, Observed> {
    let mut concerned: HashSet<HookId> = failing.iter().copied().map(HookId).collect();
    let failed = effective
        .iter()
        .filter(|s| s.attempt.outcome.is_hook_failure());
    concerned.extend(failed.map(|s| s.hook()));
    let mut observed: BTreeMap<HookId, Observed> = BTreeMap::new();
    if concerned.is_empty() {
        return observed;
    }
    for settlement in requests_of(effective) {
        let hook = settlement.request.hook.id;
        if !concerned.contains(&hook) {
            continue;
        }
        let of_hook = observed.entry(hook).or_insert_with(|| Observed {
            attempts: Vec::new(),
            policy: settlement.policy,
        });
        of_hook.policy = settlement.policy;
        of_hook.attempts.push(settlement.observation());
    }
    for of_hook in observed.values_mut() {
        of_hook.attempts.sort_by_key(|observation| observation.at);
    }
    observed
}

/// What the attempts mean for their hooks.
#[derive(Default)]
pub(super) struct Weighed {
    /// Hooks that are to be disabled.
    pub verdicts: Vec<Disabling>,
    /// Hooks that are half of the way there.
    pub warnings: Vec<Warning>,
    /// How all of them stand.
    pub standings: Vec<HookPhase>,
}

/// Brings the hooks' health up to date. A hook whose phase changes gets a new version.
pub(super) async fn weigh(
    connection: &mut PgConnection,
    observed: &BTreeMap<HookId, Observed>,
    known: &HashSet<Uuid>,
) -> Result<Weighed> {
    let before = lock_health(connection, observed, known).await?;
    let mut changed = Vec::new();
    let mut moved = Vec::new();
    let mut weighed = Weighed::default();
    for (hook, of_hook) in observed {
        let health = before.get(hook).cloned().unwrap_or_default();
        let (after, verdict) = health.after(*hook, &of_hook.attempts, &of_hook.policy);
        match verdict {
            Verdict::Unchanged => {}
            Verdict::Warn => weighed.warnings.push(Warning::of(*hook, &after)),
            Verdict::Disable(reason) => {
                weighed.verdicts.push(Disabling::of(*hook, reason, &after));
            }
        }
        weighed.standings.push(HookPhase::of(*hook, &after));
        if after.phase != health.phase {
            moved.push(*hook);
        }
        if after != health {
            changed.push((*hook, after));
        }
    }
    if !changed.is_empty() {
        write_health(connection, &changed).await?;
    }
    if !moved.is_empty() {
        let version = renew_versions(connection, &moved).await?;
        for standing in &mut weighed.standings {
            standing.version = version.filter(|_| moved.contains(&standing.hook));
        }
    }
    Ok(weighed)
}

/// Lets every worker know of hooks whose phase has changed: they get a new version, which is
/// returned.
pub(super) async fn renew_versions(
    connection: &mut PgConnection,
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

/// Unlike the rest of the transaction's kind, this one must last: a version that was seen must
/// never be given out again, and what was sent together must be known.
pub(super) async fn make_durable(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("SET LOCAL synchronous_commit = on")
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks the rows of health, in the order of the hooks, and reads them.
async fn lock_health(
    connection: &mut PgConnection,
    observed: &BTreeMap<HookId, Observed>,
    known: &HashSet<Uuid>,
) -> Result<HashMap<HookId, Health>> {
    let hooks: Vec<_> = observed.keys().map(|hook| hook.0).collect();
    if hooks.iter().any(|hook| !known.contains(hook)) {
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
               phase, not_before, probes, warned_at
        FROM postrider_hook_health WHERE hook_id = ANY($1)
        ORDER BY hook_id FOR UPDATE",
    )
    .bind(&hooks)
    .try_map(|row: PgRow| health_from(&row))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

fn health_from(row: &PgRow) -> std::result::Result<(HookId, Health), sqlx::Error> {
    let phase: Option<&str> = row.try_get(6)?;
    let health = Health {
        fail_count: row.try_get::<i32, _>(1)?.unsigned_abs(),
        first_failure_at: row.try_get(2)?,
        last_failure_at: row.try_get(3)?,
        last_error: row.try_get(4)?,
        succeeded_at: row.try_get(5)?,
        phase: phase.and_then(Phase::from_name),
        not_before: row.try_get(7)?,
        probes: row.try_get::<i32, _>(8)?.unsigned_abs(),
        warned_at: row.try_get(9)?,
    };
    Ok((HookId(row.try_get(0)?), health))
}

async fn write_health(connection: &mut PgConnection, changed: &[(HookId, Health)]) -> Result<()> {
    let health = || changed.iter().map(|(_, health)| health);
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let last_error = |h: &Health| h.last_error.as_deref().map(scrub);
    sqlx::query(
        "-- postrider: settle_health
        UPDATE postrider_hook_health AS h
        SET fail_count = i.fail_count, first_failure_at = i.first_failure_at,
            last_failure_at = i.last_failure_at, last_error = i.last_error,
            succeeded_at = i.succeeded_at, phase = i.phase, not_before = i.not_before,
            probes = i.probes, warned_at = i.warned_at
        FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::text[],
                    $6::timestamptz[], $7::text[], $8::timestamptz[], $9::integer[],
                    $10::timestamptz[])
             AS i (hook_id, fail_count, first_failure_at, last_failure_at, last_error,
                   succeeded_at, phase, not_before, probes, warned_at)
        WHERE h.hook_id = i.hook_id",
    )
    .bind(changed.iter().map(|(hook, _)| hook.0).bind_iter())
    .bind(health().map(|h| count(h.fail_count)).bind_iter())
    .bind(health().map(|h| h.first_failure_at).bind_iter())
    .bind(health().map(|h| h.last_failure_at).bind_iter())
    .bind(health().map(last_error).bind_iter())
    .bind(health().map(|h| h.succeeded_at).bind_iter())
    .bind(health().map(|h| h.phase.map(Phase::name)).bind_iter())
    .bind(health().map(|h| h.not_before).bind_iter())
    .bind(health().map(|h| count(h.probes)).bind_iter())
    .bind(health().map(|h| h.warned_at).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Disables those of the hooks that are active, and returns them.
pub(super) async fn disable(
    connection: &mut PgConnection,
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
    .bind(verdicts.iter().map(|v| v.hook.0).bind_iter())
    .bind(verdicts.iter().map(|v| v.reason.name()).bind_iter())
    .bind(now)
    .bind(OURSELVES)
    .fetch_all(&mut *connection)
    .await?;
    verdicts.retain(|verdict| disabled.contains(&verdict.hook.0));
    let entries: Vec<_> = verdicts.iter().map(AuditEntry::disabled).collect();
    record(connection, &entries, now).await?;
    Ok(verdicts)
}

/// Records the warnings of those hooks that are active, and returns them.
pub(super) async fn warn(
    connection: &mut PgConnection,
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
