//! `postrider hook change`.

use super::hook_limits::LimitFlags;
use super::show;
use super::value_parsers::id;
use crate::database;
use crate::failure::{Misuse, Result};
use crate::globals::{ACTOR, Globals};
use crate::secrets::Need;
use clap::Args;
use postrider_core::{Filter, HookId, SettingsChange};
use postrider_store::HookChange;

/// Change what a hook asks for and its limits; what is not named stays as it is.
///
/// Workers go by it within a second. A filter decides about events that they fan out from then
/// on: deliveries that were made before stay. Limits hold for these too.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider hook change 0193a5c8-… --filter 'amount >= 100 && currency == \"EUR\"'
  postrider hook change 0193a5c8-… --no-filter
  postrider hook change 0193a5c8-… --in-flight 8
  postrider hook change 0193a5c8-… --rate 20/s --back-off-after 10
  postrider hook change 0193a5c8-… --rate none
  postrider hook change 0193a5c8-… --ordered key
  postrider hook change 0193a5c8-… --ordered off")]
pub struct Change {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    limits: LimitFlags,
}

/// Which payloads a hook is to ask for.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Filtering {
    /// Only events whose payload fits this condition; docs/filters.md says how to write one
    #[arg(long, value_name = "CONDITION")]
    filter: Option<Filter>,
    /// Every payload
    #[arg(long)]
    no_filter: bool,
}

impl Filtering {
    fn change(self) -> Option<Option<Filter>> {
        match self.no_filter {
            true => Some(None),
            false => self.filter.map(Some),
        }
    }
}

impl Change {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let change = SettingsChange {
            filter: self.filtering.change(),
            ..self.limits.into()
        };
        if change.is_empty() {
            return Err(Misuse::new(
                "nothing to change: name what to set, such as --filter CONDITION, --no-filter, \
                 --in-flight 8 or --rate 20/s",
            ));
        }
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let (change, now) = (HookChange::Set(change), store.now().await?);
        let report = store.change_hook(self.id, change, ACTOR, now).await?;
        store.close().await;
        globals.output().result(&report, || {
            format!("Changed hook {}.\n{}", report.id, show::hook(&report))
        })
    }
}
