//! Moves everything from one database to another of either kind.
//!
//! Rows are copied table by table in the order of their keys. Each batch is one transaction of the
//! target that also records the progress, so that an interrupted move continues where it stopped.
//! The hard rule: at no time can workers run on both databases. The target refuses work until it
//! is complete, and before that the source is marked as moved, after which it refuses work and
//! inserts for good.

mod columns;
mod endpoint;
mod tables;
pub(crate) mod value;

pub(crate) use endpoint::{
    CopyState, Endpoint, OutboxLock, TransferRow, TransferSource, TransferTarget,
};
pub(crate) use tables::{CatalogRow, TransferColumn, TransferTable, tables_of};

use crate::{
    Backend, DatabaseSettings, Error, Result, SchemaState, postgres::PostgresStore,
    sqlite::SqliteStore, target,
};
use columns::{derive, pair};
use endpoint::TransferParty;
use postrider_core::KeyRing;
use serde::Serialize;
use std::time::Duration;
use tables::{OUTBOX, STAYS};
use tokio::time::Instant;
use value::ValueKind;

/// The `application_name` of the sessions of a move on PostgreSQL.
pub(crate) const APPLICATION: &str = "postrider-move";

/// Rows in one transaction.
const AT_ONCE: u32 = 500;

/// How long a move waits for the leases of killed workers to expire.
const PATIENCE: Duration = Duration::from_secs(90);
/// A session that looks for work for longer belongs to a running worker, not to one that has just
/// stopped.
const SURELY: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The source and the target of a move.
pub struct TransferParts {
    /// The source.
    pub from: DatabaseSettings,
    /// The keys that open its secrets.
    pub from_keys: KeyRing,
    /// The target.
    pub to: DatabaseSettings,
    /// The keys that seal there.
    pub to_keys: KeyRing,
}

/// The progress of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransferStep {
    /// Its name in both databases, such as `postrider_hooks`.
    pub table: String,
    /// Its rows moved so far, by this call and earlier ones.
    pub rows: u64,
}

/// The result of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// The source, in words.
    pub from: String,
    /// The target, in words.
    pub to: String,
    /// The tables, and how many rows each has there.
    pub tables: Vec<TransferStep>,
}

/// Moves everything. May be called again after it was cut short.
///
/// # Errors
/// When workers are at work on the source, the target holds something else, or a database does
/// not answer. What was moved by then stays moved; no database takes work twice.
pub async fn transfer(
    parts: TransferParts,
    tell: &(dyn Fn(TransferStep) + Send + Sync),
) -> Result<Transferred> {
    let from = open(&parts.from, parts.from_keys).await?;
    let to = open(&parts.to, parts.to_keys).await?;
    if from.describe() == to.describe() {
        return Err(Error::Conflict(
            "source and target are the same database: name another one with --to".into(),
        ));
    }
    let _claims = (from.claim_worker().await?, to.claim_worker().await?);
    let transfer = Transfer { from, to, tell };
    let moved = transfer.run().await;
    transfer.from.close().await;
    transfer.to.close().await;
    moved
}

/// A phrase that names a database, without its article.
fn named(side: &dyn Endpoint) -> String {
    let text = side.describe();
    text.strip_prefix("the ").unwrap_or(&text).to_owned()
}

async fn open(settings: &DatabaseSettings, keys: KeyRing) -> Result<Box<dyn TransferParty>> {
    Ok(match Backend::of(&settings.url)? {
        Backend::Postgres => {
            // Known by its name from workers, which must not be there.
            let separator = match settings.url.contains('?') {
                true => '&',
                false => '?',
            };
            let url = format!("{}{separator}application_name={APPLICATION}", settings.url);
            Box::new(PostgresStore::connect(&url, keys).await?)
        }
        Backend::Sqlite => Box::new(SqliteStore::open(&settings.url, keys).await?),
    })
}

struct Transfer<'a> {
    from: Box<dyn TransferSource>,
    to: Box<dyn TransferTarget>,
    tell: &'a (dyn Fn(TransferStep) + Send + Sync),
}

