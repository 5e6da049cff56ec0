//! A receiver that fails or is overloaded: its hook is backed off as a whole, and gets everything
//! once the receiver answers again.

use postrider_core::{HookId, Phase, RetrySchedule, Span, monotonic_now};
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{
    Answer, Postrider, Process, Received, Receiver, TestApp, event, eventually, hook_to, on_both,
    value_of,
};
use postrider_worker::{HookDefaults, WorkerSettings};
use std::collections::BTreeSet;
use std::time::Duration;

on_both!(
    a_hook_that_fails_gets_single_probes_and_then_more_and_more,
    a_busy_receiver_is_left_alone_for_all_its_deliveries,
    a_busy_receiver_may_name_the_time_as_a_date,
    fifty_that_fail_together_back_off_and_disable_nothing,
    a_hook_has_its_own_patience,
    one_event_that_always_fails_does_not_keep_the_others_waiting,
    types_that_a_receiver_refuses_do_not_delay_the_others,
    hooks_that_hang_leave_places_to_the_others,
);

async fn a_hook_that_fails_gets_single_probes_and_then_more_and_more(backend: Backend) {
    let app = TestApp::with_hooks(backend, retrying_every(1)).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    app.enqueue_all(&vec![event("invoice.paid"); 5]).await;
    app.tick().await;
    assert_eq!(receiver.count(), 5);
    let shown = app.shown(hook).await;
    assert_eq!((shown.phase, shown.fail_count), (Some(Phase::BackedOff), 5));

    // 200 more cost one request at a time, with pauses that grow, and no attempts of theirs.
    let events = app.enqueue_all(&vec![event("invoice.paid"); 200]).await;
    app.tick().await;
    assert_eq!(receiver.count(), 5);
    let mut waits = Vec::new();
    for probe in 1..=4 {
        let before = app.now();
        while receiver.count() < 5 + probe {
            app.clock.advance(Duration::from_millis(100));
            app.tick().await;
        }
        assert_eq!(receiver.count(), 5 + probe, "one at a time");
        waits.push((app.now() - before).as_seconds_f64());
    }
    for (wait, plain) in waits.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((plain * 0.7..=plain * 1.3).contains(wait), "{waits:?}");
    }
    let mut attempted = 0;
    for event in &events {
        attempted += app.attempts(*event, hook).await.len();
    }
    assert!(attempted <= 4, "{attempted}");

    let failed = receiver.count();
    receiver.answer([Answer::from(200).after(Duration::from_millis(5))]);
    app.advance(20);
    app.tick().await;
    assert_eq!(app.left().await, 0);
    let shown = app.shown(hook).await;
    assert_eq!((shown.phase, shown.fail_count), (None, 0));
    assert_ramp(&receiver.requests()[failed..]);
}

async fn a_busy_receiver_is_left_alone_for_all_its_deliveries(backend: Backend) {
    let app = TestApp::on(backend).await;
    let busy = Answer::from(429).header("retry-after", "100");
    let receiver = Receiver::answering([busy, Answer::from(200)]).await;
    let hook = app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    app.enqueue_all(&vec![event("invoice.paid"); 20]).await;
    app.tick().await;
    app.advance(99);
    app.tick().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 21);
    assert_eq!(app.shown(hook).await.fail_count, 1);
    app.advance(2);
    app.tick().await;
    assert_eq!((receiver.count(), app.left().await), (22, 0));
}

async fn a_busy_receiver_may_name_the_time_as_a_date(backend: Backend) {
    let app = TestApp::on(backend).await;
    let at = app.now() + Duration::from_secs(100);
    let date = at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let busy = Answer::from(503).header("retry-after", date);
    let receiver = Receiver::answering([busy, Answer::from(200)]).await;
    let hook = app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    let not_before = app.shown(hook).await.not_before.unwrap();
    assert!((0..10).contains(&(not_before - at).num_seconds()));
    app.enqueue("invoice.paid").await;
    app.advance(99);
    app.tick().await;
    assert_eq!(receiver.count(), 1);
    app.advance(10);
    app.tick().await;
    assert_eq!((receiver.count(), app.left().await), (3, 0));
}

