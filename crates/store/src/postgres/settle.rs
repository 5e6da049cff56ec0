//! Records attempts and gives their deliveries the next step, in one transaction, under the
//! lease.
//!
//! What a settlement finds under another token has become another worker's: its attempt is
//! kept as late, and neither the delivery nor its hook's health changes. Locks are taken in
//! one order everywhere: deliveries, health by hook id, the version of the hooks, hooks.

use super::PostgresStore;
use super::errors::Result;
use super::health::{disable, observed, weigh};
use crate::{Settled, Settlement, Step};
use postrider_core::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use std::collections::HashSet;
use uuid::Uuid;

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
            ), found AS MATERIALIZED (
                SELECT i.id, i.token, i.number, i.next_attempt_at, d.place
                FROM input AS i CROSS JOIN LATERAL (
                    SELECT ctid AS place, lease_token FROM postrider_deliveries
                    WHERE slot = $1 AND id = i.delivery_id LIMIT 1
                ) AS d
                WHERE d.lease_token = i.token
            ), gone AS (
                DELETE FROM postrider_deliveries AS d USING found AS f
                WHERE d.slot = $1 AND d.ctid = f.place AND d.lease_token = f.token
                  AND f.next_attempt_at IS NULL
                RETURNING f.id
            ), waiting AS (
                UPDATE postrider_deliveries AS d
                SET next_attempt_at = f.next_attempt_at, attempts = f.number, lost_leases = 0,
                    lease_token = NULL, lease_expires_at = NULL
                FROM found AS f
                WHERE d.slot = $1 AND d.ctid = f.place AND d.lease_token = f.token
                  AND f.next_attempt_at IS NOT NULL
                RETURNING f.id
            ), fenced AS MATERIALIZED (
                SELECT id FROM gone UNION ALL SELECT id FROM waiting
            ), ended AS (
                INSERT INTO postrider_ended
                    (slot, day, delivery_id, event_id, hook_id, state, reason, attempts,
                     ended_at)
                SELECT $1, i.day, i.delivery_id, i.event_id, i.hook_id, 'failed', i.reason,
                       i.number, $2
                FROM input AS i
                WHERE i.reason IS NOT NULL AND (i.id IN (SELECT id FROM fenced)) IS TRUE
                ON CONFLICT (slot, day, delivery_id) DO UPDATE
                SET state = excluded.state, reason = excluded.reason,
                    attempts = excluded.attempts, ended_at = excluded.ended_at
            ), recorded AS (
                -- Under the lease an attempt cannot have been recorded before, so this asks for
                -- no conflict: asking costs more than the row.
                INSERT INTO postrider_attempts
                    (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms,
                     outcome, status, error, response, late)
                SELECT $1, i.day, i.delivery_id, i.id, i.event_id, i.hook_id, i.number, i.at,
                       i.duration_ms, i.outcome, i.status, i.error, i.response, false
                FROM input AS i WHERE (i.id IN (SELECT id FROM fenced)) IS TRUE
            ), belated AS (
                INSERT INTO postrider_attempts
                    (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms,
                     outcome, status, error, response, late)
                SELECT $1, i.day, i.delivery_id, i.id, i.event_id, i.hook_id, i.number, i.at,
                       i.duration_ms, i.outcome, i.status, i.error, i.response, true
                FROM input AS i WHERE i.id NOT IN (SELECT id FROM fenced)
                ON CONFLICT (slot, day, delivery_id, id) DO NOTHING
                RETURNING id
            )
            SELECT ARRAY(SELECT id FROM input WHERE id NOT IN (SELECT id FROM fenced)),
                   ARRAY(SELECT id FROM belated),
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