impl Transfer<'_> {
    async fn run(&self) -> Result<Transferred> {
        let marked = self.begin().await?;
        let sources = self.from.tables().await?;
        let mut tables = self.to.tables().await?;
        tables.retain(|table| !STAYS.contains(&table.name.as_str()));
        // The hooks first, so that a half-moved database is readable; the outbox last.
        tables.sort_by_key(|table| (table.name == OUTBOX, table.name != "postrider_hooks"));
        let mut moved = Vec::with_capacity(tables.len());
        for table in tables.iter().filter(|table| table.name != OUTBOX) {
            let source = counterpart(&sources, table)?;
            let rows = self.copy(source, table).await?;
            self.verify(table, rows).await?;
            moved.push(TransferStep {
                table: table.name.clone(),
                rows,
            });
        }
        if !marked {
            let lock = self.from.lock_outbox().await?;
            for table in tables.iter().filter(|table| table.name == OUTBOX) {
                let source = counterpart(&sources, table)?;
                let rows = self.copy(source, table).await?;
                let there = self.from.count(OUTBOX).await?;
                if there != rows {
                    return Err(differs(OUTBOX, there, rows));
                }
                moved.push(TransferStep {
                    table: table.name.clone(),
                    rows,
                });
            }
            lock.mark_moved(&named(self.to.as_ref())).await?;
        }
        self.to.complete().await?;
        Ok(Transferred {
            from: named(self.from.as_ref()),
            to: named(self.to.as_ref()),
            tables: moved,
        })
    }

    /// Prepares both databases. Returns whether an earlier call marked the source as moved.
    async fn begin(&self) -> Result<bool> {
        let (from, to) = (named(self.from.as_ref()), named(self.to.as_ref()));
        let now = self.to.now().await?;
        if self.to.schema().await? == SchemaState::Empty {
            self.to.migrate(None, now).await?;
        }
        let source = self.from.schema().await?;
        let target = self.to.schema().await?;
        let goes_on = match target {
            SchemaState::Current { .. } => false,
            SchemaState::Moving { from: of } if of == from => true,
            SchemaState::Moving { from: of } => {
                return Err(Error::Conflict(format!(
                    "a move from {of} into the {to} was begun and not finished: finish that one, \
                     or name an empty database"
                )));
            }
            other => return Err(Error::Schema(other.problem().unwrap_or_default())),
        };
        let marked = match source {
            SchemaState::Current { .. } => false,
            SchemaState::Moved { to: there } if there == to && goes_on => true,
            other => return Err(Error::Schema(other.problem().unwrap_or_default())),
        };
        if marked {
            return Ok(true);
        }
        self.wait_for_workers().await?;
        let (source, target) = (self.from.copy_state().await?, self.to.copy_state().await?);
        if !self.to.is_sqlite() && source.slots != target.slots {
            return Err(Error::Conflict(format!(
                "the outbox of the source is spread over {} slots and that of the target over {}, \
                 and the slot of a key depends on their number: make the target anew with \
                 `postrider migrate --slots {}`, and spread it further when it has moved",
                source.slots, target.slots, source.slots
            )));
        }
        if !goes_on {
            if !self.to.is_empty().await? {
                return Err(Error::Conflict(format!(
                    "the {to} holds hooks, events or keys already: move into an empty database"
                )));
            }
            self.to.begin_move(&from, &source).await?;
        }
        self.to.make_days_ready(&self.from.days().await?).await?;
        Ok(false)
    }

    /// Waits until nothing is leased on the source; leases of workers that were killed run out.
    async fn wait_for_workers(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let worker = self.from.worker_at_work().await?;
            if let Some(worker) = worker.as_ref().filter(|_| began.elapsed() > SURELY) {
                return Err(Error::Conflict(format!(
                    "a worker is at work on the {} ({worker}): stop all workers, then run the \
                     same again",
                    named(self.from.as_ref())
                )));
            }
            let leased = self.from.recover_expired().await?;
            if leased == 0 && worker.is_none() {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::Conflict(format!(
                    "{leased} deliveries on the {} are leased to workers: stop all workers, and \
                     run the same again a minute later",
                    named(self.from.as_ref())
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Copies the rest of a table. Returns how many of its rows were moved in total.
    async fn copy(&self, source: &TransferTable, target: &TransferTable) -> Result<u64> {
        let (columns, derived) = pair(source, target)?;
        let written: Vec<_> = columns.iter().chain(&derived).cloned().collect();
        let (mut after, mut rows) = self.to.reached(&target.name).await?;
        loop {
            let page = self
                .from
                .read(source, &columns, after.as_deref(), AT_ONCE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(rows);
            };
            rows += page.len() as u64;
            let cursor = last.key.clone();
            let mut cells: Vec<_> = page.into_iter().map(|row| row.cells).collect();
            self.adapt(target, &columns, &mut cells)?;
            if !derived.is_empty() {
                derive(&columns, &derived, &mut cells);
            }
            self.to
                .write(target, &written, cells, &cursor, rows)
                .await?;
            after = Some(cursor);
            (self.tell)(TransferStep {
                table: target.name.clone(),
                rows,
            });
        }
    }

    /// Seals secrets for the target, and puts all rows into the one slot of SQLite.
    fn adapt(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        rows: &mut [Vec<Option<String>>],
    ) -> Result<()> {
        let place = |name: &str| columns.iter().position(|(column, _)| column.name == name);
        if let (true, Some(slot)) = (self.to.is_sqlite(), place("slot")) {
            for cell in rows.iter_mut().filter_map(|row| row.get_mut(slot)) {
                *cell = Some("0".into());
            }
        }
        for (_, name, purpose, of) in SEALED.iter().filter(|(of, ..)| *of == table.name) {
            let (Some(of), Some(sealed)) = (place(of), place(name)) else {
                continue;
            };
            for row in rows.iter_mut() {
                let id = row.get(of).cloned().flatten().unwrap_or_default();
                if let Some(Some(cell)) = row.get_mut(sealed) {
                    let (from, to) = (self.from.key_ring(), self.to.key_ring());
                    *cell = value::sealed_anew(from, to, purpose, &id, cell)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the target holds as much of a table as the source.
    async fn verify(&self, table: &TransferTable, rows: u64) -> Result<()> {
        let (there, here) = (
            self.from.count(&table.name).await?,
            self.to.count(&table.name).await?,
        );
        match there == here && here == rows {
            true => Ok(()),
            false => Err(differs(&table.name, there, here)),
        }
    }
}

fn differs(table: &str, there: u64, here: u64) -> Error {
    Error::Conflict(format!(
        "{table} has {there} rows in the source and {here} were moved: something changed it \
         meanwhile. Nothing was marked as moved; empty the target and run the same again with \
         everything stopped"
    ))
}

fn counterpart<'a>(
    sources: &'a [TransferTable],
    table: &TransferTable,
) -> Result<&'a TransferTable> {
    let found = sources.iter().find(|source| source.name == table.name);
    found.ok_or_else(|| {
        Error::Schema(format!(
            "the source has no table {}: run `postrider migrate` on it first",
            table.name
        ))
    })
}

/// The sealed columns: table, column, purpose, and the column with the id they are bound to.
const SEALED: [(&str, &str, &str, &str); 3] = [
    ("postrider_hooks", "credentials", "hook", "id"),
    ("postrider_keys", "proof", crate::credential::PURPOSE, "id"),
    ("postrider_deliveries", "target", target::PURPOSE, "hook_id"),
];
