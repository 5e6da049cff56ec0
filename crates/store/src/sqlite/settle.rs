//! Attempts in: recorded, and their deliveries given the next step, under the lease.
//!
//! The right to write is taken before the fence is read, so what holds then holds until the
//! commit. A batch that the database refuses is settled in halves; a settlement that is refused
//! alone is made without the response.

use super::SqliteStore;
use super::attempt_rows::{AttemptRow, insert_attempts, recorded_before};
use super::health::update_health;
use super::lease_group::take_settled;
use super::operational_events::announce;
use super::order::{forget_repeats, give_turns};
use super::settle_rows::{
    EndedRow, Rescheduled, WaitingRow, delete_deliveries, insert_ended, insert_waiting, reschedule,
};
use super::targets::keep_targets;
use super::values::{day_number, micros, rows};
use crate::count::count;
use crate::operational_events::of_settled;
use crate::row_state::RowState;
use crate::settlement::{DeliverySettlement, deliveries_of, halves};
use crate::{Error, LeaseKind, Result, SettleResult, Settlement, Step};
use postrider_core::Timestamp;
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// What is recorded instead of a text that the database does not take.
const REFUSED_TEXT: &str = "the database refused the response text";

impl SqliteStore {
    /// Settles all at once; a part that the database refuses is settled in halves, and a request
    /// that is refused alone without the response.
    pub(super) async fn settle_in_parts(
        &self,
        now: Timestamp,
        settlements: &[Settlement],
    ) -> Result<SettleResult> {
        let mut total = SettleResult::default();
        let mut seen = HashSet::with_capacity(settlements.len());
        let (all, repeated): (Vec<_>, Vec<_>) = settlements
            .iter()
            .partition(|settlement| seen.insert(settlement.attempt().id));
        total.replayed += deliveries_of(&repeated);
        // Depth first and in order, so that a hook's attempts count in theirs.
        let mut parts = vec![all.as_slice()];
        while let Some(part) = parts.pop() {
            let done = match self.settle_part(now, part, false).await {
                Err(Error::Refused(_)) => match halves(part) {
                    Some((first, second)) => {
                        parts.extend([second, first]);
                        continue;
                    }
                    None => self.settle_part(now, part, true).await?,
                },
                other => other?,
            };
            total.add(done);
        }
        Ok(total)
    }

    /// Settles in one transaction; `scrub` leaves out what the receiver said.
    async fn settle_part(
        &self,
        now: Timestamp,
        part: &[&Settlement],
        scrub: bool,
    ) -> Result<SettleResult> {
        if part.is_empty() {
            return Ok(SettleResult::default());
        }
        let mut tx = self.writer.begin().await?;
        let mut fenced = fenced(&mut tx, part).await?;
        // A delivery has one lease, so of two settlements under it the first counts.
        let (effective, lost): (Vec<_>, Vec<_>) = part
            .iter()
            .flat_map(|settlement| settlement.deliveries())
            .partition(|settled| fenced.remove(&settled.delivery.id.0));
        let attempts = effective.iter().map(|s| attempt_row(s, scrub)).collect();
        insert_attempts(&mut tx, attempts, false).await?;
        move_on(&mut tx, &effective, now).await?;
        keep_targets(&mut tx, &self.keys, &effective).await?;
        let cache = self.cache.get();
        let freed = effective.iter().filter_map(|s| s.freed_key(&cache));
        give_turns(&mut tx, freed.collect(), now).await?;
        let late: Vec<_> = lost.iter().map(|s| attempt_row(s, scrub)).collect();
        let recorded = recorded_before(&mut tx, &late).await?;
        insert_attempts(&mut tx, late, true).await?;
        let health = update_health(&mut tx, &effective, now).await?;
        let (cache, warned) = (self.cache.get(), &health.warned);
        let announcements = of_settled(&cache, &effective, warned, &health.disabled, now);
        announce(&mut tx, &announcements, now).await?;
        tx.commit().await?;

        let late = lost.iter().filter(|s| !recorded.contains(&s.attempt.id.0));
        Ok(SettleResult {
            settled: count(effective.len()),
            late: late.map(|settled| settled.delivery.id).collect(),
            replayed: count(recorded.len()),
            disabled: health.disabled,
            warned: health.warned,
            phases: health.phases,
            scrubbed: if scrub { deliveries_of(part) } else { 0 },
        })
    }
}

