//! The store on PostgreSQL.
//!
//! There are three pools: hot, intake and calm. Commits of the hot pool do not wait for disk: a
//! crash of the database may undo the last of them, which repeats deliveries and loses none. All
//! other commits are durable. Incoming events have a pool of their own, so that no listing delays
//! them. Connections start with their own settings and prepare statements, so Postrider cannot
//! connect through a pooler in transaction mode; `errors` recognises one.

mod batches;
mod bulk;
mod connection;
mod credentials;
mod database;
mod days;
mod deliveries;
mod delivery_change;
mod delivery_search;
mod diagnostics;
mod due_cursor;
mod epoch;
mod erase;
mod errors;
mod expire;
mod gates;
mod gauges;
mod health;
mod history;
mod hook_cache;
mod hook_history;
mod hook_statements;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
mod leased_rows;
mod leases;
mod operational_events;
mod order;
mod order_upkeep;
mod outbox;
mod outbox_cursor;
mod outbox_rows;
mod partitions;
mod peek;
mod pool;
mod prune;
mod recover;
mod registered;
mod row_state;
mod schema;
mod server_url;
mod servers;
mod settle;
mod settle_rows;
mod targets;
mod transaction;
mod transfer;
mod tuning;
mod upkeep;
mod values;

use crate::hook_cache::LatestHookCache;
use crate::key_cursors::KeyCursors;
use crate::{Error, Result};
use chrono::NaiveDate;
use connection::Connection;
use due_cursor::DueCursor;
use epoch::Epoch;
pub(crate) use errors::explain;
use outbox_cursor::OutboxCursor;
use pool::{Pool, PoolSettings};
use postrider_core::KeyRing;
use servers::{NoServer, Servers, Setting};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
pub use tuning::PostgresTuning;

const HOT_CONNECTIONS: u32 = 8;
const INTAKE_CONNECTIONS: u32 = 6;
const CALM_CONNECTIONS: u32 = 6;
const OLDEST_SERVER: u32 = 15;

/// The server ends a session whose other end no longer answers, and so frees its locks and its
/// place. `sqlx` offers no such setting for this end, whose calls have bounds instead.
const KEEP_ALIVE: [Setting; 4] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "60s"),
];

