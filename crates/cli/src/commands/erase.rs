//! `postrider event erase` and `postrider account erase`: what events said goes.

use super::confirm::{agreed, confirmed, unchanged};
use super::show;
use super::value_parsers::id;
use crate::database;
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
const AT_ONCE: u32 = 100;

/// How long is waited for attempts to end, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Erase what one event said.
///
/// Its payload becomes null; its headers and what receivers answered go. Deliveries of it that
/// wait are cancelled, with the reason erased. An event in the outbox is taken out of it. Cannot
/// be undone. Asks first when it is called at a terminal, and needs --yes elsewhere.
#[derive(Debug, Args)]
pub struct EraseEvent {
    /// The event's id: what receivers see as webhook-id
    #[arg(value_parser = id::<EventId>)]
    id: EventId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Erase what the events of an account said.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    Erase(EraseAccount),
}

/// Erase what all events of an account said.
///
/// Payloads become null; headers and what receivers answered go. Deliveries that wait are
/// cancelled, with the reason erased. Events in the outbox are taken out of it. Hooks and keys of
/// the account stay. Cannot be undone. Asks first when it is called at a terminal, and needs
/// --yes elsewhere. It may be interrupted and run again.
#[derive(Debug, Args)]
pub struct EraseAccount {
    /// The account
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What went, in all.
#[derive(Debug, Default, Serialize)]
struct Total {
    events: u64,
    queued: u64,
    rejected: u64,
    cancelled: u64,
    responses: u64,
}

impl Total {
    fn add(&mut self, erased: &Erased) {
        self.events += u64::from(erased.events);
        self.queued += u64::from(erased.queued);
        self.rejected += u64::from(erased.rejected);
        self.cancelled += u64::from(erased.cancelled);
        self.responses += u64::from(erased.responses);
    }

    fn said(&self) -> String {
        format!(
            "Erased {} events, {} rejected rows and {} responses; took {} events out of the \
             outbox and cancelled {} deliveries.",
            self.events, self.rejected, self.responses, self.queued, self.cancelled
        )
    }
}

impl EraseEvent {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let event = store.event(self.id).await?;
        let question = async || {
            notice(show::event(&event));
            confirmed("Erase for good what this event said? [y/N] ")
        };
        if !agreed(self.yes, "erasing", question).await? {
            store.close().await;
            unchanged();
            return Ok(());
        }
        let mut total = Total::default();
        let left = erase(store.as_ref(), &[self.id], &mut total).await?;
        finish(store.as_ref(), left, &mut total).await?;
        store.close().await;
        globals.output().result(&total, || total.said())
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
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let question = async || {
            let name = &self.name;
            confirmed(&format!(
                "Erase for good what all events of the account {name} said? [y/N] "
            ))
        };
        if !agreed(self.yes, "erasing", question).await? {
            store.close().await;
            unchanged();
            return Ok(());
        }
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_millis(100));
        let (mut total, mut left) = (Total::default(), Vec::new());
        let (mut before, mut seen) = (None, 0);
        loop {
            let filter = EventFilter {
                account: Some(self.name.clone()),
                before,
                limit: AT_ONCE,
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
            let rejected = store.erase_rejected(&self.name, AT_ONCE).await?;
            total.rejected += u64::from(rejected);
            if rejected == 0 {
                break;
            }
        }
        progress.finish_and_clear();
        finish(store.as_ref(), left, &mut total).await?;
        store.close().await;
        globals.output().result(&total, || total.said())
    }
}

/// Erases a few events; returns those that are being attempted.
async fn erase(store: &dyn Store, ids: &[EventId], total: &mut Total) -> Result<Vec<EventId>> {
    let erased = store.erase(ids, store.now().await?).await?;
    total.add(&erased);
    Ok(erased.in_flight)
}

/// Erases what was being attempted, as the attempts end.
async fn finish(store: &dyn Store, mut left: Vec<EventId>, total: &mut Total) -> Result<()> {
    let began = Instant::now();
    while !left.is_empty() {
        if began.elapsed() > PATIENCE {
            anyhow::bail!(
                "{} events are still being attempted, {} among them, and were left as they are: \
                 run the same again in a minute",
                left.len(),
                left[0]
            );
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let mut still = Vec::new();
        for ids in left.chunks(AT_ONCE as usize) {
            still.extend(erase(store, ids, total).await?);
        }
        left = still;
    }
    Ok(())
}
