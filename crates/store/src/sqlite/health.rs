//! How hooks do, written in the transaction that settles their attempts.
//!
//! The fail count of a hook is written only when it changes: a hook that always answers has no
//! row, and none is made for it.

use super::gates::renew_versions;
use super::hook_history::record;
use super::hooks::{disable, is_active};
use super::values::{micros, moment, rows};
use crate::audit_entry::AuditEntry;
use crate::settlement::{DeliverySettlement, requests_of};
use crate::{Disabling, HookPhase, Result, Settlement, Warning};
use postrider_core::{Health, HookId, Phase, Timestamp, Verdict, scrub};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::{BTreeMap, HashMap};

struct HealthRow(HookId, Health);

impl FromRow<'_, SqliteRow> for HealthRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let at = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(moment));
        let health = Health {
            fail_count: row.try_get("fail_count")?,
            first_failure_at: at("first_failure_at")?,
            last_failure_at: at("last_failure_at")?,
            last_error: row.try_get("last_error")?,
            succeeded_at: at("succeeded_at")?,
            phase: row
                .try_get::<Option<&str>, _>("phase")?
                .and_then(Phase::from_name),
            not_before: at("not_before")?,
            probes: row.try_get("probes")?,
            warned_at: at("warned_at")?,
        };
        Ok(Self(HookId(row.try_get("hook_id")?), health))
    }
}

/// What the attempts meant for their hooks.
#[derive(Default)]
pub(super) struct Weighed {
    /// Hooks that were disabled.
    pub disabled: Vec<Disabling>,
    /// Active hooks that are half of the way there.
    pub warned: Vec<Warning>,
    /// How those stand that were failing or have failed.
    pub standings: Vec<HookPhase>,
}

/// Takes the attempts that took effect into their hooks' health.
pub(super) async fn update_health(
    tx: &mut SqliteConnection,
    held: &[DeliverySettlement<'_>],
    now: Timestamp,
) -> Result<Weighed> {
    let mut by_hook: BTreeMap<HookId, Vec<&Settlement>> = BTreeMap::new();
    for settlement in requests_of(held) {
        by_hook
            .entry(settlement.request.hook.id)
            .or_default()
            .push(settlement);
    }
    let known = read(tx, by_hook.keys().copied()).await?;
    let mut weighed = Weighed::default();
    let (mut moved, mut entries) = (Vec::new(), Vec::new());
    for (hook, settlements) in by_hook {
        let before = known.get(&hook).cloned().unwrap_or_default();
        let Some((mut health, verdict)) = judge(hook, &before, &settlements) else {
            continue;
        };
        health.last_error = health.last_error.as_deref().map(scrub);
        if health != before || before.fail_count > 0 || before.phase == Some(Phase::BackedOff) {
            weighed.standings.push(HookPhase::of(hook, &health));
        }
        if health.phase != before.phase {
            moved.push(hook);
        }
        if health != before {
            write(tx, hook, &health).await?;
        }
        match verdict {
            Verdict::Disable(reason) if disable(tx, hook, reason, now).await? => {
                let disabling = Disabling::of(hook, reason, &health);
                entries.push(AuditEntry::disabled(&disabling));
                weighed.disabled.push(disabling);
            }
            Verdict::Warn if is_active(tx, hook).await? => {
                let warning = Warning::of(hook, &health);
                entries.push(AuditEntry::warned(&warning));
                weighed.warned.push(warning);
            }
            Verdict::Unchanged | Verdict::Warn | Verdict::Disable(_) => {}
        }
    }
    record(tx, &entries, now).await?;
    if !moved.is_empty() {
        let version = renew_versions(tx, &moved).await?;
        for standing in &mut weighed.standings {
            standing.version = Some(version).filter(|_| moved.contains(&standing.hook));
        }
    }
    Ok(weighed)
}

/// The hook's health after these attempts, taken in the order in which they ended.
fn judge(hook: HookId, before: &Health, settlements: &[&Settlement]) -> Option<(Health, Verdict)> {
    let policy = settlements.first()?.policy;
    let mut observations: Vec<_> = settlements
        .iter()
        .map(|settlement| settlement.observation())
        .collect();
    observations.sort_by_key(|observation| observation.at);
    Some(before.after(hook, &observations, &policy))
}

async fn read(
    tx: &mut SqliteConnection,
    hooks: impl Iterator<Item = HookId>,
) -> Result<HashMap<HookId, Health>> {
    let found: Vec<HealthRow> = sqlx::query_as(
        "-- postrider: settle_health_read
        SELECT hook_id, fail_count, first_failure_at, last_failure_at, last_error, succeeded_at,
            phase, not_before, probes, warned_at
        FROM postrider_hook_health
        WHERE hook_id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows(hooks.map(|hook| hook.0.simple())))
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().map(|row| (row.0, row.1)).collect())
}

async fn write(tx: &mut SqliteConnection, hook: HookId, health: &Health) -> Result<()> {
    sqlx::query(
        "-- postrider: settle_health
        INSERT INTO postrider_hook_health
            (hook_id, fail_count, first_failure_at, last_failure_at, last_error, succeeded_at,
             phase, not_before, probes, warned_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (hook_id) DO UPDATE
        SET fail_count = excluded.fail_count, first_failure_at = excluded.first_failure_at,
            last_failure_at = excluded.last_failure_at, last_error = excluded.last_error,
            succeeded_at = excluded.succeeded_at, phase = excluded.phase,
            not_before = excluded.not_before, probes = excluded.probes,
            warned_at = excluded.warned_at",
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
    .execute(tx)
    .await?;
    Ok(())
}
