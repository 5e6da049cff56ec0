//! Ordered hooks: no event of a key is sent before its predecessor was delivered, whatever fails.

use postrider_core::{
    DeliveryId, HookId, HookSettings, NewEvent, OnFailure, Ordered, RetrySchedule,
};
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{
    Answer, Postrider, Process, Received, Receiver, TestApp, eventually, hook_to, longest_wait,
    on_both, value_of,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

on_both!(
    an_order_is_set_by_the_command_line_and_shown,
    a_key_whose_head_has_failed_for_good_waits_until_it_is_taken,
    a_hook_that_skips_continues_after_a_failure,
    a_discarded_head_unblocks_its_key,
    a_head_that_is_tried_again_holds_up_its_key_alone,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_ten_thousand_events_keep_their_order_while_workers_die() {
    let app = TestApp::on(Backend::Postgres).await;
    let (receiver, journal) = fickle_receiver().await;
    let hook = ordered(&app, &receiver, |_| {}).await;
    let postrider = quick_to_recover(&app);
    let mut workers = vec![
        postrider.serve().await,
        postrider.serve().await,
        postrider.serve().await,
    ];
    let dying = async {
        for arrivals in [3_000, 7_000] {
            receiver.wait_for(arrivals).await;
            owner(&mut workers).await.kill().await;
        }
    };
    tokio::join!(dying, feed(&app, 10_000, 100));
    app.wait_until_nothing_is_left().await;
    journal.assert_complete(&app, hook, 10_000, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_the_order_is_kept_by_a_worker_that_dies_and_comes_back() {
    let app = TestApp::on(Backend::Sqlite).await;
    let (receiver, journal) = fickle_receiver().await;
    let hook = ordered(&app, &receiver, |_| {}).await;
    let postrider = quick_to_recover(&app);
    let living = async {
        for arrivals in [300, 900] {
            let worker = postrider.serve().await;
            receiver.wait_for(arrivals).await;
            worker.kill().await;
        }
        postrider.serve().await
    };
    let (_worker, ()) = tokio::join!(living, feed(&app, 2_000, 20));
    app.wait_until_nothing_is_left().await;
    journal.assert_complete(&app, hook, 2_000, 20).await;
}

async fn an_order_is_set_by_the_command_line_and_shown(backend: Backend) {
    let app = TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    let url = "https://receiver.example/hook";
    let add = ["hook", "add", "--url", url, "--event", "*"];
    let added = postrider
        .json(&[&add[..], &["--ordered", "key"]].concat())
        .await;
    let order = |hook: &Value| (hook["ordered"].clone(), hook["on_failure"].clone());
    assert_eq!(order(&added), (json!("key"), json!("hold")));
    let id = added["id"].as_str().unwrap();
    let change = async |flags: &[&str]| {
        let arguments = [&["hook", "change", id][..], flags].concat();
        order(&postrider.json(&arguments).await)
    };
    let skips = change(&["--on-failure", "skip"]).await;
    assert_eq!(skips, (json!("key"), json!("skip")));
    let other = change(&["--rate", "20/s"]).await;
    assert_eq!(other, skips, "it was not named");
    let shown = postrider.run(&["hook", "show", id]).await.succeeded();
    assert_eq!(shown.field("on_failure"), "skip");
    let off = change(&["--ordered", "off"]).await;
    assert_eq!(off, (json!(null), json!(null)));
    let again = change(&["--ordered", "key", "--on-failure", "hold"]).await;
    assert_eq!(again, (json!("key"), json!("hold")));

    let refused = async |arguments: &[&str]| postrider.run(arguments).await.refused();
    let problem = refused(&[&add[..], &["--on-failure", "skip"]].concat()).await;
    assert!(problem.contains("ordered"), "{problem}");
    change(&["--ordered", "off"]).await;
    let problem = refused(&["hook", "change", id, "--on-failure", "hold"]).await;
    assert!(problem.contains("ordered"), "{problem}");
    let problem = refused(&["hook", "change", id, "--ordered", "seq"]).await;
    assert!(problem.contains("must be key; or write off"), "{problem}");
    let wrong = ["--ordered", "key", "--on-failure", "wait"];
    let problem = refused(&[&["hook", "change", id][..], &wrong].concat()).await;
    assert!(problem.contains("hold or skip"), "{problem}");
}

async fn a_key_whose_head_has_failed_for_good_waits_until_it_is_taken(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = refusing("a", 0, 2).await;
    let hook = ordered(&app, &receiver, one_attempt).await;
    let events = [of("a", 0), of("a", 1), of("b", 0), of("a", 2), of("b", 1)];
    let events = app.enqueue_all(&events).await;
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0]);
    assert_eq!(came(&receiver, "b"), [0, 1]);
    let postrider = Postrider::on(&app.database);
    let listed = postrider
        .listing(&["delivery", "list", "--hook", &hook.to_string()])
        .await;
    let told = |state: &str, reason: &str| {
        let is_meant = |d: &&Value| d["state"] == state && d["reason"] == reason;
        listed.iter().filter(is_meant).collect::<Vec<_>>()
    };
    assert_eq!(told("pending", "behind").len(), 2);
    assert_eq!(told("failed", "exhausted").len(), 1);

    // It fails again, and holds its key still.
    let head = app.delivery(events[0], hook).await.id;
    for expected in [&[0, 0][..], &[0, 0, 0, 1, 2]] {
        app.store.redeliver(head, app.now()).await.unwrap();
        app.tick().await;
        assert_eq!(came(&receiver, "a"), expected);
    }
    assert_eq!(app.left().await, 0);
}

async fn a_hook_that_skips_continues_after_a_failure(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = refusing("a", 0, usize::MAX).await;
    let hook = ordered(&app, &receiver, |settings| {
        one_attempt(settings);
        settings.on_failure = Some(OnFailure::Skip);
    })
    .await;
    app.enqueue_all(&[of("a", 0), of("a", 1), of("a", 2)]).await;
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0, 1, 2]);
    assert_eq!(app.count(hook, DeliveryState::Failed).await, 1);
    assert_eq!(app.left().await, 0);
}

