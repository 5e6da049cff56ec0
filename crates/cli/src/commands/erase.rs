//! `postrider event erase` and `postrider account erase`: erasing the contents of events.

use super::confirm::{agreed, confirmed, unchanged};
use super::show;
use super::value_parsers::id;
use crate::failure::Result;
use crate::globals::Globals;
use crate::output::notice;
use crate::secrets::Need;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use postrider_core::EventId;
use postrider_store::{Erased, EventFilter, Store};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Events in one transaction.
const BATCH: u32 = 100;

/// How long the command waits for attempts in flight to end.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(90);
/// How often it checks them.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Erase the contents of one event.
///
/// Its payload becomes null; its headers and the answers of receivers are deleted. Its pending
/// deliveries are cancelled with the reason erased. An event in the outbox is removed from it. Cannot
/// be undone. Asks for confirmation at a terminal, and needs --yes elsewhere.
#[derive(Debug, Args)]
pub struct EraseEvent {
    /// The event's id, which receivers see as webhook-id
    #[arg(value_parser = id::<EventId>)]
    id: EventId,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// Erase the contents of an account's events.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    Erase(EraseAccount),
}

/// Erase the contents of all events of an account.
///
/// Payloads become null; headers and the answers of receivers are deleted. Pending deliveries are
/// cancelled with the reason erased. Events in the outbox are removed from it. Hooks and keys of the
/// account stay. Cannot be undone. Asks for confirmation at a terminal, and needs --yes elsewhere. It
/// may be interrupted and run again.
#[derive(Debug, Args)]
pub struct EraseAccount {
    /// The account
    name: String,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// Number of erased things of each kind.
#[derive(Debug, Default, Serialize)]
struct ErasedTotal {
    events: u64,
    queued: u64,
    rejected: u64,
    cancelled: u64,
    responses: u64,
}

impl ErasedTotal {
    fn add(&mut self, erased: &Erased) {
        self.events += u64::from(erased.events);
        self.queued += u64::from(erased.queued);
        self.rejected += u64::from(erased.rejected);
        self.cancelled += u64::from(erased.cancelled);
        self.responses += u64::from(erased.responses);
    }

    fn sentence(&self) -> String {
        format!(
            "Erased {} events, {} rejected rows and {} responses; removed {} events from the \
             outbox and cancelled {} deliveries.",
            self.events, self.rejected, self.responses, self.queued, self.cancelled
        )
    }
}

impl EraseEvent {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let event = store.event(self.id).await?;
        let question = async || {
            notice(show::event(&event));
            confirmed("Erase the contents of this event for good? [y/N] ")
        };
        if !agreed(self.yes, "erasing", question).await? {
            unchanged();
            return Ok(());
        }
        let mut total = ErasedTotal::default();
        let left = erase(store.as_ref(), &[self.id], &mut total).await?;
        finish(store.as_ref(), left, &mut total).await?;
        globals.output().result(&total, || total.sentence())
    }
}

impl AccountCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Erase(command) => command.run(globals).await,
        }
    }
}

impl EraseAccount {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let question = async || {
            let name = &self.name;
            confirmed(&format!(
                "Erase the contents of all events of the account {name} for good? [y/N] "
            ))
        };
        if !agreed(self.yes, "erasing", question).await? {
            unchanged();
            return Ok(());
        }
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_millis(100));
        let (mut total, mut left) = (ErasedTotal::default(), Vec::new());
        let (mut before, mut seen) = (None, 0);
        loop {
            let filter = EventFilter {
                account: Some(self.name.clone()),
                before,
                limit: BATCH,
                ..EventFilter::default()
            };
            let page = store.events(filter).await?;
            let ids: Vec<_> = page.iter().map(|event| event.id).collect();
            let Some(last) = ids.last() else { break };
            before = Some(*last);
            left.extend(erase(store.as_ref(), &ids, &mut total).await?);
            seen += ids.len();
            progress.set_message(format!("{seen} events"));
        }
        loop {
            let rejected = store.erase_rejected(&self.name, BATCH).await?;
            total.rejected += u64::from(rejected);
            if rejected == 0 {
                break;
            }
        }
        progress.finish_and_clear();
        finish(store.as_ref(), left, &mut total).await?;
        globals.output().result(&total, || total.sentence())
    }
}

/// Erases a batch of events; returns those with an attempt in flight, which are not erased.
async fn erase(
    store: &dyn Store,
    ids: &[EventId],
    total: &mut ErasedTotal,
) -> Result<Vec<EventId>> {
    let erased = store.erase(ids, store.now().await?).await?;
    total.add(&erased);
    Ok(erased.in_flight)
}

/// Erases the events with attempts in flight when these end.
async fn finish(store: &dyn Store, mut left: Vec<EventId>, total: &mut ErasedTotal) -> Result<()> {
    let started = Instant::now();
    while !left.is_empty() {
        if started.elapsed() > IN_FLIGHT_MAX {
            anyhow::bail!(
                "{} events still have attempts in flight, {} among them, and were not erased: run \
                 the command again in a minute",
                left.len(),
                left[0]
            );
        }
        tokio::time::sleep(CHECK_EVERY).await;
        let mut still = Vec::new();
        for ids in left.chunks(BATCH as usize) {
            still.extend(erase(store, ids, total).await?);
        }
        left = still;
    }
    Ok(())
}
