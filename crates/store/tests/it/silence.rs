//! A PostgreSQL server that falls silent, or becomes read-only: no call waits for ever, and the
//! next one goes to a server that answers (R01, R02).

use futures_util::future::join_all;
use postrider_core::{AttemptId, HookId, KeyId, Outcome, TokenHash, WorkerId};
use postrider_store::postgres::PostgresTuning;
use postrider_store::{
    Backend, DeliveryFilter, Error, HookFilter, Idempotency, KeyFilter, Result, Retention, Step,
};
use postrider_tests::{
    Loses, PATIENCE, Relay, TestDatabase, TestStore, event, eventually, hook_defaults, new_hook,
    start,
};
use std::time::Duration;
use tokio::time::timeout;

/// Every call of the store that is made all the time, and one of each other kind.
const CALLS: [&str; 22] = [
    "read_clock",
    "schema",
    "peek",
    "fan_out",
    "slots",
    "due_hooks",
    "lease",
    "settle",
    "release",
    "recover",
    "own_gates",
    "enqueue",
    "enqueue_once",
    "create_hook",
    "hooks",
    "find_key",
    "keys",
    "deliveries",
    "upkeep",
    "prune",
    "gauges",
    "diagnostics",
];

/// Requests of a call before the one that is lost.
const LOST: [usize; 9] = [0, 1, 2, 3, 4, 6, 9, 13, 20];

/// Bounds that a test can wait for.
fn quick() -> PostgresTuning {
    PostgresTuning {
        hot_statement: Duration::from_millis(300),
        calm_statement: Duration::from_millis(300),
        prune_statement: Duration::from_millis(300),
        margin: Duration::from_millis(100),
        connect: Duration::from_secs(2),
        test: Duration::from_millis(100),
    }
}

async fn behind(relay: &Relay, database: TestDatabase) -> TestStore {
    TestStore::behind(database, &relay.url(), quick()).await
}

async fn call(t: &TestStore, hook: HookId, name: &str) -> Result<()> {
    let (store, now, slot) = (&t.store, t.now(), t.slot);
    match name {
        "read_clock" => store.read_clock().await.map(drop),
        "schema" => store.schema().await.map(drop),
        "peek" => store.peek().await.map(drop),
        "fan_out" => store.fan_out(t.request()).await.map(drop),
        "slots" => store.slots().await.map(drop),
        "due_hooks" => store.due_hooks(slot, None, 10).await.map(drop),
        "lease" => store.lease(t.lease_request(&[hook])).await.map(drop),
        "settle" => {
            let leased = store.fan_out(t.request()).await?.started;
            let refused = |leased| {
                let step = Step::Retry(now + Duration::from_secs(1));
                let outcome = Outcome::TimedOut;
                t.settlement(leased, outcome, step)
            };
            let settlements: Vec<_> = leased.iter().map(refused).collect();
            store.settle(now, &settlements).await.map(drop)
        }
        "release" => {
            let leased = store.fan_out(t.request()).await?.started;
            for leased in leased {
                let (lease, ids) = (&leased.lease, leased.ids().collect::<Vec<_>>());
                store.release(slot, lease.token, &ids, now).await?;
            }
            Ok(())
        }
        "recover" => store
            .recover(slot, now, 100, &hook_defaults())
            .await
            .map(drop),
        "own_gates" => {
            let request = postrider_store::OwnershipRequest {
                worker: WorkerId::draw(now),
                now,
                until: now + Duration::from_secs(10),
                hooks: vec![hook],
            };
            store.own_gates(request).await.map(drop)
        }
        "enqueue" => store.enqueue(&[event("work")]).await.map(drop),
        "enqueue_once" => {
            let call = Idempotency {
                caller: KeyId::draw(now),
                key: AttemptId::draw(now).to_string(),
                digest: [0; 32],
            };
            store
                .enqueue_once(&call, &[event("work")], now)
                .await
                .map(drop)
        }
        "create_hook" => {
            let hook = new_hook("default", &["other"]);
            store.create_hook(hook, "test", now).await.map(drop)
        }
        "hooks" => store.hooks(HookFilter::default()).await.map(drop),
        "find_key" => store.find_key(TokenHash([0; 32])).await.map(drop),
        "keys" => store.keys(KeyFilter::default()).await.map(drop),
        "deliveries" => store.deliveries(DeliveryFilter::default()).await.map(drop),
        "upkeep" => store.upkeep(now, 100).await.map(drop),
        "prune" => {
            let month = Duration::from_secs(30 * 24 * 3600);
            let keep = Retention {
                events: month,
                attempts: month,
            };
            store.prune(&keep, now, 100).await.map(drop)
        }
        "gauges" => store.gauges(now).await.map(drop),
        "diagnostics" => store.diagnostics(now).await.map(drop),
        other => panic!("there is no call {other}"),
    }
}