async fn a_discarded_head_unblocks_its_key(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = refusing("a", 0, usize::MAX).await;
    let hook = ordered(&app, &receiver, one_attempt).await;
    let events = [of("a", 0), of("a", 1), of("a", 2)];
    let events = app.enqueue_all(&events).await;
    app.tick().await;
    let [head, _, last] = [0, 1, 2].map(|n| DeliveryId::of(events[n], hook));
    let postrider = Postrider::on(&app.database);
    let discard = ["delivery", "discard", &last.to_string()];
    let discarded = postrider.json(&discard).await;
    assert_eq!(
        (&discarded["state"], &discarded["reason"]),
        (&json!("cancelled"), &json!("discarded"))
    );
    let problem = postrider.run(&discard).await.refused();
    assert!(problem.contains("has ended"), "{problem}");
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0]);
    app.store.discard(head, app.now()).await.unwrap();
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0, 1]);
    assert_eq!(app.left().await, 0);
}

async fn a_head_that_is_tried_again_holds_up_its_key_alone(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = refusing("a", 0, 1).await;
    ordered(&app, &receiver, |_| {}).await;
    let unkeyed = postrider_tests::event("invoice.paid");
    app.enqueue_all(&[of("a", 0), of("a", 1), unkeyed, of("b", 0)])
        .await;
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0]);
    assert_eq!(receiver.count(), 3);
    app.advance(longest_wait(1));
    app.tick().await;
    assert_eq!(came(&receiver, "a"), [0, 0, 1]);
    assert_eq!(app.left().await, 0);
}

/// The `n`-th event of a key.
fn of(key: &str, n: usize) -> NewEvent {
    let event = NewEvent::new("invoice.paid", &json!({ "key": key, "n": n }));
    event.expect("a payload").ordering_key(key)
}

/// The key and the number of the event that came.
fn named(received: &Received) -> Option<(String, usize)> {
    let data = &received.json()["data"];
    let n = data["n"].as_u64()?;
    Some((data["key"].as_str()?.to_owned(), usize::try_from(n).ok()?))
}

/// The numbers of the events of a key, as they came.
fn came(receiver: &Receiver, key: &str) -> Vec<usize> {
    let all = receiver.requests();
    let named = all.iter().filter_map(named);
    named.filter(|(of, _)| of == key).map(|(_, n)| n).collect()
}

/// Refuses one event so many times.
async fn refusing(key: &'static str, n: usize, times: usize) -> Receiver {
    let refused = Mutex::new(0);
    Receiver::deciding(move |_, received| {
        let mut refused = lock(&refused);
        if named(received) == Some((key.to_owned(), n)) && *refused < times {
            *refused += 1;
            return Answer::from(500);
        }
        Answer::from(200)
    })
    .await
}

