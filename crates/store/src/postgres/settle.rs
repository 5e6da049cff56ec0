//! Records attempts and gives their deliveries the next step, in one transaction, under the
//! lease.
//!
//! What a settlement finds under another token has become another worker's: its attempt is
//! kept as late, and neither the delivery nor its hook's health changes. Locks are taken in
//! one order everywhere: leases by token, deliveries, health by hook id, the version of the
//! hooks, hooks. What is recorded of hooks and announced waits for nobody.

use super::PostgresStore;
use super::health::{disable, observed, warn, weigh};
use super::operational_events::announce;
use super::order::give_turns;
use super::settle_rows::{Written, open_members, record_late, settle_fresh, settle_rows};
use super::targets::keep_targets;
use crate::Result;
use crate::batch::halves;
use crate::operational_events::of_settled;
use crate::{SettleResult, Settlement};
use postrider_core::Timestamp;
use std::collections::HashSet;

impl PostgresStore {
    /// Settles all at once; when the database refuses something, half by half, until what it
    /// refuses stands alone and is settled without its text.
    pub(super) async fn settle(&self, now: Timestamp, all: &[Settlement]) -> Result<SettleResult> {
        let mut settled = SettleResult::default();
        let mut all: Vec<_> = all.iter().collect();
        let given = all.len();
        let mut seen = HashSet::with_capacity(given);
        all.retain(|settlement| seen.insert(settlement.attempt.id));
        settled.replayed += count(given - all.len());
        let mut parts = vec![(all.as_slice(), Manner::Plain)];
        while let Some((part, manner)) = parts.pop() {
            match self.settle_part(now, part, manner).await {
                Ok(Some(part)) => settled.add(part),
                Ok(None) => parts.push((part, Manner::OneByOne)),
                Err(failure) if failure.refusal().is_some() => match halves(part) {
                    Some((first, second)) => parts.extend([(second, manner), (first, manner)]),
                    None => {
                        let scrubbed = self.settle_part(now, part, Manner::Scrubbed).await?;
                        settled.add(scrubbed.unwrap_or_default());
                        settled.scrubbed += count(part.len());
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(settled)
    }

    /// Settles in one transaction; `None` when it must be looked at one by one first.
    async fn settle_part(
        &self,
        now: Timestamp,
        part: &[&Settlement],
        manner: Manner,
    ) -> Result<Option<SettleResult>> {
        let Some(slot) = part.first().map(|settlement| settlement.leased.slot) else {
            return Ok(Some(SettleResult::default()));
        };
        let scrubbed = manner == Manner::Scrubbed;
        let (mut fresh, rows): (Vec<_>, Vec<_>) = part
            .iter()
            .copied()
            .partition(|settlement| settlement.leased.fresh.is_some());
        let mut settled = SettleResult::default();
        let mut tx = self.hot.begin().await?;
        let mut written = Written::default();
        if manner != Manner::Plain {
            (fresh, written.lost) = open_members(&mut tx, slot, fresh).await?;
        }
        if !fresh.is_empty()
            && !settle_fresh(&mut tx, slot, now, fresh, scrubbed, &mut written).await?
        {
            tx.rollback().await?;
            return Ok(None);
        }
        if !rows.is_empty() {
            settle_rows(&mut tx, slot, now, rows, scrubbed, &mut written).await?;
        }
        if !written.lost.is_empty() {
            let recorded = record_late(&mut tx, slot, &written.lost, scrubbed).await?;
            settled.replayed += count(written.lost.len() - recorded.len());
            let late = written.lost.iter();
            let late = late.filter(|settlement| recorded.contains(&settlement.attempt.id.0));
            settled.late = late.map(|settlement| settlement.leased.id).collect();
        }
        keep_targets(&mut tx, slot, &self.keys, &written.effective).await?;
        let cache = self.cache.get();
        let freed = written.effective.iter().filter_map(|s| s.freed_key(&cache));
        give_turns(&mut tx, slot, freed.collect(), now).await?;
        settled.settled = count(written.effective.len());
        let observed = observed(&written.effective, &written.failing);
        if !observed.is_empty() {
            let weighed = weigh(&mut tx, &observed, &written.known).await?;
            settled.standings = weighed.standings;
            settled.disabled = disable(&mut tx, now, weighed.verdicts).await?;
            settled.warned = warn(&mut tx, now, weighed.warnings).await?;
        }
        let announcements = of_settled(
            &self.cache.get(),
            &written.effective,
            &settled.warned,
            &settled.disabled,
            now,
        );
        announce(&mut tx, slot, &announcements, now).await?;
        tx.commit().await?;
        Ok(Some(settled))
    }
}

/// How a part is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Each member of a lease is open, or none is.
    Plain,
    /// Some members of a lease are not open: they were settled before, as when this call
    /// repeats one whose answer was lost, or given back.
    OneByOne,
    /// Without what the receiver answered: the database refused that.
    Scrubbed,
}

impl SettleResult {
    fn add(&mut self, part: Self) {
        self.settled += part.settled;
        self.replayed += part.replayed;
        self.scrubbed += part.scrubbed;
        self.late.extend(part.late);
        self.disabled.extend(part.disabled);
        self.warned.extend(part.warned);
        self.standings.extend(part.standings);
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
