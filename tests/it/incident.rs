//! A replayed incident: in each act something really fails, the alert that should fire does so
//! within two minutes of the rules' time and no other does, and `/readyz` is not ready where it
//! should not be.

use postrider_store::Backend;
use postrider_tests::{
    Answer, Connection, Postrider, Process, Receiver, Server, TestDatabase, Watch, eventually,
    value_of,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Events that each tenant sends in one beat of its traffic, as a rule.
const USUAL: u32 = 1;

/// By how much the first tenant's rate grows.
const FLOOD: u32 = 200;

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(500);

/// Requests in flight that two workers may have in the acts that are about receivers.
const PLACES: usize = 2 * 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_tenant_sends_200_times_its_usual_rate() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let scene = Scene::on(database.url(), &[("PER_HOOK", "4")]).await;
    let slow = Answer::from(200).after(Duration::from_millis(100));
    let tenants = Tenant::three(&scene, Receiver::answering([slow]).await).await;
    let (noisy, others) = tenants.split_first().expect("tenants");
    let mut watch = scene.watch().await;
    let traffic = Traffic::of(&database, &tenants);
    everything_arrives(&tenants, &traffic).await;

    watch.trouble_begins().await;
    traffic.first.store(FLOOD * USUAL, Ordering::Relaxed);
    watch
        .until_it_grows("postrider_oldest_due_age_seconds")
        .await;
    let sent = everything_arrives(others, &traffic).await;
    let overtaken = sent[0].len() - noisy.receiver.count();
    assert!(
        overtaken > 1_000,
        "they stood behind the flood: {overtaken}"
    );
    for worker in &scene.workers {
        ready(worker).await;
    }
    watch.fires(&["PostriderBacklogOld"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_receiver_hangs() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let scene = Scene::on(database.url(), &[("CONCURRENCY", "32"), ("PER_HOOK", "16")]).await;
    let tenants = Tenant::three(&scene, Receiver::accepting().await).await;
    let (hanging, others) = tenants.split_first().expect("tenants");
    let mut watch = scene.watch().await;
    let traffic = Traffic::of(&database, &tenants);
    traffic.first.store(10 * USUAL, Ordering::Relaxed);
    everything_arrives(&tenants, &traffic).await;

    watch.trouble_begins().await;
    hanging.receiver.hold();
    let cut = async |least: usize| {
        eventually(async || match hanging.receiver.cut().len() {
            cut if cut >= least => Ok(()),
            cut => Err(format!("{cut} of {least} requests are given up")),
        })
        .await;
    };
    cut(PLACES / 4).await;
    // It is probed now, and others get what is theirs while a probe hangs.
    for _ in 0..3 {
        let given_up = hanging.receiver.cut().len();
        everything_arrives(others, &traffic).await;
        cut(given_up + 1).await;
    }
    for worker in &scene.workers {
        ready(worker).await;
    }
    watch.fires(&["PostriderReceiversHanging"]).await;
    hanging.receiver.release();
    everything_arrives(&tenants, &traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_worker_dies() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let mut scene = Scene::on(database.url(), &[("PER_HOOK", "4")]).await;
    let tenants = Tenant::three(&scene, Receiver::accepting().await).await;
    let mut watch = scene.watch().await;
    let traffic = Traffic::of(&database, &tenants);
    everything_arrives(&tenants, &traffic).await;
    tenants[0].receiver.hold();
    traffic.first.store(10 * USUAL, Ordering::Relaxed);
    let dies = scene.workers.pop().expect("a worker");
    eventually(async || {
        let (_, metrics) = dies.get("/metrics").await;
        match value_of(&metrics, "postrider_inflight_requests") {
            4.0 => Ok(()),
            other => Err(format!("{other} requests are in flight")),
        }
    })
    .await;

    watch.trouble_begins().await;
    dies.kill().await;
    tenants[0].receiver.release();
    watch.until_one_is_down().await;
    everything_arrives(&tenants, &traffic).await;
    ready(&scene.workers[0]).await;
    scene.workers[0].wait_for_log("Brought back").await;
    watch.fires(&["PostriderDown"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_database_stops_for_30_s() {
    let server = Server::start().await;
    let scene = Scene::on(server.url(), &[]).await;
    let tenants = Tenant::three(&scene, Receiver::accepting().await).await;
    let mut watch = scene.watch().await;
    let mut sql = Connection::open(server.url()).await;
    let before = insert(&mut sql, &tenants[0].account, 5, "").await;
    tenants[0].receiver.wait_for_events(&before).await;

    watch.trouble_begins().await;
    let frozen = server.freeze().await;
    // The application commits as soon as it can.
    let account = tenants[0].account.clone();
    let application = tokio::spawn(async move { insert(&mut sql, &account, 5, "").await });
    for worker in &scene.workers {
        not_ready(worker, "the database did not answer").await;
        assert_eq!(worker.get("/livez").await.0, 200, "nobody is to restart it");
    }
    watch
        .until("postrider_no_look_seconds", |seconds| seconds >= 30.0)
        .await;
    drop(frozen);
    let meanwhile = application.await.expect("the application");
    tenants[0].receiver.wait_for_events(&meanwhile).await;
    for worker in &scene.workers {
        ready(worker).await;
    }
    watch
        .until("postrider_no_look_seconds", |seconds| seconds == 0.0)
        .await;
    watch.fires(&["PostriderDatabaseSilent"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_polling_is_blocked_by_a_lock_of_the_outbox() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let scene = Scene::on(database.url(), &[]).await;
    let tenants = Tenant::three(&scene, Receiver::accepting().await).await;
    let mut watch = scene.watch().await;
    let mut sql = database.connect().await;
    let mut migration = database.connect().await;

    watch.trouble_begins().await;
    migration
        .run("BEGIN; LOCK TABLE postrider_outbox IN ACCESS EXCLUSIVE MODE")
        .await;
    let account = tenants[0].account.clone();
    let application = tokio::spawn(async move { insert(&mut sql, &account, 5, "").await });
    for worker in &scene.workers {
        not_ready(worker, "has not looked for work for").await;
        assert_eq!(worker.get("/livez").await.0, 200, "nobody is to restart it");
    }
    watch
        .fires(&["PostriderDatabaseSilent", "PostriderOutboxStalled"])
        .await;
    migration.run("ROLLBACK").await;
    let events = application.await.expect("the application");
    tenants[0].receiver.wait_for_events(&events).await;
    for worker in &scene.workers {
        ready(worker).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_polling_is_blocked_by_locks_of_what_is_due() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let settings = [("REQUEST_TIMEOUT", "1s"), ("LEASE", "6s")];
    let scene = Scene::on(database.url(), &settings).await;
    let tenants = Tenant::three(&scene, Receiver::accepting().await).await;
    let mut watch = scene.watch().await;
    let mut holder = database.connect().await;
    let later = "now() + interval '3 s'";
    let events = insert(&mut holder, &tenants[0].account, 5, later).await;
    eventually(async || {
        let fanned_out = "SELECT count(*) FROM postrider_deliveries";
        match holder.number(fanned_out).await {
            5 => Ok(()),
            other => Err(format!("{other} deliveries")),
        }
    })
    .await;

    watch.trouble_begins().await;
    holder
        .run("BEGIN; SELECT 1 FROM postrider_deliveries FOR UPDATE")
        .await;
    for worker in &scene.workers {
        not_ready(worker, "has done nothing for").await;
        assert_eq!(worker.get("/livez").await.0, 200, "nobody is to restart it");
    }
    assert_eq!(tenants[0].receiver.count(), 0, "they were not leased yet");
    watch
        .fires(&["PostriderBacklogOld", "PostriderOutboxStalled"])
        .await;
    holder.run("ROLLBACK").await;
    tenants[0].receiver.wait_for_events(&events).await;
    for worker in &scene.workers {
        ready(worker).await;
    }
}

/// Two workers on a database.
struct Scene {
    postrider: Postrider,
    workers: Vec<Process>,
}

impl Scene {
    /// With these settings of `[worker]`.
    async fn on(url: &str, settings: &[(&str, &str)]) -> Self {
        let mut postrider = Postrider::with_url(url)
            .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
            .with("POSTRIDER_WORKER__LEASE", "7s");
        for (name, value) in settings {
            postrider = postrider.with(&format!("POSTRIDER_WORKER__{name}"), *value);
        }
        // It makes the partitions of the days to come, which the first sample tells of.
        postrider.json(&["migrate"]).await;
        let workers = vec![
            postrider.serve_as("worker").await,
            postrider.serve_as("worker").await,
        ];
        Self { postrider, workers }
    }

    async fn watch(&self) -> Watch {
        let workers: Vec<_> = self.workers.iter().collect();
        Watch::of(&workers).await
    }
}

/// An account with a receiver of its own.
struct Tenant {
    account: String,
    receiver: Receiver,
}

impl Tenant {
    /// One with this receiver, and two more with quick ones.
    async fn three(scene: &Scene, first: Receiver) -> Vec<Self> {
        let receivers = [
            first,
            Receiver::accepting().await,
            Receiver::accepting().await,
        ];
        let mut tenants = Vec::new();
        for (n, receiver) in receivers.into_iter().enumerate() {
            let (account, url) = (format!("tenant-{n}"), receiver.url());
            let add = ["hook", "add", "--url", &url, "--event", "*", "--account"];
            let add = [&add[..], &[&account]].concat();
            scene.postrider.json(&add).await;
            tenants.push(Self { account, receiver });
        }
        tenants
    }
}

/// What tenants send all the time, until dropped.
struct Traffic {
    /// How many events the first sends in a beat; the others send what is usual.
    first: Arc<AtomicU32>,
    /// What each has been told is committed.
    sent: watch::Receiver<Vec<BTreeSet<String>>>,
    _sending: AbortOnDropHandle<()>,
}

impl Traffic {
    fn of(database: &TestDatabase, tenants: &[Tenant]) -> Self {
        let accounts: Vec<_> = tenants.iter().map(|t| t.account.clone()).collect();
        let (told, sent) = watch::channel(vec![BTreeSet::new(); accounts.len()]);
        let first = Arc::new(AtomicU32::new(USUAL));
        let (rate, url) = (first.clone(), database.url().to_owned());
        let sending = tokio::spawn(async move {
            let mut sql = Connection::open(&url).await;
            let mut beats = tokio::time::interval(BEAT);
            loop {
                beats.tick().await;
                for (n, account) in accounts.iter().enumerate() {
                    let count = match n {
                        0 => rate.load(Ordering::Relaxed),
                        _ => USUAL,
                    };
                    let ids = insert(&mut sql, account, count, "").await;
                    told.send_modify(|sent| sent[n].extend(ids));
                }
            }
        });
        Self {
            first,
            sent,
            _sending: AbortOnDropHandle::new(sending),
        }
    }
}

/// Waits until these tenants, which are the last ones or all, have sent more events, and then
/// until all that they had sent by then has arrived. Returns what all tenants had.
async fn everything_arrives(tenants: &[Tenant], traffic: &Traffic) -> Vec<BTreeSet<String>> {
    let mut sent = traffic.sent.clone();
    let first = sent.borrow().len() - tenants.len();
    let before: Vec<_> = sent.borrow().iter().map(BTreeSet::len).collect();
    let more = sent.wait_for(|sent| {
        let mut counts = sent.iter().zip(&before).skip(first);
        counts.all(|(sent, before)| sent.len() >= before + 5)
    });
    let sent = more.await.expect("traffic").clone();
    for (tenant, events) in tenants.iter().zip(&sent[first..]) {
        tenant.receiver.wait_for_events(events).await;
    }
    sent
}

/// Inserts events of an account, to be delivered after a moment if one is given; returns their
/// ids.
async fn insert(sql: &mut Connection, account: &str, count: u32, after: &str) -> BTreeSet<String> {
    let after = if after.is_empty() { "NULL" } else { after };
    let insert = format!(
        "INSERT INTO postrider_outbox (account, event_type, payload, deliver_after) \
         SELECT '{account}', 'order.paid', '{{}}', {after} FROM generate_series(1, {count}) \
         RETURNING id"
    );
    let rows = sql.rows(insert).await;
    rows.into_iter().flatten().flatten().collect()
}

async fn ready(worker: &Process) {
    eventually(async || match worker.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits until a worker says that it is not ready, and why.
async fn not_ready(worker: &Process, reason: &str) {
    eventually(async || match worker.get("/readyz").await {
        (503, why) if why.contains(reason) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
