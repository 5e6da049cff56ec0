//! Attempts in: recorded, and their deliveries given the next step, under the lease.
//!
//! The right to write is taken before the fence is read, so what holds then holds until the
//! commit. A batch that the database refuses is settled in halves; a settlement that is refused
//! alone is made without the response.

use super::SqliteStore;
use super::errors::from_sqlx;
use super::health::update_health;
use super::settle_rows::{
    AttemptRow, EndedRow, delete_deliveries, excerpt, insert_attempts, insert_ended, reschedule,
};
use super::values::{day_number, micros, rows};
use crate::{Error, Result, Settled, Settlement, Step};
use postrider_core::Timestamp;
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// What is recorded instead of a text that the database does not take.
const REFUSED_TEXT: &str = "the database refused the response text";

impl SqliteStore {
    pub(super) async fn settle_batch(
        &self,
        now: Timestamp,
        settlements: &[Settlement],
    ) -> Result<Settled> {
        let mut total = Settled::default();
        // Depth first and in order, so that a hook's attempts count in theirs.
        let mut parts = vec![settlements];
        while let Some(part) = parts.pop() {
            let done = match self.settle_part(now, part, false).await {
                Err(Error::Refused(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                    continue;
                }
                Err(Error::Refused(_)) => self.settle_part(now, part, true).await?,
                other => other?,
            };
            total.settled += done.settled;
            total.late.extend(done.late);
            total.replayed += done.replayed;
            total.disabled.extend(done.disabled);
            total.standings.extend(done.standings);
            total.scrubbed += done.scrubbed;
        }
        Ok(total)
    }

    /// Settles in one transaction; `scrub` leaves out what the receiver said.
    async fn settle_part(
        &self,
        now: Timestamp,
        part: &[Settlement],
        scrub: bool,
    ) -> Result<Settled> {
        if part.is_empty() {
            return Ok(Settled::default());
        }
        let mut tx = self.writer.begin().await?;
        let mut fenced = fenced(&mut tx, part).await?;
        // A delivery has one lease, so of two settlements under it the first counts.
        let (held, lost): (Vec<_>, Vec<_>) = part
            .iter()
            .partition(|settlement| fenced.remove(&settlement.leased.id.0));
        move_on(&mut tx, &held, now).await?;
        let attempts: Vec<_> = held
            .iter()
            .map(|settlement| attempt_row(settlement, false, scrub))
            .chain(
                lost.iter()
                    .map(|settlement| attempt_row(settlement, true, scrub)),
            )
            .collect();
        let mut recorded = insert_attempts(&mut tx, &attempts).await?;
        let (disabled, standings) = update_health(&mut tx, &held, now).await?;
        tx.commit().await?;

        // One attempt may stand in the batch twice: it is recorded once, for the first.
        for settlement in &held {
            recorded.remove(&settlement.attempt.id.0);
        }
        let (late, replayed): (Vec<_>, Vec<_>) = lost
            .into_iter()
            .partition(|settlement| recorded.remove(&settlement.attempt.id.0));
        Ok(Settled {
            settled: count(held.len()),
            late: late.iter().map(|settlement| settlement.leased.id).collect(),
            replayed: count(replayed.len()),
            disabled,
            standings,
            scrubbed: if scrub { count(part.len()) } else { 0 },
        })
    }
}

/// The deliveries that are still leased under the token of their settlement.
async fn fenced(tx: &mut SqliteConnection, part: &[Settlement]) -> Result<HashSet<Uuid>> {
    let leases = part
        .iter()
        .map(|settlement| &settlement.leased)
        .map(|leased| (leased.id.0.simple(), leased.token.0.simple()));
    let fenced: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: settle_fence
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        SELECT d.id FROM s CROSS JOIN postrider_deliveries AS d
        ON d.slot = 0 AND d.id = unhex(v ->> 0) AND d.lease_token = unhex(v ->> 1)",
    )
    .bind(rows(leases))
    .fetch_all(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(fenced.into_iter().collect())
}

/// Ends or reschedules the deliveries that are still leased.
async fn move_on(tx: &mut SqliteConnection, held: &[&Settlement], now: Timestamp) -> Result<()> {
    let (mut done, mut ended, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for settlement in held {
        let leased = &settlement.leased;
        let id = leased.id.0.simple();
        match settlement.step {
            Step::Delivered => done.push(id),
            Step::Failed(reason) => {
                done.push(id);
                ended.push(EndedRow {
                    day: day_number(leased.day),
                    delivery_id: id,
                    event_id: leased.event.id.0.simple(),
                    hook_id: leased.hook.id.0.simple(),
                    state: "failed",
                    reason: reason.name(),
                    attempts: leased.attempts + 1,
                });
            }
            Step::Retry(at) => waiting.push((id, micros(at), leased.attempts + 1, 0)),
        }
    }
    delete_deliveries(tx, done).await?;
    insert_ended(tx, &ended, now).await?;
    reschedule(tx, &waiting).await
}

fn attempt_row(settlement: &Settlement, late: bool, scrub: bool) -> AttemptRow {
    let (leased, attempt) = (&settlement.leased, &settlement.attempt);
    let error = attempt.error();
    AttemptRow {
        day: day_number(leased.day),
        delivery_id: leased.id.0.simple(),
        id: attempt.id.0.simple(),
        event_id: leased.event.id.0.simple(),
        hook_id: leased.hook.id.0.simple(),
        number: leased.attempts + 1,
        at: micros(attempt.at),
        duration_ms: u32::try_from(attempt.duration.as_millis()).unwrap_or(u32::MAX),
        outcome: attempt.outcome.name(),
        status: attempt.outcome.status(),
        late,
        error: if scrub {
            Some(REFUSED_TEXT.into())
        } else {
            error
        },
        response: if scrub {
            None
        } else {
            excerpt(&attempt.response)
        },
    }
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
