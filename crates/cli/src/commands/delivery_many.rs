//! `postrider delivery redeliver`: one delivery, or many of a hook.

use super::bulk::{deliveries, walk};
use super::value_parsers::{Past, id};
use crate::failure::Result;
use crate::globals::Globals;
use clap::Args;
use postrider_core::{DeliveryId, EventPattern, HookId};
use postrider_store::{DeliveryState, Redelivery, Store};
use serde::Serialize;

/// Send deliveries again, with a new retry schedule: one delivery, or many of a hook.
///
/// Receivers see the same webhook-id as before. With --hook, pending deliveries and those in flight
/// are skipped. Deliveries of a hook that is not active are sent when it is enabled.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider delivery redeliver 0193a5c9-…
  postrider delivery redeliver --hook 0193a5c8-… --state failed --since 2d
  postrider delivery redeliver --hook 0193a5c8-… --state delivered \\
      --since 2026-01-31T18:00:00Z --until 2026-01-31T19:00:00Z --event-type 'invoice.*'")]
pub struct Redeliver {
    /// The delivery's id
    #[arg(
        value_parser = id::<DeliveryId>,
        required_unless_present = "hook",
        conflicts_with = "hook"
    )]
    id: Option<DeliveryId>,
    #[command(flatten)]
    many: Many,
}

/// The selection of deliveries of a hook.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many deliveries")]
struct Many {
    /// Deliveries of this hook
    #[arg(long, value_name = "ID", value_parser = id::<HookId>, requires = "since")]
    hook: Option<HookId>,
    /// Deliveries in this state
    #[arg(
        long,
        default_value = "failed",
        requires = "hook",
        value_parser = ["failed", "cancelled", "expired", "delivered", "held"]
    )]
    state: String,
    /// Deliveries of events since this time, or not older than this duration
    #[arg(long, value_name = "TIME|DURATION", value_parser = Past::parse, requires = "hook")]
    since: Option<Past>,
    /// Deliveries of events before this time, or older than this duration
    #[arg(long, value_name = "TIME|DURATION", value_parser = Past::parse, requires = "hook")]
    until: Option<Past>,
    /// Deliveries of events of this type ("invoice.paid") or prefix ("invoice.*")
    #[arg(long, value_name = "PATTERN", requires = "hook")]
    event_type: Option<EventPattern>,
}

/// Number of deliveries that are sent again.
#[derive(Serialize)]
struct Redelivered<'a> {
    hook_id: HookId,
    state: &'a str,
    redelivered: u64,
}

impl Redeliver {
    /// Runs the command.
    pub async fn run(self, globals: &Globals, store: &dyn Store) -> Result<()> {
        if let Some(id) = self.id {
            return one(globals, store, id).await;
        }
        if let Some(hook) = self.many.hook {
            return self.many.run(globals, store, hook).await;
        }
        Ok(())
    }
}

async fn one(globals: &Globals, store: &dyn Store, id: DeliveryId) -> Result<()> {
    let report = store.redeliver(id, store.now().await?).await?;
    globals.output().result(&report, || match report.state {
        DeliveryState::Held => format!(
            "Delivery {id} is sent when its hook is enabled: postrider hook enable {}",
            report.hook_id
        ),
        _ => format!("Delivery {id} is due now."),
    })
}

impl Many {
    async fn run(&self, globals: &Globals, store: &dyn Store, hook: HookId) -> Result<()> {
        let now = store.now().await?;
        let selection = Redelivery {
            hook,
            // The parser of the argument accepts names of states only.
            state: DeliveryState::from_name(&self.state).unwrap_or(DeliveryState::Failed),
            since: self.since.map(|since| since.from(now)),
            until: self.until.map(|until| until.from(now)),
            event_type: self.event_type.clone(),
        };
        let redelivered = Redelivered {
            hook_id: hook,
            state: &self.state,
            redelivered: walk("queued again", async |page| {
                store.redeliver_many(&selection, page, now).await
            })
            .await?,
        };
        let status = store.hook(hook).await?.status;
        globals.output().result(&redelivered, || {
            let count = deliveries(redelivered.redelivered);
            match (redelivered.redelivered, status.as_str()) {
                (0, _) => format!(
                    "Hook {hook} has no {} deliveries in that range.",
                    self.state
                ),
                (_, "active") => format!("Due now: {count} of hook {hook}."),
                (_, status) => format!(
                    "Held until hook {hook}, which is {status}, is enabled: {count}. Enable it \
                     with: postrider hook enable {hook}"
                ),
            }
        })
    }
}
