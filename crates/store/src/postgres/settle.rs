//! Records attempts and gives their deliveries the next step, in one transaction, under the
//! lease.
//!
//! A settlement is late if its delivery has another token or none by now. Its attempt is
//! recorded as late; the delivery and its hook's health stay as they are. Locks are taken in
//! one order everywhere: leases by token, deliveries, health by hook id, the version of the
//! hooks, hooks. Inserting hook history and operational events waits for no lock.

use super::PostgresStore;
use super::health::update_health;
use super::operational_events::announce;
use super::order::give_turns;
use super::settle_rows::{
    GroupSettling, Written, open_members, record_late, settle_fresh, settle_rows,
};
use super::targets::keep_targets;
use crate::Result;
use crate::count::count;
use crate::hook_health::concerned;
use crate::operational_events::of_settled;
use crate::settlement::{deliveries_of, halves};
use crate::{LeaseKind, SettleResult, Settlement};
use postrider_core::Timestamp;
use std::collections::HashSet;

impl PostgresStore {
    /// Settles all in one transaction. If the database refuses it, each half is settled alone,
    /// and so on. A single settlement that is refused is settled without its text.
    pub(super) async fn settle_in_parts(
        &self,
        now: Timestamp,
        all: &[Settlement],
    ) -> Result<SettleResult> {
        let mut settled = SettleResult::default();
        let mut seen = HashSet::with_capacity(all.len());
        let (all, repeated): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|settlement| seen.insert(settlement.attempt().id));
        settled.replayed += deliveries_of(&repeated);
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
                        settled.scrubbed += deliveries_of(part);
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(settled)
    }

    /// Settles in one transaction. `None`: not all group members are open; find the open ones.
    async fn settle_part(
        &self,
        now: Timestamp,
        part: &[&Settlement],
        manner: Manner,
    ) -> Result<Option<SettleResult>> {
        let Some(slot) = part.first().map(|first| first.request.lease.slot) else {
            return Ok(Some(SettleResult::default()));
        };
        let scrubbed = manner == Manner::Scrubbed;
        let (mut fresh, rows): (Vec<_>, Vec<_>) = part
            .iter()
            .flat_map(|settlement| settlement.deliveries())
            .partition(|settled| settled.request().lease.kind != LeaseKind::Row);
        let mut settled = SettleResult::default();
        let mut tx = self.hot.begin().await?;
        let mut written = Written::default();
        if manner != Manner::Plain {
            (fresh, written.lost) = open_members(&mut tx, slot, fresh).await?;
        }
        if !fresh.is_empty() {
            match settle_fresh(&mut tx, slot, now, fresh, scrubbed, &mut written).await? {
                GroupSettling::Written => {}
                GroupSettling::NotAllOpen => {
                    tx.rollback().await?;
                    return Ok(None);
                }
            }
        }
        if !rows.is_empty() {
            settle_rows(&mut tx, slot, now, rows, scrubbed, &mut written).await?;
        }
        if !written.lost.is_empty() {
            let recorded = record_late(&mut tx, slot, &written.lost, scrubbed).await?;
            settled.replayed += count(written.lost.len() - recorded.len());
            let late = written.lost.iter();
            let late = late.filter(|settled| recorded.contains(&settled.attempt.id.0));
            settled.late = late.map(|settled| settled.delivery.id).collect();
        }
        keep_targets(&mut tx, slot, &self.keys, &written.effective).await?;
        let cache = self.cache.get();
        let freed = written.effective.iter().filter_map(|s| s.freed_key(&cache));
        give_turns(&mut tx, slot, freed.collect(), now).await?;
        settled.settled = count(written.effective.len());
        let (effective, with_row) = (&written.effective, &written.with_health);
        let concerned = concerned(effective, |hook| written.failing.contains(&hook.0));
        let health = update_health(&mut tx, effective, &concerned, with_row, now).await?;
        settled.phases = health.phases;
        settled.disabled = health.disabled;
        settled.warned = health.warned;
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
    /// repeats one whose answer was lost, or released.
    OneByOne,
    /// Without what the receiver answered: the database refused that.
    Scrubbed,
}
