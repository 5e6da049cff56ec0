//! Opening the database for a command.
//!
//! A command that opens SQLite creates and migrates it. PostgreSQL is only migrated by `postrider
//! migrate`, because other processes may be working on it.

use crate::config::{Settings, sqlite_file};
use crate::failure::Result;
use crate::output::notice;
use crate::secrets::{Need, key_ring, would_create_key_file};
use postrider_core::{DeliveryId, EventId, HookId, LeaseToken};
use postrider_store::{Backend, SchemaState, Store};
use std::sync::Arc;
use tracing::debug;

/// Opens the database and checks that its tables can be used; migrates SQLite.
pub async fn open(settings: &Settings, need: Need) -> Result<Arc<dyn Store>> {
    let store = connect(settings, need).await?;
    let state = store.schema().await?;
    match (settings.backend()?, &state) {
        (Backend::Sqlite, SchemaState::Empty | SchemaState::Behind { .. }) => {
            let migrated = store.migrate(None, store.now().await?).await?;
            debug!(migrations = ?migrated.applied, "Migrated {}", store.describe());
        }
        _ => {
            if let Some(problem) = state.problem() {
                store.close().await;
                return Err(postrider_store::Error::Schema(problem).into());
            }
        }
    }
    Ok(store)
}

/// Checks that the database accepts writes, with one that changes nothing: a worker that cannot
/// record its attempts must not start.
pub async fn try_write(store: &dyn Store) -> Result<()> {
    let now = store.now().await?;
    let nothing = DeliveryId::of(EventId::draw(now), HookId::draw(now));
    store
        .release(0, LeaseToken::draw(now), &[nothing], now)
        .await?;
    Ok(())
}

/// Opens the database without checking its tables.
pub async fn connect(settings: &Settings, need: Need) -> Result<Arc<dyn Store>> {
    let new_file = match settings.backend()? {
        Backend::Sqlite => sqlite_file(&settings.database.url).filter(|path| !path.exists()),
        Backend::Postgres => None,
    };
    if would_create_key_file(settings, need)? {
        // Open the database first: one that cannot be opened gets no key file.
        let keys = key_ring(settings, Need::Nothing)?;
        let store = postrider_store::open(&settings.database, keys).await?;
        store.close().await;
    }
    let keys = key_ring(settings, need)?;
    let store = postrider_store::open(&settings.database, keys).await?;
    if let Some(path) = new_file {
        notice(format_args!("Created {}.", path.display()));
    }
    Ok(store)
}
