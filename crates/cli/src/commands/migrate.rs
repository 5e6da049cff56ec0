//! `postrider migrate`.

use crate::database;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::secrets::Need;
use clap::Args;
use postrider_store::{Backend, Migrated};

/// Make or update the tables.
///
/// May be repeated, and run by several processes at once. SQLite is also migrated by every
/// other command; PostgreSQL only by this one. Needs the right to create tables, and so does
/// `postrider serve`, which makes a partition of the history for each day: run both as the role
/// that owns the tables.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider migrate
  postrider migrate --database postgres://owner@db/app
  postrider migrate --slots 32        PostgreSQL, many workers: spread the outbox")]
pub struct Migrate {
    /// Spread the outbox over so many slots, so that many workers hardly meet (PostgreSQL; 1
    /// unless set before; can only grow)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

impl Migrate {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        if settings.backend()? == Backend::Sqlite && self.slots.is_some_and(|slots| slots > 1) {
            return Err(Misuse::new(
                "--slots is for PostgreSQL: SQLite has one writer, so one slot; leave it out",
            ));
        }
        let store = database::connect(&settings, Need::Nothing).await?;
        let migrated = store.migrate(self.slots, store.now().await?).await?;
        let place = store.describe();
        store.close().await;
        globals
            .output()
            .result(&migrated, || said(&migrated, &place))
    }
}

fn said(migrated: &Migrated, place: &str) -> String {
    let slots = match migrated.slots {
        1 => String::new(),
        slots => format!(", {slots} slots"),
    };
    let total = migrations(migrated.total);
    match migrated.applied.as_slice() {
        [] => format!("Up to date: {place} ({total} in all{slots})."),
        applied => format!(
            "Migrated: {place}, by {} ({total} in all{slots}).",
            applied.join(", ")
        ),
    }
}

fn migrations(count: usize) -> String {
    match count {
        1 => "1 migration".into(),
        count => format!("{count} migrations"),
    }
}
