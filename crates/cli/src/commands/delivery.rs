//! `postrider delivery`: listing, showing, sending again and discarding deliveries.

use super::delivery_many::Redeliver;
use super::paging::{Listing, SHOWN};
use super::show;
use super::value_parsers::id;
use crate::failure::Result;
use crate::globals::Globals;
use crate::secrets::Need;
use clap::{Args, Subcommand};
use postrider_core::{DeliveryId, EventId, HookId};
use postrider_store::{AttemptReport, DeliveryFilter, DeliveryReport, DeliveryState, Store};
use serde::Serialize;

/// Show deliveries, send them again, or discard them.
#[derive(Debug, Subcommand)]
pub enum DeliveryCommand {
    List(ListDeliveries),
    /// Show one delivery and its attempts
    Show(OneDelivery),
    Redeliver(Redeliver),
    /// Discard one delivery: a pending one, or a failed one that blocks later ones of its key
    Discard(OneDelivery),
}

/// List deliveries, newest first: pending, in flight and ended ones.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider delivery list --state failed
  postrider delivery list --hook 0193a5c8-… --json
  postrider delivery list --event 0193a5c9-…")]
pub struct ListDeliveries {
    /// Only deliveries to this hook
    #[arg(long, value_name = "ID", value_parser = id::<HookId>)]
    hook: Option<HookId>,
    /// Only deliveries of this event
    #[arg(long, value_name = "ID", value_parser = id::<EventId>)]
    event: Option<EventId>,
    /// Only deliveries in this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(DeliveryState::ALL.map(DeliveryState::name)))]
    state: Option<String>,
    /// At most this many [default: 100; with --json all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The delivery that a command is about.
#[derive(Debug, Args)]
pub struct OneDelivery {
    /// The delivery's id
    #[arg(value_parser = id::<DeliveryId>)]
    id: DeliveryId,
}

/// A delivery and its attempts.
#[derive(Serialize)]
struct DeliveryWithHistory {
    #[serde(flatten)]
    delivery: DeliveryReport,
    history: Vec<AttemptReport>,
}

impl DeliveryCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let output = globals.output();
        let store = globals.store(Need::Nothing).await?;
        match self {
            Self::List(list) => list.run(globals, store.as_ref()).await?,
            Self::Show(OneDelivery { id }) => {
                let shown = DeliveryWithHistory {
                    delivery: store.delivery(id).await?,
                    history: store.attempts(id).await?,
                };
                output.result(&shown, || {
                    let delivery = show::delivery(&shown.delivery);
                    match shown.history.as_slice() {
                        [] => format!("{delivery}\n\nNo attempts yet."),
                        history => format!("{delivery}\n\n{}", show::attempts(history)),
                    }
                })?;
            }
            Self::Redeliver(command) => command.run(globals, store.as_ref()).await?,
            Self::Discard(OneDelivery { id }) => {
                let report = store.discard(id, store.now().await?).await?;
                output.result(&report, || {
                    format!(
                        "Discarded delivery {id}. It can still be sent again: postrider delivery \
                         redeliver {id}"
                    )
                })?;
            }
        }
        Ok(())
    }
}

impl ListDeliveries {
    async fn run(self, globals: &Globals, store: &dyn Store) -> Result<()> {
        let state = self.state.as_deref().and_then(DeliveryState::from_name);
        let listing = Listing {
            output: globals.output(),
            limit: self.limit,
            shown: SHOWN,
            human: show::deliveries,
            none: "No deliveries.",
        };
        let page = async |before, limit| {
            let filter = DeliveryFilter {
                hook: self.hook,
                event: self.event,
                state,
                before,
                limit,
                ..DeliveryFilter::default()
            };
            Ok(store.deliveries(filter).await?)
        };
        listing
            .write(|delivery: &DeliveryReport| delivery.id, page)
            .await
    }
}
