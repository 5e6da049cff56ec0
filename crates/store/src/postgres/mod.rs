//! The store on PostgreSQL.
//!
//! There are three pools: hot, intake and calm. Commits of the hot pool do not wait for disk: a
//! crash of the database may undo the last of them, which repeats deliveries and loses none. All
//! other commits are durable. Incoming events have a pool of their own, so that no listing delays
//! them. Connections start with their own settings and prepare statements, so Postrider cannot
//! connect through a pooler in transaction mode; `errors` recognises one.

mod batches;
mod bulk;
mod credentials;
mod database;
mod days;
mod deliveries;
mod delivery_change;
mod delivery_search;
mod diagnostics;
mod due_cursor;
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
mod prune;
mod recover;
mod registered;
mod row_state;
mod schema;
mod settle;
mod settle_rows;
mod targets;
mod transfer;
mod upkeep;
mod values;

use crate::error::words;
use crate::hook_cache::LatestHookCache;
use crate::key_cursors::KeyCursors;
use crate::{Error, Result};
use chrono::NaiveDate;
use due_cursor::DueCursor;
pub(crate) use errors::explain;
use outbox_cursor::OutboxCursor;
use postrider_core::KeyRing;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

const HOT_CONNECTIONS: u32 = 8;
const INTAKE_CONNECTIONS: u32 = 6;
const CALM_CONNECTIONS: u32 = 6;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const OLDEST_SERVER: u32 = 15;

/// Timeouts of the hot connections: a statement that hangs is cancelled, and tried again.
const HOT_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "30s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "30s"),
];
const CALM_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
];

/// Each hot statement is written for one plan: along an index, in its order, to the rows. The
/// tables are empty at one moment and hold a backlog at the next, so the planner must not choose
/// another plan because of statistics or costs.
const HOT_PLANS: [(&str, &str); 8] = [
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
const INTAKE_PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("jit", "off")];

/// The other statements differ from call to call, and are planned for their parameters.
const CALM_PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_custom_plan"), ("jit", "off")];

/// The store on PostgreSQL.
pub struct PostgresStore {
    /// What workers do all the time: peek, fan-out, lease, settle, release, recover, gates, gauges.
    hot: PgPool,
    /// Inserting events, and finding the keys of the callers.
    intake: PgPool,
    /// Everything else.
    calm: PgPool,
    options: PgConnectOptions,
    place: String,
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
        let mut options = PgConnectOptions::from_str(url).map_err(|error| {
            Error::Database(format!("the database URL cannot be used: {error}"))
        })?;
        if options.get_application_name().is_none() {
            options = options.application_name("postrider");
        }
        let place = place(&options);
        check_server(&options, &place).await?;
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(CONNECT_TIMEOUT)
        };
        Ok(Self {
            hot: pool(HOT_CONNECTIONS)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone().options(HOT_LIMITS).options(HOT_PLANS)),
            intake: pool(INTAKE_CONNECTIONS)
                .connect_lazy_with(options.clone().options(CALM_LIMITS).options(INTAKE_PLANS)),
            calm: pool(CALM_CONNECTIONS)
                .connect_lazy_with(options.clone().options(CALM_LIMITS).options(CALM_PLANS)),
            options,
            place,
            keys,
            cache: LatestHookCache::default(),
            days: Mutex::default(),
            outbox_cursor: Mutex::default(),
            key_cursors: KeyCursors::default(),
            due_cursor: Mutex::default(),
        })
    }
}

/// A phrase that names the database, without its password.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => format!(
            "PostgreSQL database {database} at {}:{port}",
            socket.display()
        ),
        None => format!("PostgreSQL database {database} at {host}:{port}"),
    }
}

async fn check_server(options: &PgConnectOptions, place: &str) -> Result<()> {
    let connecting = PgConnection::connect_with(options);
    let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(cannot_connect(place, options, &error)),
        Err(_) => {
            return Err(Error::Database(format!(
                "the {place} did not answer within {} s: check host and port, and that no \
                 firewall is in the way",
                CONNECT_TIMEOUT.as_secs()
            )));
        }
    };
    let (version, encoding): (String, String) = sqlx::query_as(
        "-- postrider: server
        SELECT current_setting('server_version_num'), current_setting('server_encoding')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|error| cannot_connect(place, options, &error))?;
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
    // If closing fails, the server notices the end of the connection anyway.
    connection.close().await.ok();
    Ok(())
}

fn cannot_connect(place: &str, options: &PgConnectOptions, error: &sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|e| e.code());
    let hint = match code.as_deref() {
        Some("3D000") => "create the database, or check its name in the URL".to_owned(),
        Some(code) if code.starts_with("28") => format!(
            "check the password of {} and what pg_hba.conf allows",
            options.get_username()
        ),
        Some(code) if errors::is_of_pooler(code) => errors::POOLER.to_owned(),
        Some(_) => "see what the server says about it in its log".to_owned(),
        None => "check that the server runs, and the host and port of the URL".to_owned(),
    };
    Error::Database(format!(
        "cannot connect to the {place} ({}): {hint}",
        words(error)
    ))
}