/// Makes the call while the connections fall silent within it, at each of several requests.
async fn falls_silent_in(name: &'static str) {
    let t = TestStore::on(Backend::Postgres).await;
    let hook = t.hook("work").await;
    let relay = Relay::to(t.database.url()).await;
    let t = behind(&relay, t.database).await;
    call(&t, hook, "peek").await.unwrap();
    for loses in [Loses::Request, Loses::Answer] {
        for requests in LOST {
            t.insert(&[event("work")]).await;
            relay.freeze_after(requests, loses);
            let returned = timeout(PATIENCE, call(&t, hook, name)).await;
            let returned = returned.unwrap_or_else(|_| panic!("{name} hangs at {requests}"));
            let is_whole = !relay.has_frozen();
            if let Err(error) = returned {
                assert!(error.is_passing(), "{name} at {requests}: {error}");
            }
            eventually(async || match call(&t, hook, name).await {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("{name} does not recover at {requests}: {error}")),
            })
            .await;
            relay.thaw();
            if is_whole {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_returns_when_its_connection_falls_silent() {
    join_all(CALLS.map(falls_silent_in)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_that_ends_loses_no_connection_and_no_call() {
    let t = TestStore::on(Backend::Postgres).await;
    let relay = Relay::to(t.database.url()).await;
    let TestStore { database, .. } = t;
    let t = TestStore::behind(database, &relay.url(), PostgresTuning::default()).await;
    t.store.peek().await.unwrap();
    let made = relay.made();
    relay.freeze();
    let (peeked, ()) = tokio::join!(t.store.peek(), async { relay.thaw() });
    peeked.unwrap();
    assert_eq!(relay.made(), made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_takes_the_unused_ones_with_it() {
    let t = TestStore::on(Backend::Postgres).await;
    let TestStore { database, .. } = t;
    let relay = Relay::to(database.url()).await;
    let t = behind(&relay, database).await;
    // Several connections of the hot pool.
    let peeks = (0..4).map(|_| t.store.peek());
    for peeked in join_all(peeks).await {
        peeked.unwrap();
    }
    relay.freeze();
    t.store.peek().await.unwrap_err();
    t.store.peek().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_leaves_no_lock_behind() {
    let t = TestStore::on(Backend::Postgres).await;
    let TestStore { database, .. } = t;
    let url = database.url().to_owned();
    let t = TestStore::behind(database, &url, PostgresTuning::default()).await;
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await;
    let mut holder = t.sql().await;
    holder
        .run("BEGIN; LOCK TABLE postrider_attempts IN ACCESS EXCLUSIVE MODE")
        .await;
    let settlements = [t.accepted(&leased[0])];
    let settling = t.store.settle(t.now(), &settlements);
    tokio::select! {
        settled = settling => panic!("nothing can be settled: {settled:?}"),
        () = blocked(&t) => {}
    }
    holder.run("ROLLBACK").await;
    // Settled by the dropped call or by this one, and once.
    t.settle(&settlements).await;
    assert_eq!(t.attempts(settlements[0].request.first().id).await.len(), 1);
}

/// Waits until a session waits for a lock.
async fn blocked(t: &TestStore) {
    let mut sql = t.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(async || match sql.number(waiting).await {
        0 => Err("no session waits".into()),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_of_the_clock_leaves_out_the_wait_for_a_connection() {
    let t = TestStore::on(Backend::Postgres).await;
    let mut holder = t.sql().await;
    holder
        .run("BEGIN; LOCK TABLE postrider_hooks IN ACCESS EXCLUSIVE MODE")
        .await;
    let store = &t.store;
    let listing = (0..6).map(|_| store.hooks(HookFilter::default()));
    let listing = join_all(listing);
    let reading = async {
        let used = || {
            store
                .pools()
                .iter()
                .any(|pool| pool.pool == "calm" && pool.used == pool.max)
        };
        eventually(async || used().then_some(()).ok_or("the pool is not full".into())).await;
        store.read_clock().await.unwrap()
    };
    let releasing = async {
        blocked(&t).await;
        // The reading waits by now, or will: either way it is made after this.
        let released = postrider_core::monotonic_now();
        holder.run("ROLLBACK").await;
        released
    };
    let (listed, reading, released) = tokio::join!(listing, reading, releasing);
    assert!(listed.iter().all(|listed| listed.is_ok()));
    assert!(reading.asked >= released);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_has_no_more_connections_than_its_pools() {
    let t = TestStore::on(Backend::Postgres).await;
    let (store, events) = (&t.store, [event("work")]);
    let peeks = join_all((0..40).map(|_| store.peek()));
    let enqueues = join_all((0..40).map(|_| store.enqueue(&events)));
    let listings = join_all((0..40).map(|_| store.hooks(HookFilter::default())));
    let (peeks, enqueues, listings) = tokio::join!(peeks, enqueues, listings);
    assert!(peeks.iter().all(|peek| peek.is_ok()));
    assert!(enqueues.iter().all(|enqueue| enqueue.is_ok()));
    assert!(listings.iter().all(|listing| listing.is_ok()));
    let pools = store.pools();
    let open: u32 = pools.iter().map(|pool| pool.used + pool.idle).sum();
    let most: u32 = pools.iter().map(|pool| pool.max).sum();
    assert!(open <= most && most == 20, "{pools:?}");
    let sessions = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'postrider'";
    let mut sql = t.sql().await;
    eventually(async || match sql.number(sessions).await {
        // The first connection, which checks the server, may still be ending.
        sessions if sessions <= i64::from(most) => Ok(()),
        sessions => Err(format!("{sessions} sessions")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_are_tried_until_one_takes_writes() {
    let t = TestStore::on(Backend::Postgres).await;
    let TestStore {
        database: primary, ..
    } = t;
    let standby = TestDatabase::migrated(Backend::Postgres).await;
    read_only(&standby, "on").await;
    let (first, second) = (
        Relay::to(standby.url()).await,
        Relay::to(primary.url()).await,
    );
    let (_, rest) = first
        .url()
        .split_once("@127.0.0.1")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let rest = rest.split_once('/').unwrap().1.to_owned();
    let closed = "127.0.0.1:1";
    let hosts = format!("{closed},{},{}", first.address(), second.address());
    let url = format!("postgres://postgres@{hosts}/{rest}");
    let t = TestStore::behind(primary, &url, quick()).await;
    t.store.enqueue(&[event("work")]).await.unwrap();
    let described = t.store.describe();
    assert!(
        described.contains(&format!("{}, {}", first.address(), second.address())),
        "{described}"
    );
    let in_outbox = t
        .sql()
        .await
        .number("SELECT count(*) FROM postrider_outbox")
        .await;
    assert_eq!(in_outbox, 1);
    assert!(first.made() > 0, "it was asked first");

    // Of two that take writes, the first is used.
    read_only(&standby, "off").await;
    let any = TestStore::behind(standby, &url, quick()).await;
    any.store.enqueue(&[event("work")]).await.unwrap();
    let in_outbox = any
        .sql()
        .await
        .number("SELECT count(*) FROM postrider_outbox")
        .await;
    assert_eq!(in_outbox, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_is_refused_if_one_that_takes_writes_is_wanted() {
    let t = TestStore::on(Backend::Postgres).await;
    read_only(&t.database, "on").await;
    let url = |wanted: &str| {
        let url = t.database.url();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}target_session_attrs={wanted}")
    };
    let open = async |url: String| {
        let settings = postrider_store::DatabaseSettings { url };
        postrider_store::open(&settings, Default::default()).await
    };
    let refused = open(url("read-write")).await.err().unwrap();
    assert!(matches!(refused, Error::Database(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("the server is read-only"),
        "{refused}"
    );
    // It is no standby, and may be connected to in any case.
    for wanted in ["any", "primary"] {
        let store = open(url(wanted)).await.unwrap();
        let refused = store.enqueue(&[event("work")]).await.unwrap_err();
        assert!(
            refused.is_passing() && refused.is_no_answer(),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("read-only"), "{refused}");
    }
    let refused = open(url("standby")).await.err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("must be read-write, primary or any"),
        "{refused}"
    );
}

/// Whether new sessions of this database are read-only.
async fn read_only(database: &TestDatabase, setting: &str) {
    let mut sql = database.connect().await;
    let name = sql.text("SELECT current_database()").await;
    sql.run("SET default_transaction_read_only = off").await;
    sql.run(format!(
        "ALTER DATABASE \"{name}\" SET default_transaction_read_only = {setting}"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_read_only_server_are_replaced_by_new_ones() {
    let t = TestStore::on(Backend::Postgres).await;
    let TestStore { database: new, .. } = t;
    let old = TestDatabase::migrated(Backend::Postgres).await;
    read_only(&old, "on").await;
    let relay = Relay::to(old.url()).await;
    // It connects to the old server, whose name then leads to the new one.
    let t = TestStore::behind(new, &relay.url(), quick()).await;
    for _ in 0..2 {
        t.store.peek().await.unwrap();
        t.store.schema().await.unwrap();
    }
    relay.lead_to(t.database.url());
    let refused = t.store.enqueue(&[event("work")]).await;
    let made = relay.made();
    // The connection for incoming events was new; those of the other pools are still the old ones.
    refused.unwrap();
    assert!(relay.made() >= made);
    let hook = t
        .store
        .create_hook(new_hook("default", &["work"]), "test", start())
        .await;
    assert!(hook.unwrap_err().to_string().contains("read-only"));
    t.store
        .create_hook(new_hook("default", &["work"]), "test", start())
        .await
        .unwrap();
    // The hot pool was not asked to write yet, and goes to the new server all the same.
    assert_eq!(t.store.peek().await.unwrap().outbox, [t.slot]);
}
