//! The store on PostgreSQL.
//!
//! The hot path has connections of its own, whose commits do not wait for the disk: a crash of
//! the database may take the last of them back, which repeats deliveries and loses none.
//! Everything else commits durably; events that come in have connections of their own too, so
//! that no listing keeps them waiting. Connections start with settings of their own and prepare
//! statements, so a pooler in transaction mode must not stand in between; `errors` says so
//! when one does.

mod aliases;
mod batches;
mod bulk;
mod credentials;
mod deliveries;
mod diagnostics;
mod discard;
mod discard_held;
mod due_cursor;
mod erase;
mod errors;
mod expire;
mod gates;
mod gauges;
mod health;
mod history;
mod hook_history;
mod hook_rows;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
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
mod redeliver;
mod redeliver_many;
mod registered;
mod schema;
mod settle;
mod settle_rows;
mod targets;
mod transfer;
mod upkeep;
mod values;

use crate::error::words;
use crate::{
    AttemptReport, BulkPage, BulkPageResult, CredentialQuery, Credentials, Database,
    DeliveryFilter, DeliveryReport, Diagnostics, Discard, Erased, Error, EventFilter, EventReport,
    Gates, GaugeSample, History, HistoryFilter, HookCache, HookChange, HookChangeReport,
    HookFilter, HookReport, Hooks, KeyFilter, KeyReport, Keys, LatestAnswer, Maintenance, Migrated,
    Monitoring, OwnershipAnswer, OwnershipRequest, PoolGauge, Pruned, Recovery, Redelivery,
    RegisteredFilter, RegisteredHook, RejectedReport, Result, Retention, SchemaState, Upkeep,
};
use async_trait::async_trait;
use chrono::NaiveDate;
use due_cursor::DueCursor;
pub(crate) use errors::explain;
use outbox_cursor::OutboxCursor;
use postrider_core::{
    AccessChange, Credential, DeliveryId, EventId, Hook, HookId, Key, KeyId, KeyRing,
    NewCredential, NewHook, NewKey, Timestamp, TokenHash, WorkerId,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use std::collections::{BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

const HOT_CONNECTIONS: u32 = 8;
const INTAKE_CONNECTIONS: u32 = 6;
const CALM_CONNECTIONS: u32 = 6;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const OLDEST_SERVER: u32 = 15;

/// Guard rails of every connection: whatever hangs is cut, and tried again.
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

/// The hot statements are made for one plan each: through an index, in its order, and from
/// there to the rows by their place. The tables are empty in one moment and hold a backlog in
/// the next, so that neither statistics nor costs may talk the planner into anything else.
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

/// What takes events in is the same each time. Planning it anew, with the functions in the
/// defaults of the outbox, would cost more than a small batch does.
const INTAKE_PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("jit", "off")];

/// The others differ from call to call, and are planned for what they ask.
const CALM_PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_custom_plan"), ("jit", "off")];

/// The store on PostgreSQL.
pub struct PostgresStore {
    /// Fan-out, lease, settle, release, recover and peek.
    hot: PgPool,
    /// Events, and the keys of those who bring them.
    intake: PgPool,
    /// Everything else.
    calm: PgPool,
    options: PgConnectOptions,
    place: String,
    keys: KeyRing,
    cache: RwLock<Arc<HookCache>>,
    /// Days whose partitions are known to exist.
    days: Mutex<BTreeSet<NaiveDate>>,
    /// From where on the outbox is read.
    outbox_cursor: Mutex<OutboxCursor>,
    /// Up to which key the turns of a hook in a slot were last looked over.
    looked_over: Mutex<HashMap<(i16, HookId), String>>,
    /// From where on the deliveries of hooks are leased.
    due_cursor: Mutex<DueCursor>,
}

impl PostgresStore {
    /// Connects once, to tell at once what is wrong with the URL or the server.
    ///
    /// # Errors
    /// When the server cannot be reached, does not let us in, or is not one we can use.
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
            cache: RwLock::default(),
            days: Mutex::default(),
            outbox_cursor: Mutex::default(),
            looked_over: Mutex::default(),
            due_cursor: Mutex::default(),
        })
    }

    fn current_book(&self) -> Arc<HookCache> {
        self.cache
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The database in words, without its password.
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
    // The server notices by itself if saying goodbye fails.
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

#[async_trait]
impl Database for PostgresStore {
    async fn now(&self) -> Result<Timestamp> {
        Ok(self.now().await?)
    }

    async fn schema(&self) -> Result<SchemaState> {
        Ok(self.schema().await?)
    }

    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        Ok(self.migrate(slots, now).await?)
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn pools(&self) -> Vec<PoolGauge> {
        self.pools()
    }

    async fn close(&self) {
        self.hot.close().await;
        self.intake.close().await;
        self.calm.close().await;
    }
}

#[async_trait]
impl Gates for PostgresStore {
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>> {
        Ok(self.own_gates(&request).await?)
    }

    async fn disown_gates(&self, worker: WorkerId, hooks: &[HookId]) -> Result<()> {
        Ok(self.disown_gates(worker, hooks).await?)
    }

    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()> {
        Ok(self.end_ramps(hooks).await?)
    }
}

#[async_trait]
impl Hooks for PostgresStore {
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport> {
        Ok(self.create_hook(&hook, by, now).await?)
    }

    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        Ok(self.change_hook(id, change, by, now).await?)
    }

    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport> {
        Ok(self.remove_hook(id, by, now).await?)
    }

    async fn hook(&self, id: HookId) -> Result<HookReport> {
        Ok(self.hook(id).await?)
    }

    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        Ok(self.hook_with_credentials(id).await?)
    }

    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        Ok(self.hooks(&filter).await?)
    }

    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        Ok(self.hook_history(id, filter).await?)
    }

    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>> {
        Ok(self.registered(&filter).await?)
    }

    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
        Ok(self.note_latest(latest).await?)
    }
}

