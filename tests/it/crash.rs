//! Processes and servers that die at the worst moment: every event arrives all the same.

use postrider_core::EventId;
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{
    Answer, Postrider, Receiver, Server, TestApp, ended, event, eventually, longest_wait, on_both,
    psql, value_of,
};
use std::collections::BTreeSet;

on_both!(
    a_worker_killed_again_and_again_loses_no_event,
    a_delivery_that_was_lost_with_three_workers_waits_by_its_schedule,
);

#[tokio::test]
async fn on_postgres_what_a_killed_worker_had_not_settled_comes_back_and_nothing_else() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__CONCURRENCY", "20")
        .with("POSTRIDER_WORKER__PER_HOOK", "20")
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "8s")
        .with("POSTRIDER_WORKER__LEASE", "13s");
    let events = app.enqueue_all(&vec![event("invoice.paid"); 120]).await;
    let killed = postrider.serve().await;
    receiver.wait_for(20).await;
    let other = postrider.serve().await;
    receiver.wait_for(40).await;
    killed.kill().await;
    eventually(async || match receiver.cut().len() {
        20 => Ok(()),
        cut => Err(format!("{cut} of 20 requests are known to be cut")),
    })
    .await;
    receiver.release();

    receiver.wait_for_events(&names(&events)).await;
    other.wait_for_log("Brought back").await;
    app.wait_until_nothing_is_left().await;
    let twice = receiver
        .arrivals()
        .into_iter()
        .filter(|(_, count)| *count > 1);
    let twice: BTreeSet<_> = twice.collect();
    let cut = receiver.cut().into_iter().map(|event| (event, 2)).collect();
    assert_eq!(twice, cut, "what was cut came twice, everything else once");
}

#[tokio::test]
async fn on_postgres_a_settlement_under_a_lost_lease_changes_nothing_and_is_said() {
    let app = TestApp::on(Backend::Postgres).await;
    // The frozen worker is refused; the one that takes over is not.
    let receiver = Receiver::answering([500, 200].map(Answer::from)).await;
    receiver.hold();
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
        .with("POSTRIDER_WORKER__LEASE", "7s");
    let frozen = postrider.serve().await;
    receiver.wait_for(1).await;
    frozen.freeze().await;
    receiver.release();
    let other = postrider.serve().await;
    receiver.wait_for_answers(2).await;
    app.wait_until_nothing_is_left().await;
    frozen.thaw().await;
    frozen
        .wait_for_log("lost before their attempts could be recorded")
        .await;

    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Delivered
    );
    let shown = app.shown(hook).await;
    assert_eq!((shown.fail_count, shown.last_error), (0, None));
    let attempts = app.attempts(event, hook).await;
    let late: Vec<_> = attempts.iter().map(|attempt| attempt.late).collect();
    assert_eq!(late, [true, false], "{attempts:?}");
    assert_eq!(attempts[1].status, Some(200));
    assert_eq!(receiver.count(), 2);
    let (_, metrics) = frozen.get("/metrics").await;
    let late = value_of(&metrics, "postrider_settlements_late_total");
    assert_eq!(late, 1.0);
    drop(other);
}

#[tokio::test]
async fn on_postgres_a_server_that_crashes_again_and_again_loses_no_event() {
    let server = Server::start().await;
    let postrider = Postrider::with_url(server.url())
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
        .with("POSTRIDER_WORKER__LEASE", "7s");
    postrider.json(&["migrate"]).await;
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let worker = postrider.serve().await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..4 {
        let before = receiver.count();
        for _ in 0..10 {
            acknowledged.extend(insert(&server, 20).await);
        }
        receiver.wait_for(before + 20 * (round + 1)).await;
        server.crash().await;
    }
    receiver.wait_for_events(&acknowledged).await;
    assert_eq!(acknowledged.len(), 800);
    drop(worker);
}

async fn a_worker_killed_again_and_again_loses_no_event(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s")
        .with("POSTRIDER_WORKER__LEASE", "6s")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", "100ms,100ms,100ms,100ms");
    let mut moments = Moments(2_026);
    let mut events = Vec::new();
    for _ in 0..6 {
        let worker = postrider.serve().await;
        let before = receiver.count();
        for _ in 0..4 {
            events.extend(app.enqueue_all(&vec![event("invoice.paid"); 40]).await);
        }
        receiver.wait_for(before + moments.below(160)).await;
        worker.kill().await;
    }
    let _last = postrider.serve().await;
    receiver.wait_for_events(&names(&events)).await;
    app.wait_until_nothing_is_left().await;
    assert_eq!(receiver.arrivals().len(), events.len());
}

async fn a_delivery_that_was_lost_with_three_workers_waits_by_its_schedule(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    for lost in 1..=3 {
        // A tick that is dropped while its request is in flight is a worker that dies.
        let dies = receiver.wait_for(lost);
        tokio::select! {
            () = app.tick() => panic!("the request was not held"),
            () = dies => {}
        }
        app.advance(61);
    }
    receiver.release();
    app.tick().await;
    assert_eq!(receiver.count(), 3);
    let attempts = app.attempts(event, hook).await;
    let outcomes: Vec<_> = attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["worker_lost"]);
    assert_eq!(app.shown(hook).await.fail_count, 0, "it is not the hook's");

    app.advance(longest_wait(1));
    app.tick().await;
    assert_eq!(receiver.count(), 4);
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Delivered
    );
}

fn names(events: &[EventId]) -> BTreeSet<String> {
    events.iter().map(ToString::to_string).collect()
}

/// Numbers that look random and are the same in every run.
struct Moments(u64);

impl Moments {
    fn below(&mut self, end: usize) -> usize {
        // A step of a linear congruential generator (Knuth's MMIX); its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % end
    }
}

/// Inserts events as an application does that tries again until it is told of the commit;
/// returns the ids of those it was told of.
async fn insert(server: &Server, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    eventually(async || {
        let insert = format!(
            "INSERT INTO postrider_outbox (event_type, payload) \
             SELECT 'invoice.paid', '{{}}' FROM generate_series(1, {count}) RETURNING id"
        );
        let told = ended(&mut psql(server.url(), &[&insert])).await;
        ids = told.stdout.lines().map(str::to_owned).collect();
        match told.status.success() {
            true => Ok(()),
            false => Err(told.stderr),
        }
    })
    .await;
    ids
}
