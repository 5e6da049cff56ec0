//! `postrider hook show` and `postrider hook history`: a hook and its changes.

use super::paging::{Listing, SHOWN};
use super::show;
use super::value_parsers::id;
use crate::failure::Result;
use crate::globals::Globals;
use crate::secrets::Need;
use clap::Args;
use postrider_core::HookId;
use postrider_store::{HistoryFilter, HookChangeReport, HookReport};
use serde::Serialize;

/// Number of changes that are shown with a hook.
const SHOWN_WITH_HOOK: u32 = 20;

/// Show the changes of a hook, newest first: who changed it, when and why.
///
/// Also works for deleted hooks. The newest 500 changes of a hook are kept.
#[derive(Debug, Args)]
pub struct History {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    /// At most this many [default: 100; with --json all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// A hook and its latest changes, the newest last.
#[derive(Serialize)]
struct HookWithHistory {
    #[serde(flatten)]
    hook: HookReport,
    history: Vec<HookChangeReport>,
}

/// Shows a hook with its latest changes.
pub async fn show(globals: &Globals, id: HookId) -> Result<()> {
    let store = globals.store(Need::Nothing).await?;
    let hook = store.hook(id).await?;
    let filter = HistoryFilter {
        before: None,
        limit: SHOWN_WITH_HOOK,
    };
    let mut history = store.hook_history(id, filter).await?;
    history.reverse();
    let shown = HookWithHistory { hook, history };
    globals.output().result(&shown, || {
        format!(
            "{}\n\n{}",
            show::hook(&shown.hook),
            show::changes(&shown.history)
        )
    })
}

impl History {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let listing = Listing {
            output: globals.output(),
            limit: self.limit,
            shown: SHOWN,
            human: show::changes,
            none: "No changes of this hook are recorded.",
        };
        let page = async |before, limit| {
            let filter = HistoryFilter { before, limit };
            Ok(store.hook_history(self.id, filter).await?)
        };
        listing
            .write(|change: &HookChangeReport| change.number, page)
            .await
    }
}
