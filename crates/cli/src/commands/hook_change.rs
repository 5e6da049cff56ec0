//! `postrider hook change`.

use super::hook_settings::SettingFlags;
use super::show;
use super::value_parsers::id;
use crate::failure::{Misuse, Result};
use crate::globals::{ACTOR, Globals};
use crate::secrets::Need;
use clap::Args;
use postrider_core::HookId;
use postrider_store::HookChange;

/// Change settings of a hook; settings that are not named stay as they are.
///
/// Workers apply the change within a second. A filter decides about events that are fanned out
/// afterwards: existing deliveries stay. Limits hold for existing deliveries too.
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
    settings: SettingFlags,
    /// Every payload, as `--filter none`
    #[arg(long, conflicts_with = "filter")]
    no_filter: bool,
}

impl Change {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let SettingFlags(mut change) = self.settings;
        if self.no_filter {
            change.filter = Some(None);
        }
        if change.is_empty() {
            return Err(Misuse::new(
                "nothing to change: name what to set, such as --filter CONDITION, --no-filter, \
                 --in-flight 8 or --rate 20/s",
            ));
        }
        let store = globals.store(Need::Nothing).await?;
        let (change, now) = (HookChange::Set(change), store.now().await?);
        let report = store.change_hook(self.id, change, ACTOR, now).await?;
        globals.output().result(&report, || {
            format!("Changed hook {}.\n{}", report.id, show::hook(&report))
        })
    }
}