/// The deliveries that are still leased under the token of their settlement.
async fn fenced(tx: &mut SqliteConnection, part: &[&Settlement]) -> Result<HashSet<Uuid>> {
    let (members, with_rows): (Vec<_>, Vec<_>) = part
        .iter()
        .flat_map(|settlement| settlement.deliveries())
        .partition(|settled| settled.request().lease.kind != LeaseKind::Row);
    let mut fenced = take_settled(tx, &members).await?;
    let leases = rows(
        with_rows
            .iter()
            .map(|s| (s.delivery.id.0.simple(), s.request().lease.token.0.simple())),
    );
    if !leases.is_empty() {
        let leased: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: settle_fence
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
            SELECT d.id FROM s CROSS JOIN postrider_deliveries AS d
            ON d.slot = 0 AND d.id = unhex(v ->> 0) AND d.lease_token = unhex(v ->> 1)",
        )
        .bind(leases)
        .fetch_all(tx)
        .await?;
        fenced.extend(leased);
    }
    Ok(fenced)
}

/// Ends or reschedules the deliveries that are still leased.
async fn move_on(
    tx: &mut SqliteConnection,
    effective: &[DeliverySettlement<'_>],
    now: Timestamp,
) -> Result<()> {
    let (mut done, mut ended) = (Vec::new(), Vec::new());
    let (mut waiting, mut first_waiting) = (Vec::new(), Vec::new());
    let mut holding = Vec::new();
    for settled in effective {
        let delivery = settled.delivery;
        let (id, attempts) = (delivery.id.0.simple(), settled.number());
        match (settled.next_state(), settled.request().lease.group_member()) {
            (Some(state), None) => {
                waiting.push(Rescheduled {
                    id: delivery.id,
                    state,
                    attempts,
                    lost_leases: 0,
                });
                if state == RowState::HoldsKey {
                    holding.push(id);
                }
            }
            (Some(state), Some(member)) => first_waiting.push(WaitingRow {
                id,
                day: day_number(delivery.day),
                event_id: delivery.event.id.0.simple(),
                hook_id: settled.hook().0.simple(),
                event_seq: member.seq,
                ordering_key: delivery.event.ordering_key.as_deref(),
                attempts,
                next_attempt_at: micros(state.columns(delivery.id).next_attempt_at),
            }),
            (None, None) => done.push(id),
            (None, Some(_)) => {}
        }
        if let Step::Failed(reason) = settled.step() {
            ended.push(EndedRow {
                day: day_number(delivery.day),
                delivery_id: id,
                event_id: delivery.event.id.0.simple(),
                hook_id: settled.hook().0.simple(),
                state: "failed",
                reason: reason.name(),
                attempts,
            });
        }
    }
    delete_deliveries(tx, done).await?;
    insert_ended(tx, &ended, now).await?;
    insert_waiting(tx, &first_waiting).await?;
    reschedule(tx, &waiting).await?;
    forget_repeats(tx, holding).await
}

fn attempt_row<'a>(settled: &DeliverySettlement<'a>, scrub: bool) -> AttemptRow<'a> {
    let (delivery, attempt) = (settled.delivery, settled.attempt);
    AttemptRow {
        day: day_number(delivery.day),
        delivery_id: delivery.id.0,
        id: attempt.id.0,
        event_id: delivery.event.id.0,
        hook_id: settled.hook().0,
        number: settled.number(),
        at: micros(attempt.at),
        duration_ms: count(attempt.duration.as_millis()),
        outcome: attempt.outcome.name(),
        status: attempt.outcome.status(),
        error: match scrub {
            true => Some(REFUSED_TEXT.into()),
            false => attempt.error(),
        },
        response: if scrub { &[] } else { &attempt.response },
    }
}
