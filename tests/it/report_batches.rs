//! Several reports in one request: how they are batched, and that they stay together.

use postrider_compat::SystemSettings;
use postrider_core::{EventId, HookId, NewEvent, NewHook, Span};
use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{
    Postrider, Received, Receiver, TestApp, ended, hook_defaults_with, hook_to, on_both, python,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

on_both!(
    reports_go_a_hundred_at_a_time_in_their_order,
    a_hook_takes_as_many_as_it_sets,
    without_a_window_each_report_is_sent_alone,
    a_batch_that_was_refused_is_the_same_again_after_a_pause,
    a_redelivered_report_is_sent_alone,
    envelopes_are_read_by_solapis_own_package,
    a_killed_worker_leaves_its_batches_as_they_were,
);

/// The schedule's first wait, in seconds.
const FIRST_WAIT: u64 = 15 * 60;
/// How long reports wait for others, in seconds.
const WINDOW: u64 = 5;

async fn reports_go_a_hundred_at_a_time_in_their_order(backend: Backend) {
    let app = app(backend, WINDOW).await;
    let receiver = Receiver::answering([503, 503, 503, 200]).await;
    let hook = app.register(hook_of(&receiver)).await.id;
    let events: Vec<_> = (0..250)
        .map(|n| match n % 5 {
            0 | 2 => report("GROUP-REPORT", n),
            _ => report("SINGLE-REPORT", n),
        })
        .collect();
    let ids = app.enqueue_all(&events).await;
    app.tick().await;
    assert_eq!(receiver.count(), 0, "they wait for others");
    app.advance(WINDOW);
    app.tick().await;
    let requests = receiver.requests();
    let mut sizes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for request in &requests {
        let name = request.header("x-solapi-event-name");
        sizes.entry(name).or_default().push(numbers(request));
    }
    for (name, arrays) in &mut sizes {
        arrays.sort_unstable();
        let all: Vec<_> = arrays.concat();
        let of_type: Vec<_> = (0..250)
            .filter(|n| (n % 5 == 0 || n % 5 == 2) == (*name == "GROUP-REPORT"))
            .collect();
        assert_eq!(all, of_type, "{name}, in the order of insertion");
        let lengths: Vec<_> = arrays.iter().map(Vec::len).collect();
        match *name {
            "GROUP-REPORT" => assert_eq!(lengths, [100]),
            _ => assert_eq!(lengths, [100, 50]),
        }
    }
    assert_eq!(requests.len(), 3);

    // All three were refused: three failures, told by each of their deliveries.
    assert_eq!(app.shown(hook).await.fail_count, 3);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 250);
    for id in &ids {
        let attempts = app.attempts(*id, hook).await;
        let told: Vec<_> = attempts.iter().map(|a| (a.number, a.status)).collect();
        assert_eq!(told, [(1, Some(503))]);
    }
    // What comes meanwhile does not join them.
    app.enqueue_all(&[report("SINGLE-REPORT", 250), report("GROUP-REPORT", 251)])
        .await;
    app.tick().await;
    app.advance(FIRST_WAIT);
    app.tick().await;
    let mut again = receiver.requests().split_off(3);
    again.retain(|request| !numbers(request).iter().any(|n| *n >= 250));
    assert_eq!(sorted(&again), sorted(&requests), "identical bytes");
    assert_eq!(receiver.count(), 8);
    assert_eq!(app.shown(hook).await.fail_count, 0);
    assert_eq!(app.left().await, 0);
    for id in ids {
        let delivery = app.delivery(id, hook).await;
        assert_eq!(
            (delivery.state, delivery.attempts),
            (DeliveryState::Delivered, 2)
        );
    }
}

