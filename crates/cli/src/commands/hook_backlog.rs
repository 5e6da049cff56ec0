//! `postrider hook enable` and `postrider hook discard`: sending or discarding held deliveries.

use super::bulk::{deliveries, walk};
use super::confirm::{agreed, confirmed, unchanged};
use super::show;
use super::value_parsers::{Past, id};
use crate::failure::Result;
use crate::globals::{ACTOR, Globals};
use crate::output::notice;
use crate::secrets::Need;
use clap::Args;
use postrider_core::{HookId, Span};
use postrider_store::{Discard, HookChange, HookReport, Store};
use serde::Serialize;

/// Send a hook's deliveries again, and reset its fail count.
///
/// Held deliveries are sent, starting with a single request. With --discard-held they are discarded
/// for good before, or only those older than --older-than.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider hook enable 0193a5c8-…
  postrider hook enable 0193a5c8-… --discard-held --older-than 3d")]
pub struct Enable {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    /// Discard held deliveries before
    #[arg(long)]
    discard_held: bool,
    /// Discard only deliveries of events older than this
    #[arg(long, value_name = "DURATION", requires = "discard_held")]
    older_than: Option<Span>,
    /// Do not ask for confirmation
    #[arg(long, requires = "discard_held")]
    yes: bool,
}

/// Discard the held deliveries of a hook that is not active.
///
/// Cannot be undone: the deliveries are cancelled with the reason discarded. New ones are held as
/// before. Asks for confirmation at a terminal, and needs --yes elsewhere.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider hook discard 0193a5c8-…
  postrider hook discard 0193a5c8-… --older-than 3d --yes --json")]
pub struct DiscardHeld {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    /// Only deliveries of events older than this
    #[arg(long, value_name = "DURATION")]
    older_than: Option<Span>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

/// Number of discarded deliveries.
#[derive(Serialize)]
struct Discarded {
    hook_id: HookId,
    discarded: u64,
}

/// The hook after it was enabled, and the number of deliveries discarded before.
#[derive(Serialize)]
struct Enabled {
    #[serde(flatten)]
    hook: HookReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
}

impl Enable {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let mut discarded = None;
        // An active hook has no held deliveries.
        if self.discard_held && store.hook(self.id).await?.status != "active" {
            if !discard_agreed(store.as_ref(), self.id, self.yes).await? {
                unchanged();
                return Ok(());
            }
            discarded = Some(discard(store.as_ref(), self.id, self.older_than).await?);
        }
        let change = HookChange::Enable;
        let hook = store.change_hook(self.id, change, ACTOR, store.now().await?);
        let enabled = Enabled {
            hook: hook.await?,
            discarded,
        };
        globals.output().result(&enabled, || {
            let status = show::hook_status(&enabled.hook);
            match enabled.discarded {
                Some(count) => format!("Discarded {}. {status}", deliveries(count)),
                None => status,
            }
        })
    }
}

impl DiscardHeld {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        if !discard_agreed(store.as_ref(), self.id, self.yes).await? {
            unchanged();
            return Ok(());
        }
        let discarded = Discarded {
            hook_id: self.id,
            discarded: discard(store.as_ref(), self.id, self.older_than).await?,
        };
        globals.output().result(&discarded, || {
            let count = deliveries(discarded.discarded);
            format!("Discarded {count} of hook {}.", self.id)
        })
    }
}

async fn discard_agreed(store: &dyn Store, id: HookId, yes: bool) -> Result<bool> {
    agreed(yes, "discarding deliveries", async || {
        notice(show::hook(&store.hook(id).await?));
        confirmed("Discard the held deliveries of this hook? [y/N] ")
    })
    .await
}

async fn discard(store: &dyn Store, hook: HookId, older_than: Option<Span>) -> Result<u64> {
    let now = store.now().await?;
    let selection = Discard {
        hook,
        made_before: older_than.map(|span| Past::Ago(span).from(now)),
        by: ACTOR.into(),
    };
    walk("discarded", async |page| {
        store.discard_held(&selection, page, now).await
    })
    .await
}