async fn fifty_that_fail_together_back_off_and_disable_nothing(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([200]).await;
    let hook = app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    receiver.answer([500]);
    receiver.hold();
    app.enqueue_all(&vec![event("invoice.paid"); 50]).await;
    let all_in_flight = async {
        receiver.wait_for(51).await;
        receiver.release();
    };
    tokio::join!(app.tick(), all_in_flight);
    let shown = app.shown(hook).await;
    assert_eq!((shown.status.as_str(), shown.fail_count), ("active", 50));
    assert_eq!(shown.phase, Some(Phase::BackedOff));
    // None of the fifty was a probe: the first wait is the shortest.
    let wait = shown.not_before.unwrap() - shown.first_failure_at.unwrap();
    assert!(wait.num_seconds() < 10, "{wait}");
}

async fn a_hook_has_its_own_patience(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500]).await;
    let mut hook = hook_to(&receiver.url());
    hook.settings.back_off_after = Some(2);
    let hook = app.register(hook).await.id;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    assert_eq!(app.shown(hook).await.phase, None);
    app.enqueue("invoice.paid").await;
    app.tick().await;
    assert_eq!(app.shown(hook).await.phase, Some(Phase::BackedOff));
}

async fn one_event_that_always_fails_does_not_keep_the_others_waiting(backend: Backend) {
    let app = TestApp::on(backend).await;
    let refused = |received: &Received| received.json()["type"] == "invoice.void";
    let receiver = Receiver::deciding(move |_, received| match refused(received) {
        true => Answer::from(400),
        false => Answer::from(200),
    })
    .await;
    let hook = app.hook(&receiver).await;
    // It is held back from the beginning.
    for change in [
        postrider_store::HookChange::Pause,
        postrider_store::HookChange::Enable,
    ] {
        let changed = app.store.change_hook(hook, change, "test", app.now()).await;
        changed.unwrap();
    }
    let mut events = vec![event("invoice.paid"); 100];
    for n in (0..100).step_by(7) {
        events[n] = event("invoice.void");
    }
    app.enqueue_all(&events).await;
    for _ in 0..3 {
        app.tick().await;
        app.advance(1);
    }
    let taken = receiver.requests().iter().filter(|r| !refused(r)).count();
    assert_eq!(taken, 85);
}

/// Seven of ten events are of a type that the receiver does not know (R03).
async fn types_that_a_receiver_refuses_do_not_delay_the_others(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::deciding(|_, received| match received.json()["type"].as_str() {
        Some("invoice.paid") => Answer::from(200),
        _ => Answer::from(400),
    })
    .await;
    let hook = app.hook(&receiver).await;
    for round in 1..=10 {
        let known = |n: usize| (n * 7 + round) % 10 < 3;
        let types = (0..20).map(|n| match known(n) {
            true => "invoice.paid",
            false => "invoice.unknown",
        });
        let events: Vec<_> = types.map(event).collect();
        app.enqueue_all(&events).await;
        app.tick().await;
        let delivered = app.count(hook, DeliveryState::Delivered).await;
        assert_eq!(delivered, 6 * round, "in the round in which they came");
        assert_eq!(app.shown(hook).await.phase, None);
        app.advance(1);
    }
}

