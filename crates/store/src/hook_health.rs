//! What settled requests mean for the health of their hooks: decided here, for both stores.
//!
//! A store reads the rows of health, asks [`decide`], and writes the answer. A hook that always
//! answers has no row and is never concerned.

use crate::settlement::{DeliverySettlement, requests_of};
use crate::stored_row::StoredRow;
use crate::{Disabling, HookPhase, Settlement, Warning};
use postrider_core::{Health, HealthAction, HookId, Observation, Phase, RecentRequests, scrub};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whether an attempt of any outcome can change this health: a success only ends failures.
pub(crate) fn is_failing(health: &Health) -> bool {
    health.fail_count > 0 || health.phase == Some(Phase::BackedOff)
}

/// The hooks whose health these deliveries may change: those that were failing, by
/// [`is_failing`], and those that failed now.
pub(crate) fn concerned(
    effective: &[DeliverySettlement<'_>],
    was_failing: impl Fn(HookId) -> bool,
) -> BTreeSet<HookId> {
    effective
        .iter()
        .filter(|s| s.attempt.outcome.is_hook_failure() || was_failing(s.hook()))
        .map(DeliverySettlement::hook)
        .collect()
}

/// Reads a row of `postrider_hook_health`.
pub(crate) fn health(row: &impl StoredRow) -> sqlx::Result<(HookId, Health)> {
    let phase = row.text_or_null("phase")?;
    let health = Health {
        fail_count: row.count("fail_count")?,
        first_failure_at: row.time_or_null("first_failure_at")?,
        last_failure_at: row.time_or_null("last_failure_at")?,
        last_error: row.text_or_null("last_error")?,
        succeeded_at: row.time_or_null("succeeded_at")?,
        recent: RecentRequests::from_stored(row.number("recent_requests")?),
        phase: phase.as_deref().and_then(Phase::from_name),
        not_before: row.time_or_null("not_before")?,
        probes: row.count("probes")?,
        warned_at: row.time_or_null("warned_at")?,
    };
    Ok((HookId(row.uuid("hook_id")?), health))
}

/// What is to be written of the concerned hooks, each list in the order of the hooks' ids.
#[derive(Debug, Default)]
pub(crate) struct HealthChanges {
    /// Health that differs from what is known.
    pub changed: Vec<(HookId, Health)>,
    /// Hooks whose phase changes: they get a new version.
    pub moved: Vec<HookId>,
    /// Hooks to disable, if they are active.
    pub verdicts: Vec<Disabling>,
    /// Hooks to warn of, if they are active.
    pub warnings: Vec<Warning>,
    /// The phase of every concerned hook, without the version.
    pub phases: Vec<HookPhase>,
}

/// What was written of the hooks of a transaction's settlements.
#[derive(Default)]
pub(crate) struct HealthResult {
    /// Hooks that were active and are disabled now.
    pub disabled: Vec<Disabling>,
    /// Active hooks that were warned of.
    pub warned: Vec<Warning>,
    pub phases: Vec<HookPhase>,
}

/// Decides the health of the `concerned` hooks after these deliveries. `known` has the health
/// of those that have a row.
pub(crate) fn decide(
    effective: &[DeliverySettlement<'_>],
    concerned: &BTreeSet<HookId>,
    known: &HashMap<HookId, Health>,
) -> HealthChanges {
    let mut by_hook: BTreeMap<HookId, Vec<&Settlement>> = BTreeMap::new();
    for settlement in requests_of(effective) {
        let hook = settlement.request.hook.id;
        if concerned.contains(&hook) {
            by_hook.entry(hook).or_default().push(settlement);
        }
    }
    let mut changes = HealthChanges::default();
    for (hook, settlements) in by_hook {
        let before = known.get(&hook).cloned().unwrap_or_default();
        let Some((after, verdict)) = judge(hook, &before, &settlements) else {
            continue;
        };
        match verdict {
            HealthAction::Nothing => {}
            HealthAction::Warn => changes.warnings.push(Warning::of(hook, &after)),
            HealthAction::Disable(reason) => {
                changes.verdicts.push(Disabling::of(hook, reason, &after));
            }
        }
        changes.phases.push(HookPhase::of(hook, &after));
        if after.phase != before.phase {
            changes.moved.push(hook);
        }
        if after != before {
            changes.changed.push((hook, after));
        }
    }
    changes
}

/// The hook's health after these requests, in the order in which they ended, by the policy of
/// its latest version among them.
fn judge(
    hook: HookId,
    before: &Health,
    settlements: &[&Settlement],
) -> Option<(Health, HealthAction)> {
    let latest = settlements.iter().max_by_key(|s| s.request.hook.version)?;
    let mut observations: Vec<Observation> = settlements.iter().map(|s| s.observation()).collect();
    observations.sort_by_key(|observation| observation.at);
    let (mut after, verdict) = before.after(hook, &observations, &latest.policy);
    after.last_error = after.last_error.as_deref().map(scrub);
    Some((after, verdict))
}

impl HealthChanges {
    /// Marks the phases that have changed with the version that their hooks get.
    pub(crate) fn set_version(&mut self, version: Option<i64>) {
        for phase in &mut self.phases {
            phase.version = version.filter(|_| self.moved.contains(&phase.hook));
        }
    }
}