async fn a_hook_takes_as_many_as_it_sets(backend: Backend) {
    let app = app(backend, WINDOW).await;
    let (three, one) = (Receiver::accepting().await, Receiver::accepting().await);
    app.register(with_batch(hook_of(&three), "3")).await;
    app.register(with_batch(hook_of(&one), "1")).await;
    enqueue(&app, 0..8).await;
    app.tick().await;
    assert_eq!(one.count(), 8, "they wait for none");
    app.advance(WINDOW);
    app.tick().await;
    let mut arrays: Vec<_> = three.requests().iter().map(numbers).collect();
    arrays.sort_unstable();
    assert_eq!(arrays, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
}

async fn without_a_window_each_report_is_sent_alone(backend: Backend) {
    let app = app(backend, 0).await;
    let receiver = Receiver::accepting().await;
    app.register(hook_of(&receiver)).await;
    enqueue(&app, 0..5).await;
    app.tick().await;
    let mut arrays: Vec<_> = receiver.requests().iter().map(numbers).collect();
    arrays.sort_unstable();
    assert_eq!(arrays, [[0], [1], [2], [3], [4]]);
}

async fn a_batch_that_was_refused_is_the_same_again_after_a_pause(backend: Backend) {
    let app = app(backend, WINDOW).await;
    let receiver = Receiver::answering([500, 200]).await;
    let hook = app.register(hook_of(&receiver)).await.id;
    enqueue(&app, 0..7).await;
    settled_after(&app, WINDOW).await;
    assert_eq!(app.shown(hook).await.fail_count, 1, "one request");
    let change = async |change| {
        let changed = app.store.change_hook(hook, change, "test", app.now()).await;
        changed.expect("change the hook");
    };
    change(HookChange::Pause).await;
    enqueue(&app, 7..9).await;
    settled_after(&app, FIRST_WAIT).await;
    assert_eq!(receiver.count(), 1, "it is paused");
    change(HookChange::Enable).await;
    app.tick().await;
    let requests = receiver.requests();
    assert_eq!(numbers(&requests[0]), [0, 1, 2, 3, 4, 5, 6]);
    let same = requests.iter().filter(|r| r.body == requests[0].body);
    assert_eq!(same.count(), 2);
    assert_eq!(requests.iter().map(|r| numbers(r).len()).sum::<usize>(), 16);
}

async fn a_redelivered_report_is_sent_alone(backend: Backend) {
    let app = app(backend, WINDOW).await;
    let receiver = Receiver::answering([500, 200]).await;
    let hook = app.register(hook_of(&receiver)).await.id;
    let ids = enqueue(&app, 0..4).await;
    settled_after(&app, WINDOW).await;
    // The first of the batch leaves it.
    let id = app.delivery(ids[0], hook).await.id;
    app.store.redeliver(id, app.now()).await.unwrap();
    app.tick().await;
    settled_after(&app, FIRST_WAIT).await;
    let arrays: Vec<_> = receiver.requests().iter().map(numbers).collect();
    assert_eq!(arrays, [vec![0, 1, 2, 3], vec![0], vec![1, 2, 3]]);
    assert_eq!(app.left().await, 0);
}

async fn envelopes_are_read_by_solapis_own_package(backend: Backend) {
    let app = app(backend, WINDOW).await;
    let receiver = Receiver::answering([500, 200]).await;
    let mut hook = hook_of(&receiver);
    hook.settings
        .profile
        .insert("format".into(), "envelope".into());
    app.register(hook).await;
    let ids = enqueue(&app, 0..3).await;
    settled_after(&app, WINDOW).await;
    settled_after(&app, FIRST_WAIT).await;
    let folder = tempfile::tempdir().unwrap();
    for (request, retries) in receiver.requests().iter().zip([0, 1]) {
        let file = folder.path().join("body.json");
        std::fs::write(&file, &request.body).unwrap();
        let read = ended(python("solapi_reports.py").arg(&file)).await;
        let read = read.succeeded().stdout;
        let read: Vec<Value> = read
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected: Vec<_> = ids
            .iter()
            .zip(0..)
            .map(|(id, n)| json!([id.to_string(), format!("M{n}"), retries]))
            .collect();
        assert_eq!(read, expected);
    }
    assert_eq!(receiver.count(), 2);
}

async fn a_killed_worker_leaves_its_batches_as_they_were(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    let hook: HookId = app.register(hook_of(&receiver)).await.id;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_SOLAPI__BATCH_WINDOW", "1s")
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
        .with("POSTRIDER_WORKER__LEASE", "7s");
    let ids = enqueue(&app, 0..250).await;
    let killed = postrider.serve().await;
    receiver.wait_for(3).await;
    killed.kill().await;
    receiver.release();
    // What comes now has nothing to do with what was in flight.
    enqueue(&app, 250..255).await;
    let other = postrider.serve().await;
    app.wait_until_nothing_is_left().await;
    other.wait_for_log("Recovered").await;
    let mut arrays: BTreeMap<_, usize> = BTreeMap::new();
    for request in receiver.requests() {
        *arrays.entry(numbers(&request)).or_default() += 1;
    }
    let arrays: Vec<_> = arrays
        .into_iter()
        .map(|(numbers, times)| (numbers.len(), times))
        .collect();
    assert_eq!(arrays, [(100, 2), (100, 2), (50, 2), (5, 1)]);
    let attempts = app.attempts(ids[0], hook).await;
    assert_eq!(attempts.len(), 1, "what was cut is no attempt");
}

// ---- what the tests share

/// An application whose reports wait so many seconds for others.
async fn app(backend: Backend, window: u64) -> TestApp {
    let mut systems = SystemSettings::default();
    systems.solapi.batch_window = Span::secs(window);
    let hooks = hook_defaults_with(&systems);
    TestApp::with_hooks(backend, hooks).await
}

fn hook_of(receiver: &Receiver) -> NewHook {
    let mut hook = hook_to(&receiver.url());
    hook.profile = "solapi".into();
    hook.credentials.secrets.clear();
    hook
}

fn with_batch(mut hook: NewHook, most: &str) -> NewHook {
    hook.settings.profile.insert("batch".into(), most.into());
    hook
}

fn report(event_type: &str, number: usize) -> NewEvent {
    let report = json!({ "messageId": format!("M{number}"), "number": number });
    NewEvent::from_json(event_type, report.to_string()).expect("a report")
}

async fn enqueue(app: &TestApp, numbers: std::ops::Range<usize>) -> Vec<EventId> {
    let events: Vec<_> = numbers.map(|n| report("SINGLE-REPORT", n)).collect();
    app.enqueue_all(&events).await
}

/// Fans out what there is, and does what is to be done so many seconds later.
async fn settled_after(app: &TestApp, seconds: u64) {
    app.tick().await;
    app.advance(seconds);
    app.tick().await;
}

/// The bodies, whatever the order in which they came, each with its type.
fn sorted(requests: &[Received]) -> Vec<(String, Vec<u8>)> {
    let name = |request: &Received| request.header("x-solapi-event-name").to_owned();
    let bodies = requests.iter().map(|r| (name(r), r.body.to_vec()));
    let mut bodies: Vec<_> = bodies.collect();
    bodies.sort_unstable();
    bodies
}

/// Which reports a request has, in their order.
fn numbers(request: &Received) -> Vec<usize> {
    let items = request.json();
    let numbers = items.as_array().expect("an array").iter().map(|item| {
        let report = item.get("data").unwrap_or(item);
        report["number"].as_u64().expect("a number") as usize
    });
    numbers.collect()
}