async fn hooks_that_hang_leave_places_to_the_others(backend: Backend) {
    let settings = WorkerSettings {
        concurrency: 16,
        per_hook: 4,
        allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
        ..WorkerSettings::default()
    };
    let app = TestApp::with(backend, HookDefaults::default(), settings).await;
    let healthy = Receiver::accepting().await;
    app.hook(&healthy).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;

    let hanging = Receiver::accepting().await;
    hanging.hold();
    for _ in 0..10 {
        app.hook(&hanging).await;
    }
    app.enqueue_all(&vec![event("invoice.paid"); 40]).await;
    let others = async {
        hanging.wait_for(8).await;
        healthy.wait_for(9).await;
        let held = hanging.count();
        hanging.release();
        held
    };
    let ((), held) = tokio::join!(app.tick(), others);
    assert_eq!(held, 8, "half of the places");
    assert_eq!(hanging.count(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_dead_receiver_costs_three_workers_one_request_at_a_time() {
    const EVENTS: usize = 10_000;
    const WINDOW: Duration = Duration::from_secs(6);
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_HOOKS__BACK_OFF_MAX", "2s")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", "1s,1s,1s,1s,1s,1s,1s,1s");
    let mut events = BTreeSet::new();
    for _ in 0..EVENTS / 1_000 {
        let inserted = app.enqueue_all(&vec![event("invoice.paid"); 1_000]).await;
        events.extend(inserted.into_iter().map(|id| id.to_string()));
    }
    let _workers = [
        postrider.serve().await,
        postrider.serve().await,
        postrider.serve().await,
    ];
    wait_for_phase(&app, hook, Some(Phase::BackedOff)).await;
    let mut sql = app.sql().await;
    let backed_off = sql.text("SELECT clock_timestamp()::text").await;
    tokio::time::sleep(WINDOW).await;
    let started = "SELECT count(*) FROM postrider_attempts WHERE at";
    let before = sql.number(format!("{started} <= '{backed_off}'")).await;
    let probes = sql.number(format!("{started} > '{backed_off}'")).await;
    // 0.8 s, then at least 1.6 s each.
    let allowed = 1 + ((WINDOW.as_secs_f64() - 0.8) / 1.6) as i64;
    assert!(probes <= allowed + 2, "{probes} requests, {allowed} probes");
    assert!(probes >= 2, "{probes} requests: it is still probed");
    assert!(
        before <= 3 * 5 + 5,
        "{before} requests before it was backed off"
    );
    let unrecorded = receiver.count() as i64 - before - probes;
    assert!(unrecorded <= 1, "{unrecorded} requests are not known of");

    let failed = receiver.count();
    receiver.answer([Answer::from(200).after(Duration::from_millis(5))]);
    receiver.wait_for_events(&events).await;
    app.wait_until_nothing_is_left().await;
    assert_ramp(&receiver.requests()[failed..]);
    wait_for_phase(&app, hook, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_another_worker_takes_over_what_a_killed_one_owned() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    let mut hook = hook_to(&receiver.url());
    hook.settings.in_flight = Some(2);
    app.register(hook).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
        .with("POSTRIDER_WORKER__LEASE", "7s");
    let (one, other) = (postrider.serve().await, postrider.serve().await);
    receiver.hold();
    app.enqueue_all(&vec![event("invoice.paid"); 20]).await;
    receiver.wait_for(2).await;
    let (owner, heir) = match owned(&one).await {
        1.0 => (one, other),
        _ => (other, one),
    };
    assert_eq!((owned(&owner).await, owned(&heir).await), (1.0, 0.0));
    owner.kill().await;
    let killed = monotonic_now();
    receiver.release();
    app.wait_until_nothing_is_left().await;
    assert_eq!(receiver.arrivals().len(), 20);
    assert!(
        receiver
            .requests()
            .iter()
            .all(|request| request.at_once <= 2)
    );
    // Eight seconds of ownership, or of the lease of what was in flight, and some to be found.
    let took = monotonic_now() - killed;
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_another_worker_takes_over_at_once_from_one_that_is_stopped() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    let mut hook = hook_to(&receiver.url());
    hook.settings.in_flight = Some(2);
    app.register(hook).await;
    let postrider = Postrider::on(&app.database);
    let mut first = postrider.serve().await;
    app.enqueue("invoice.paid").await;
    app.wait_until_nothing_is_left().await;
    assert_eq!(owned(&first).await, 1.0);
    first.terminate().await;
    assert!(first.ended().await.success());
    assert_eq!(
        app.sql()
            .await
            .number("SELECT count(*) FROM postrider_gates")
            .await,
        0
    );
    let _second = postrider.serve().await;
    app.enqueue("invoice.paid").await;
    app.wait_until_nothing_is_left().await;
    assert_eq!(receiver.count(), 2);
}

/// Of the requests of a receiver that answers again, the first is alone, and so is the one after
/// it; then two are there at once at most, then four, and so on.
fn assert_ramp(requests: &[Received]) {
    let mut most = 0;
    for (number, request) in requests.iter().enumerate().skip(1).take(62) {
        let allowed = 1 << number.ilog2();
        assert!(
            request.at_once <= allowed,
            "{} at once at request {number}, {allowed} allowed",
            request.at_once
        );
        most = most.max(request.at_once);
    }
    assert!(most >= 4, "at most {most} at once among the first 62");
    assert_eq!(requests[0].at_once, 1);
}

async fn wait_for_phase(app: &TestApp, hook: HookId, phase: Option<Phase>) {
    eventually(async || match app.shown(hook).await.phase {
        now if now == phase => Ok(()),
        now => Err(format!("the hook is {now:?}, not {phase:?}")),
    })
    .await;
}

async fn owned(worker: &Process) -> f64 {
    value_of(&worker.get("/metrics").await.1, "postrider_owned_hooks")
}

/// Retries every so many seconds, often.
fn retrying_every(seconds: u64) -> HookDefaults {
    HookDefaults {
        retry_schedule: RetrySchedule::new(vec![Span::secs(seconds); 20]),
        ..HookDefaults::default()
    }
}