async fn ordered(
    app: &TestApp,
    receiver: &Receiver,
    set: impl FnOnce(&mut HookSettings),
) -> HookId {
    let mut hook = hook_to(&receiver.url());
    hook.settings.ordered = Some(Ordered::Key);
    // What is refused is meant to show the order, not to hold the hook back.
    hook.settings.back_off_after = Some(1_000);
    set(&mut hook.settings);
    app.register(hook).await.id
}

fn one_attempt(settings: &mut HookSettings) {
    settings.retry_schedule = Some(RetrySchedule::new(Vec::new()));
}

// ---- while workers die

/// What a receiver knows of each key.
#[derive(Default)]
struct Journal {
    keys: BTreeMap<String, OfKey>,
    /// What must not have happened.
    faults: Vec<String>,
    random: u64,
    refused: usize,
}

#[derive(Default)]
struct OfKey {
    /// How many events were taken, one after another.
    taken: usize,
    /// When the latest request was answered.
    answered: Option<Instant>,
}

#[derive(Clone, Default)]
struct SharedJournal(Arc<Mutex<Journal>>);

/// Refuses one in five requests, and writes down what comes out of turn.
async fn fickle_receiver() -> (Receiver, SharedJournal) {
    let journal = SharedJournal::default();
    let kept = journal.clone();
    let receiver = Receiver::deciding(move |_, received| lock(&kept.0).answer(received)).await;
    (receiver, journal)
}

impl Journal {
    fn answer(&mut self, received: &Received) -> Answer {
        let takes = Duration::from_millis(2);
        let Some((key, n)) = named(received) else {
            return Answer::from(200);
        };
        let refuses = self.below(5) == 0;
        let of_key = self.keys.entry(key.clone()).or_default();
        if n > of_key.taken {
            let taken = of_key.taken;
            self.faults
                .push(format!("{key}: {n} came when {taken} had been taken"));
        }
        if of_key.answered.is_some_and(|at| received.at < at) {
            self.faults.push(format!("{key}: {n} came beside another"));
        }
        of_key.answered = Some(received.at + takes);
        if refuses {
            self.refused += 1;
            return Answer::from(500).after(takes);
        }
        of_key.taken = of_key.taken.max(n + 1);
        Answer::from(200).after(takes)
    }

    /// A number that looks random and is the same in every run.
    fn below(&mut self, end: u64) -> u64 {
        // A step of a linear congruential generator (Knuth's MMIX); its high bits are the good ones.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % end
    }
}

impl SharedJournal {
    async fn assert_complete(&self, app: &TestApp, hook: HookId, events: usize, keys: usize) {
        {
            let journal = lock(&self.0);
            assert_eq!(journal.faults, Vec::<String>::new());
            assert_eq!(journal.keys.len(), keys);
            assert!(journal.keys.values().all(|key| key.taken == events / keys));
            assert!(journal.refused > events / 10, "{}", journal.refused);
        }
        assert_eq!(app.count(hook, DeliveryState::Failed).await, 0);
    }
}

/// Inserts events of so many keys in turn, some of them at a time.
async fn feed(app: &TestApp, events: usize, keys: usize) {
    for first in (0..events).step_by(250) {
        let some = first..events.min(first + 250);
        let some: Vec<_> = some
            .map(|n| of(&format!("key-{}", n % keys), n / keys))
            .collect();
        app.enqueue_all(&some).await;
    }
}

/// Workers whose leases do not last long, and which try again soon.
fn quick_to_recover(app: &TestApp) -> Postrider {
    let soon = ["100ms"; 12].join(",");
    Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s")
        .with("POSTRIDER_WORKER__LEASE", "6s")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", soon)
}

/// The worker that owns the hook, taken out of the others.
async fn owner(workers: &mut Vec<Process>) -> Process {
    let mut found = None;
    eventually(async || {
        for (place, worker) in workers.iter().enumerate() {
            let (_, metrics) = worker.get("/metrics").await;
            if value_of(&metrics, "postrider_owned_hooks") > 0.0 {
                found = Some(place);
                return Ok(());
            }
        }
        Err("nobody owns the hook".into())
    })
    .await;
    workers.remove(found.expect("an owner"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