#[async_trait]
impl Keys for PostgresStore {
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport> {
        Ok(self.create_key(&key, hash, now).await?)
    }

    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>> {
        Ok(self.keys(&filter).await?)
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        Ok(self.revoke_key(id, now).await?)
    }

    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>> {
        Ok(self.find_key(hash).await?)
    }

    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
        Ok(self.keys_used(used).await?)
    }
}

#[async_trait]
impl Credentials for PostgresStore {
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport> {
        Ok(self.create_credential(&new, now).await?)
    }

    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport> {
        Ok(self.change_credential(id, change).await?)
    }

    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>> {
        Ok(self.find_credential(&query).await?)
    }

    async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        Ok(self.take_signature(key, signature, now, until).await?)
    }
}

#[async_trait]
impl History for PostgresStore {
    async fn event(&self, id: EventId) -> Result<EventReport> {
        Ok(self.event(id).await?)
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        Ok(self.events(&filter).await?)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        Ok(self.delivery(id).await?)
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        Ok(self.deliveries(&filter).await?)
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        Ok(self.attempts(id).await?)
    }

    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        Ok(self.rejected(limit).await?)
    }
}

#[async_trait]
impl Recovery for PostgresStore {
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        Ok(self.redeliver(id, now).await?)
    }

    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        Ok(self.redeliver_many(which, page, now).await?)
    }

    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        Ok(self.discard(id, now).await?)
    }

    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        Ok(self.discard_held(which, page, now).await?)
    }
}

#[async_trait]
impl Maintenance for PostgresStore {
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        Ok(self.upkeep(now, limit).await?)
    }

    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned> {
        Ok(self.prune(keep, now, batch).await?)
    }

    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased> {
        Ok(self.erase(events, now).await?)
    }

    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32> {
        Ok(self.erase_rejected(account, limit).await?)
    }
}

#[async_trait]
impl Monitoring for PostgresStore {
    async fn diagnostics(&self, now: Timestamp) -> Result<Diagnostics> {
        Ok(self.diagnostics(now).await?)
    }

    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>> {
        Ok(self.gauges(now).await?)
    }
}
