//! `postrider migrate`: creates and updates the tables.

use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::secrets::Need;
use clap::Args;
use postrider_store::{Backend, Migrated};

/// Create or update the tables.
///
/// May be repeated, and run by several processes at once. SQLite is also migrated by every other
/// command; PostgreSQL only by this one. Its role must be allowed to create tables, and so must the
/// role of `postrider serve`, which creates a partition of the history for each day: run both as the
/// role that owns the tables.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider migrate
  postrider migrate --database postgres://owner@db/app
  postrider migrate --slots 32        PostgreSQL, many workers: spread the outbox")]
pub struct Migrate {
    /// Number of slots of the outbox; more of them let many workers work in parallel (PostgreSQL; 1
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
                "--slots is for PostgreSQL: SQLite has one writer and so one slot; omit it",
            ));
        }
        let store = crate::database::connect(&settings, Need::Nothing).await?;
        let migrated = store.migrate(self.slots, store.now().await?).await?;
        let database = store.describe();
        store.close().await;
        globals
            .output()
            .result(&migrated, || sentence(&migrated, &database))
    }
}

fn sentence(migrated: &Migrated, database: &str) -> String {
    let slots = match migrated.slots {
        1 => String::new(),
        slots => format!(", {slots} slots"),
    };
    let total = migrations(migrated.total);
    match migrated.applied.as_slice() {
        [] => format!("Up to date: {database} ({total} in total{slots})."),
        applied => format!(
            "Migrated: {database}, by {} ({total} in total{slots}).",
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
