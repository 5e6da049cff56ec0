//! Records attempts and gives their deliveries the next step, in one transaction, under the
//! lease.
//!
//! What a settlement finds under another token has become another worker's: its attempt is
//! kept as late, and neither the delivery nor its hook's health changes. Locks are taken in
//! one order everywhere: deliveries, health by hook id, the version of the hooks, hooks.

use super::PostgresStore;
use super::errors::Result;
use crate::{Disabling, Settled, Settlement, Step};
use postrider_core::{Health, HealthPolicy, HookId, Observation, Timestamp, Verdict};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// Who disables a hook for its failures.
const OURSELVES: &str = "postrider";

/// What stands in place of a text that the database refuses.
const REFUSED_TEXT: &str = "the database refused the response text";

impl PostgresStore {
    /// Settles all at once; when the database refuses something, half by half, until what it
    /// refuses stands alone and is settled without its text.
    pub(super) async fn settle(&self, now: Timestamp, all: &[Settlement]) -> Result<Settled> {
        let mut settled = Settled::default();
        let mut parts = vec![all];
        while let Some(part) = parts.pop() {
            match self.settle_part(now, part, false).await {
                Ok(part) => settled.add(part),
                Err(failure) if failure.refusal().is_some() && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(failure) if failure.refusal().is_some() => {
                    settled.add(self.settle_part(now, part, true).await?);
                    settled.scrubbed += 1;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(settled)
    }

    async fn settle_part(
        &self,
        now: Timestamp,
        part: &[Settlement],
        scrubbed: bool,
    ) -> Result<Settled> {
        let Some(slot) = part.first().map(|settlement| settlement.leased.slot) else {
            return Ok(Settled::default());
        };
        let mut tx = self.hot.begin().await?;
        let found = write(&mut tx, slot, now, part, scrubbed).await?;
        let (effective, mut settled) = found.sort(part);
        let observed = observed(&effective, &found.failing);
        if !observed.is_empty() {
            let verdicts = weigh(&mut tx, &observed, &found.known).await?;
            settled.disabled = disable(&mut tx, now, verdicts).await?;
        }
        tx.commit().await?;
        Ok(settled)
    }
}

impl Settled {
    fn add(&mut self, part: Self) {
        self.settled += part.settled;
        self.replayed += part.replayed;
        self.scrubbed += part.scrubbed;
        self.late.extend(part.late);
        self.disabled.extend(part.disabled);
    }
}

/// What the statement tells: attempts whose lease was lost, which of them were recorded now,
/// and how the hooks stood before.
struct Found {
    lost: HashSet<Uuid>,
    late: HashSet<Uuid>,
    /// Hooks with a row of health.
    known: HashSet<Uuid>,
    /// Hooks with failures.
    failing: HashSet<Uuid>,
}

impl Found {
    /// The settlements that took effect, each once, and the account of all.
    fn sort<'a>(&self, part: &'a [Settlement]) -> (Vec<&'a Settlement>, Settled) {
        let mut settled = Settled::default();
        let mut effective = Vec::with_capacity(part.len());
        let mut seen = HashSet::with_capacity(part.len());
        for settlement in part {
            let attempt = settlement.attempt.id.0;
            if !seen.insert(attempt) {
                settled.replayed += 1;
            } else if !self.lost.contains(&attempt) {
                settled.settled += 1;
                effective.push(settlement);
            } else if self.late.contains(&attempt) {
                settled.late.push(settlement.leased.id);
            } else {
                settled.replayed += 1;
            }
        }
        (effective, settled)
    }
}

async fn write(
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    part: &[Settlement],
    scrubbed: bool,
) -> Result<Found> {
    let next = |s: &Settlement| match s.step {
        Step::Retry(at) => Some(at),
        Step::Delivered | Step::Failed(_) => None,
    };
    let reason = |s: &Settlement| match s.step {
        Step::Failed(reason) => Some(reason.name()),
        Step::Delivered | Step::Retry(_) => None,
    };
    let status = |s: &Settlement| {
        s.attempt
            .outcome
            .status()
            .and_then(|n| i16::try_from(n).ok())
    };
    let error = |s: &Settlement| match s.attempt.error() {
        Some(_) if scrubbed => Some(REFUSED_TEXT.to_owned()),
        error => error,
    };
    let (lost, late, known, failing): (Vec<Uuid>, Vec<Uuid>, Vec<Uuid>, Vec<Uuid>) =
        sqlx::query_as(
            "-- postrider: settle
            WITH input AS MATERIALIZED (
                SELECT * FROM unnest(
                    $3::uuid[], $4::uuid[], $5::date[], $6::uuid[], $7::uuid[], $8::uuid[],
                    $9::integer[], $10::timestamptz[], $11::integer[], $12::text[],
                    $13::smallint[], $14::text[], $15::bytea[], $16::timestamptz[], $17::text[]
                ) AS i (delivery_id, token, day, event_id, hook_id, id, number, at, duration_ms,
                        outcome, status, error, response, next_attempt_at, reason)
            ), gone AS (
                DELETE FROM postrider_deliveries AS d USING input AS i
                WHERE d.slot = $1 AND d.id = i.delivery_id AND d.lease_token = i.token
                  AND i.next_attempt_at IS NULL
                RETURNING i.id
            ), waiting AS (
                UPDATE postrider_deliveries AS d
                SET next_attempt_at = i.next_attempt_at, attempts = i.number, lost_leases = 0,
                    lease_token = NULL, lease_expires_at = NULL
                FROM input AS i
                WHERE d.slot = $1 AND d.id = i.delivery_id AND d.lease_token = i.token
                  AND i.next_attempt_at IS NOT NULL
                RETURNING i.id
            ), fenced AS MATERIALIZED (
                SELECT id FROM gone UNION ALL SELECT id FROM waiting
            ), ended AS (
                INSERT INTO postrider_ended
                    (slot, day, delivery_id, event_id, hook_id, state, reason, attempts,
                     ended_at)
                SELECT $1, i.day, i.delivery_id, i.event_id, i.hook_id, 'failed', i.reason,
                       i.number, $2
                FROM input AS i
                WHERE i.reason IS NOT NULL AND i.id IN (SELECT id FROM gone)
                ON CONFLICT (slot, day, delivery_id) DO UPDATE
                SET state = excluded.state, reason = excluded.reason,
                    attempts = excluded.attempts, ended_at = excluded.ended_at
            ), recorded AS (
                INSERT INTO postrider_attempts
                    (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms,
                     outcome, status, error, response, late)
                SELECT $1, i.day, i.delivery_id, i.id, i.event_id, i.hook_id, i.number, i.at,
                       i.duration_ms, i.outcome, i.status, i.error, i.response,
                       i.id NOT IN (SELECT id FROM fenced)
                FROM input AS i
                ON CONFLICT (slot, day, delivery_id, id) DO NOTHING
                RETURNING id, late
            )
            SELECT ARRAY(SELECT id FROM input WHERE id NOT IN (SELECT id FROM fenced)),
                   ARRAY(SELECT id FROM recorded WHERE late),
                   ARRAY(SELECT hook_id FROM postrider_hook_health WHERE hook_id = ANY($18)),
                   ARRAY(SELECT hook_id FROM postrider_hook_health
                         WHERE hook_id = ANY($18) AND fail_count <> 0)",
        )
        .bind(slot)
        .bind(now)
        .bind(part.iter().map(|s| s.leased.id.0).bind_iter())
        .bind(part.iter().map(|s| s.leased.token.0).bind_iter())
        .bind(part.iter().map(|s| s.leased.day).bind_iter())
        .bind(part.iter().map(|s| s.leased.event.id.0).bind_iter())
        .bind(part.iter().map(|s| s.leased.hook.id.0).bind_iter())
        .bind(part.iter().map(|s| s.attempt.id.0).bind_iter())
        .bind(part.iter().map(number).bind_iter())
        .bind(part.iter().map(|s| s.attempt.at).bind_iter())
        .bind(part.iter().map(duration_ms).bind_iter())
        .bind(part.iter().map(|s| s.attempt.outcome.name()).bind_iter())
        .bind(part.iter().map(status).bind_iter())
        .bind(part.iter().map(error).bind_iter())
        .bind(part.iter().map(|s| response(s, scrubbed)).bind_iter())
        .bind(part.iter().map(next).bind_iter())
        .bind(part.iter().map(reason).bind_iter())
        .bind(hooks_of(part))
        .fetch_one(connection)
        .await?;
    Ok(Found {
        lost: lost.into_iter().collect(),
        late: late.into_iter().collect(),
        known: known.into_iter().collect(),
        failing: failing.into_iter().collect(),
    })
}

fn number(settlement: &Settlement) -> i32 {
    i32::try_from(settlement.leased.attempts.saturating_add(1)).unwrap_or(i32::MAX)
}

fn duration_ms(settlement: &Settlement) -> i32 {
    i32::try_from(settlement.attempt.duration.as_millis()).unwrap_or(i32::MAX)
}

fn response(settlement: &Settlement, scrubbed: bool) -> Option<&[u8]> {
    let response = settlement.attempt.response.as_slice();
    (!scrubbed && !response.is_empty()).then_some(response)
}

fn hooks_of(part: &[Settlement]) -> Vec<Uuid> {
    let mut hooks: Vec<_> = part.iter().map(|s| s.leased.hook.id.0).collect();
    hooks.sort_unstable();
    hooks.dedup();
    hooks
}

/// What the attempts of one hook say about it, in the order they ended.
struct Observed {
    attempts: Vec<Observation>,
    policy: HealthPolicy,
}

/// The hooks whose health these settlements may change: a success that finds no failures
/// changes nothing.
fn observed(effective: &[&Settlement], failing: &HashSet<Uuid>) -> BTreeMap<HookId, Observed> {
    let mut concerned: HashSet<HookId> = failing.iter().copied().map(HookId).collect();
    let failed = effective
        .iter()
        .filter(|s| s.attempt.outcome.is_hook_failure());
    concerned.extend(failed.map(|s| s.leased.hook.id));
    let mut observed: BTreeMap<HookId, Observed> = BTreeMap::new();
    if concerned.is_empty() {
        return observed;
    }
    for settlement in effective {
        let hook = settlement.leased.hook.id;
        if !concerned.contains(&hook) {
            continue;
        }
        let of_hook = observed.entry(hook).or_insert_with(|| Observed {
            attempts: Vec::new(),
            policy: settlement.policy,
        });
        of_hook.policy = settlement.policy;
        of_hook.attempts.push(Observation {
            at: settlement.attempt.at + settlement.attempt.duration,
            outcome: settlement.attempt.outcome.clone(),
        });
    }
    for of_hook in observed.values_mut() {
        of_hook.attempts.sort_by_key(|observation| observation.at);
    }
    observed
}

/// Brings the hooks' health up to date and returns those that are to be disabled.
async fn weigh(
    connection: &mut PgConnection,
    observed: &BTreeMap<HookId, Observed>,
    known: &HashSet<Uuid>,
) -> Result<Vec<Disabling>> {
    let before = lock_health(connection, observed, known).await?;
    let mut changed = Vec::new();
    let mut verdicts = Vec::new();
    for (hook, of_hook) in observed {
        let health = before.get(hook).cloned().unwrap_or_default();
        let (after, verdict) = health.after(&of_hook.attempts, &of_hook.policy);
        if let Verdict::Disable(reason) = verdict {
            verdicts.push(Disabling {
                hook: *hook,
                reason,
                fail_count: after.fail_count,
                last_error: after.last_error.clone().unwrap_or_default(),
            });
        }
        if after != health {
            changed.push((*hook, after));
        }
    }
    if !changed.is_empty() {
        write_health(connection, &changed).await?;
    }
    Ok(verdicts)
}

/// Locks the rows of health in the order of the hooks. Rows are made before any is locked and
/// never deleted, so that two settlements cannot wait for each other in a circle.
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
    type Row = (
        Uuid,
        i32,
        Option<Timestamp>,
        Option<Timestamp>,
        Option<String>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "-- postrider: settle_health_lock
        SELECT hook_id, fail_count, first_failure_at, last_failure_at, last_error
        FROM postrider_hook_health WHERE hook_id = ANY($1)
        ORDER BY hook_id FOR UPDATE",
    )
    .bind(&hooks)
    .fetch_all(connection)
    .await?;
    let health = rows
        .into_iter()
        .map(|(hook, fail_count, first, last, error)| {
            let health = Health {
                fail_count: fail_count.unsigned_abs(),
                first_failure_at: first,
                last_failure_at: last,
                last_error: error,
            };
            (HookId(hook), health)
        });
    Ok(health.collect())
}

async fn write_health(connection: &mut PgConnection, changed: &[(HookId, Health)]) -> Result<()> {
    let health = || changed.iter().map(|(_, health)| health);
    let fail_count = |h: &Health| i32::try_from(h.fail_count).unwrap_or(i32::MAX);
    let last_error = |h: &Health| h.last_error.as_deref().map(postrider_core::scrub);
    sqlx::query(
        "-- postrider: settle_health
        UPDATE postrider_hook_health AS h
        SET fail_count = i.fail_count, first_failure_at = i.first_failure_at,
            last_failure_at = i.last_failure_at, last_error = i.last_error
        FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::text[])
             AS i (hook_id, fail_count, first_failure_at, last_failure_at, last_error)
        WHERE h.hook_id = i.hook_id",
    )
    .bind(changed.iter().map(|(hook, _)| hook.0).bind_iter())
    .bind(health().map(fail_count).bind_iter())
    .bind(health().map(|h| h.first_failure_at).bind_iter())
    .bind(health().map(|h| h.last_failure_at).bind_iter())
    .bind(health().map(last_error).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Disables those of the hooks that are active, and returns them.
async fn disable(
    connection: &mut PgConnection,
    now: Timestamp,
    mut verdicts: Vec<Disabling>,
) -> Result<Vec<Disabling>> {
    if verdicts.is_empty() {
        return Ok(verdicts);
    }
    // A person is told of it: unlike the rest of the transaction's kind, this must last.
    sqlx::raw_sql("SET LOCAL synchronous_commit = on")
        .execute(&mut *connection)
        .await?;
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
    .fetch_all(connection)
    .await?;
    verdicts.retain(|verdict| disabled.contains(&verdict.hook.0));
    Ok(verdicts)
}
