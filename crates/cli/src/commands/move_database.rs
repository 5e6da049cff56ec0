//! `postrider move`: moves everything into another database.

use crate::config::Settings;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::output::notice;
use crate::secrets::{Need, key_ring};
use clap::Args;
use postrider_store::{Backend, TransferParts, TransferStep, transfer};

/// Rows between two lines of progress.
const PROGRESS_EVERY: u64 = 5_000;

/// Move everything into another database.
///
/// Moves hooks, keys, events, deliveries in every state, attempts and the outbox from the configured
/// database into the one that --to names, of either kind. Stop all workers first. May be interrupted
/// and run again: it continues where it stopped. At the end the old database is marked as moved and
/// accepts neither work nor events; then set database.url to the new one.
///
/// Secrets are opened with the keys of the old database and sealed with the key of the new one:
/// secrets.key, or for SQLite without it a key file beside the new file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider move --database sqlite://postrider.db --to postgres://postrider@db/postrider
  postrider move --to sqlite:///var/lib/postrider/copy.db")]
pub struct Move {
    /// The database to move into: empty, or the target of an interrupted move
    #[arg(long, value_name = "URL")]
    to: String,
}

impl Move {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let target = with_database(&settings, self.to)?;
        let parts = TransferParts {
            from_keys: key_ring(&settings, Need::Nothing)?,
            from: settings.database,
            to_keys: key_ring(&target, Need::Secrets)?,
            to: target.database,
        };
        let moved = transfer(parts, &progress).await?;
        globals.output().result(&moved, || {
            let tables = moved.tables.iter().filter(|table| table.rows > 0);
            let mut lines: Vec<_> = tables
                .map(|table| format!("{} rows of {}", table.rows, table.table))
                .collect();
            lines.push(format!(
                "Everything was moved from the {} to the {}. Set database.url to it, and let the \
                 applications insert into its outbox.",
                moved.from, moved.to
            ));
            lines.join("\n")
        })
    }
}

/// The same settings with another database.
fn with_database(settings: &Settings, url: String) -> Result<Settings> {
    let mut target = settings.clone();
    target.database.url = url;
    if Backend::of(&target.database.url).is_err() {
        return Err(Misuse::new(
            "--to must name a database: sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE",
        ));
    }
    Ok(target)
}

fn progress(step: TransferStep) {
    if step.rows.is_multiple_of(PROGRESS_EVERY) {
        notice(format_args!("Moved {} rows of {}.", step.rows, step.table));
    }
}