/// Each hot statement is written for one plan: along an index, in its order, to the rows. The
/// tables are empty at one moment and hold a backlog at the next, so the planner must not choose
/// another plan because of statistics or costs.
const HOT_PLANS: [Setting; 8] = [
    ("synchronous_commit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("random_page_cost", "0.001"),
    ("cpu_tuple_cost", "0.001"),
];

/// Statements that take events in are always the same. Planning one again, with the functions in
/// the defaults of the outbox, would cost more than a small batch.
const INTAKE_PLANS: [Setting; 2] = [("plan_cache_mode", "force_generic_plan"), ("jit", "off")];

/// The other statements differ from call to call, and are planned for their parameters.
const CALM_PLANS: [Setting; 2] = [("plan_cache_mode", "force_custom_plan"), ("jit", "off")];

/// The store on PostgreSQL.
pub struct PostgresStore {
    /// What workers do all the time: peek, fan-out, lease, settle, release, recover, gates, gauges.
    hot: Pool,
    /// Inserting events, and finding the keys of the callers.
    intake: Pool,
    /// Everything else.
    calm: Pool,
    servers: Servers,
    epoch: Arc<Epoch>,
    tuning: PostgresTuning,
    keys: KeyRing,
    cache: LatestHookCache,
    /// Days whose partitions are known to exist.
    days: Mutex<BTreeSet<NaiveDate>>,
    /// From where on the outbox is read.
    outbox_cursor: Mutex<OutboxCursor>,
    key_cursors: KeyCursors,
    /// From where on the deliveries of hooks are leased.
    due_cursor: Mutex<DueCursor>,
}

impl PostgresStore {
    /// Connects once, so that a wrong URL or server is reported at once.
    ///
    /// # Errors
    /// [`Database`](Error::Database): the server cannot be reached, refuses the connection, or is
    /// not one that Postrider can use.
    pub async fn connect(url: &str, keys: KeyRing) -> Result<Self> {
        Self::connect_tuned(url, keys, PostgresTuning::default()).await
    }

    /// The same, with other bounds than the usual ones.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn connect_tuned(url: &str, keys: KeyRing, tuning: PostgresTuning) -> Result<Self> {
        let servers = Servers::of(url).map_err(|error| {
            Error::Database(format!("the database URL cannot be used: {error}"))
        })?;
        let epoch = Arc::new(Epoch::default());
        let pool = |name, size, statement: Duration, tests_each, lock, plans: &[Setting]| {
            let settings = PoolSettings {
                name,
                size,
                bound: statement + tuning.margin,
                connect: tuning.connect,
                test: tuning.test,
                tests_each,
            };
            let servers = servers
                .with(&KEEP_ALIVE)
                .with(&limits(statement, lock))
                .with(plans);
            Pool::new(settings, servers, epoch.clone())
        };
        let (hot, calm) = (tuning.hot_statement, tuning.calm_statement);
        let store = Self {
            hot: pool("hot", HOT_CONNECTIONS, hot, false, "5s", &HOT_PLANS),
            intake: pool(
                "intake",
                INTAKE_CONNECTIONS,
                calm,
                true,
                "10s",
                &INTAKE_PLANS,
            ),
            calm: pool("calm", CALM_CONNECTIONS, calm, true, "10s", &CALM_PLANS),
            servers,
            epoch: epoch.clone(),
            tuning,
            keys,
            cache: LatestHookCache::default(),
            days: Mutex::default(),
            outbox_cursor: Mutex::default(),
            key_cursors: KeyCursors::default(),
            due_cursor: Mutex::default(),
        };
        store.check_server().await?;
        Ok(store)
    }

    /// A connection of its own with these settings, for long work. It does not come from a pool,
    /// and closes when it is dropped. Each call waits for `bound` at most.
    async fn connect_with(
        &self,
        settings: &[Setting],
        bound: Option<Duration>,
    ) -> Result<Connection> {
        let servers = self.servers.with(&KEEP_ALIVE).with(settings);
        self.connect_to(&servers, bound).await
    }

    async fn connect_to(&self, servers: &Servers, bound: Option<Duration>) -> Result<Connection> {
        let epoch = self.epoch.current();
        let raw = servers.connect(self.tuning.connect).await;
        let raw = raw.map_err(NoServer::into_error)?;
        Ok(Connection::new(raw, bound, self.epoch.clone(), epoch))
    }

    /// Connects as the hot pool does, so that whatever refuses its settings is found here.
    async fn check_server(&self) -> Result<()> {
        let place = self.servers.place();
        let mut connection = self
            .hot
            .connect_once()
            .await
            .map_err(|refusal| cannot_connect(&place, self.servers.username(), &refusal))?;
        let (version, encoding): (String, String) = sqlx::query_as(
            "-- postrider: server
            SELECT current_setting('server_version_num'), current_setting('server_encoding')",
        )
        .fetch_one(&mut connection)
        .await?;
        let major = version.parse::<u32>().unwrap_or_default() / 10_000;
        if major < OLDEST_SERVER {
            return Err(Error::Database(format!(
                "the {place} is on PostgreSQL {major}; Postrider needs {OLDEST_SERVER} or later"
            )));
        }
        if encoding != "UTF8" {
            return Err(Error::Database(format!(
                "the {place} has the encoding {encoding}; Postrider needs UTF8: create the database \
                 with ENCODING 'UTF8'"
            )));
        }
        connection.close().await;
        Ok(())
    }
}

/// The limits of the server on a session.
fn limits(statement: Duration, lock: &'static str) -> [(&'static str, String); 3] {
    let statement = format!("{}ms", statement.as_millis());
    [
        ("statement_timeout", statement.clone()),
        ("lock_timeout", lock.into()),
        ("idle_in_transaction_session_timeout", statement),
    ]
}

fn cannot_connect(place: &str, user: &str, refusal: &NoServer) -> Error {
    let hint = match refusal.code().as_deref() {
        Some("3D000") => "create the database, or check its name in the URL".to_owned(),
        Some(code) if code.starts_with("28") => {
            format!("check the password of {user} and what pg_hba.conf allows")
        }
        Some(errors::NOT_SUPPORTED) => errors::PROXY.to_owned(),
        Some(code) if errors::is_of_pooler(code) => errors::POOLER.to_owned(),
        Some(_) => "see what the server says about it in its log".to_owned(),
        None if refusal.is_silence() => {
            "check host and port, and that no firewall is in the way".to_owned()
        }
        None => "check that the server runs, and the host and port of the URL".to_owned(),
    };
    Error::Database(format!(
        "cannot connect to the {place} ({}): {hint}",
        refusal.words()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_how_many_connections_there_are() {
        let document = include_str!("../../../../docs/operations.md");
        let document: Vec<_> = document.split_whitespace().collect();
        let said = format!(
            "opens up to {}, as it needs them: {HOT_CONNECTIONS} for deliveries, \
             {INTAKE_CONNECTIONS} for incoming events, {CALM_CONNECTIONS} for everything else, \
             and 1 while it prunes.",
            HOT_CONNECTIONS + INTAKE_CONNECTIONS + CALM_CONNECTIONS + 1
        );
        assert!(document.join(" ").contains(&said), "{said}");
    }
}
