//! A problem in one place does not stop a worker elsewhere.

use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{
    Connection, LEASED, Postrider, Receiver, TestApp, event, eventually, hook_to, on_both,
};
use std::collections::BTreeSet;

on_both!(
    an_attempt_that_panics_costs_no_sender_and_no_place,
    what_is_queued_for_a_hook_is_given_back_when_the_hook_is_paused,
    what_is_queued_for_a_hook_is_given_back_when_the_hook_is_removed,
    a_hook_that_a_worker_cannot_send_to_keeps_it_busy_once,
    deliveries_of_a_removed_hook_are_cancelled_beside_the_work,
);

async fn an_attempt_that_panics_costs_no_sender_and_no_place(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    change(&app, hook, HookChange::Pause).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    // More headers than a request can hold, behind the back of everything that checks them.
    let headers: std::collections::BTreeMap<_, _> =
        (0..40_000).map(|n| (format!("x-{n}"), "y")).collect();
    let headers = serde_json::to_string(&headers).expect("JSON");
    let mut sql = app.sql().await;
    sql.run(format!("UPDATE postrider_events SET headers = '{headers}'"))
        .await;
    change(&app, hook, HookChange::Enable).await;

    let worker = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__CONCURRENCY", "1")
        .with("POSTRIDER_WORKER__PER_HOOK", "1")
        .serve()
        .await;
    worker.wait_for_log("a fault of Postrider").await;
    let good = app.enqueue("invoice.paid").await;
    receiver.wait_for_events(&[good.to_string()].into()).await;
}

async fn what_is_queued_for_a_hook_is_given_back_when_the_hook_is_paused(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let (_worker, mut sql) = one_sent_one_queued(&app, &receiver).await;
    change(&app, hook, HookChange::Pause).await;
    leases(&mut sql, 1).await;
    receiver.release();
    leases(&mut sql, 0).await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(app.count(hook, DeliveryState::Held).await, 4);
}

async fn what_is_queued_for_a_hook_is_given_back_when_the_hook_is_removed(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let (_worker, mut sql) = one_sent_one_queued(&app, &receiver).await;
    let removed = app.store.remove_hook(hook, "test", app.now()).await;
    removed.expect("remove the hook");
    leases(&mut sql, 1).await;
    receiver.release();
    leases(&mut sql, 0).await;
    assert_eq!(receiver.count(), 1);
}

async fn a_hook_that_a_worker_cannot_send_to_keeps_it_busy_once(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let mut of_a_newer_release = hook_to(&receiver.url());
    of_a_newer_release.profile = "carrier-pigeon".into();
    let hook = app.register(of_a_newer_release).await.id;
    app.enqueue("invoice.paid").await;
    assert_eq!(app.worker.tick().await.expect("a look for work"), 1);
    for _ in 0..3 {
        assert_eq!(app.worker.tick().await.expect("a look for work"), 0);
    }
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 1);
}

async fn deliveries_of_a_removed_hook_are_cancelled_beside_the_work(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let doomed = app.hook(&receiver).await;
    change(&app, doomed, HookChange::Pause).await;
    for _ in 0..12 {
        app.enqueue_all(&vec![event("invoice.paid"); 500]).await;
    }
    app.tick().await;
    let removed = app.store.remove_hook(doomed, "test", app.now()).await;
    removed.expect("remove the hook");
    app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;

    app.worker.tick().await.expect("a look for work");
    assert_eq!((receiver.count(), app.left().await), (1, 1_000));
    app.worker.tick().await.expect("a look for work");
    assert_eq!(app.left().await, 0);
}

#[tokio::test]
async fn on_postgres_a_worker_that_ends_amid_a_commit_keeps_no_lease() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    app.hook(&receiver).await;
    let mut sql = app.sql().await;
    // Fan-out stands in its commit for as long as this connection has the lock.
    sql.run(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$",
    )
    .await;
    sql.run(
        "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON postrider_leases \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()",
    )
    .await;
    sql.run("SELECT pg_advisory_lock(7)").await;
    let mut worker = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__PER_HOOK", "1")
        .serve()
        .await;
    app.enqueue("invoice.paid").await;
    let waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database \
                   WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted";
    eventually(async || match sql.number(waiting).await {
        0 => Err("nobody waits for the lock".into()),
        _ => Ok(()),
    })
    .await;
    worker.terminate().await;
    worker.wait_for_log("Draining").await;
    sql.run("SELECT pg_advisory_unlock(7)").await;
    receiver.release();
    assert!(worker.ended().await.success(), "{worker}");
    assert_eq!(sql.number(LEASED).await, 0, "{worker}");
}

#[tokio::test]
async fn on_postgres_a_fan_out_that_fails_keeps_no_retry_waiting() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::answering([503, 200]).await;
    app.hook(&receiver).await;
    let again = app.enqueue("invoice.paid").await;
    app.tick().await;
    let mut sql = app.sql().await;
    // Neither the data's fault nor the connection's: it fails each time.
    sql.run(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '57014'; END $$",
    )
    .await;
    sql.run(
        "CREATE TRIGGER fail BEFORE INSERT ON postrider_events \
         FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    .await;
    app.enqueue("invoice.paid").await;
    app.advance(3_600);
    let looked = app.worker.tick().await;
    assert!(looked.is_err(), "the failure is told");
    let _worker = Postrider::on(&app.database).serve().await;
    receiver.wait_for(2).await;
    assert_eq!(receiver.arrivals(), [(again.to_string(), 2)].into());
}

/// An administrator, or a pooler, ends every session of the workers, again and again (R38).
#[tokio::test]
async fn on_postgres_sessions_that_are_ended_lose_no_event() {
    const ROUNDS: usize = 5;
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let worker = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "2s")
        .with("POSTRIDER_WORKER__LEASE", "7s")
        .serve()
        .await;
    // The partitions of the day are made once a delivery has arrived.
    app.insert_many("invoice.paid", 1).await;
    receiver.wait_for(1).await;
    let mut sql = app.sql().await;
    let mut events = BTreeSet::new();
    for _ in 0..ROUNDS {
        for _ in 0..2 {
            let ids = app.insert_many("invoice.paid", 10).await;
            events.extend(ids.iter().map(ToString::to_string));
        }
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name = 'postrider'";
        assert!(sql.number(end).await >= 1);
        receiver.wait_for_events(&events).await;
    }
    app.wait_until_nothing_is_left().await;
    let came = receiver.arrivals();
    assert!(came.values().all(|times| *times <= 1 + ROUNDS), "{came:?}");
    eventually(async || match worker.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// A worker that sends one delivery of five to a receiver that keeps it waiting, and has leased
/// one more.
async fn one_sent_one_queued(
    app: &TestApp,
    receiver: &Receiver,
) -> (postrider_tests::Process, Connection) {
    receiver.hold();
    let worker = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__PER_HOOK", "1")
        .serve()
        .await;
    app.enqueue_all(&vec![event("invoice.paid"); 5]).await;
    receiver.wait_for(1).await;
    let mut sql = app.sql().await;
    leases(&mut sql, 2).await;
    (worker, sql)
}

async fn leases(sql: &mut Connection, expected: i64) {
    eventually(async || match sql.number(LEASED).await {
        leased if leased == expected => Ok(()),
        leased => Err(format!("{leased} leases instead of {expected}")),
    })
    .await;
}

async fn change(app: &TestApp, hook: postrider_core::HookId, change: HookChange) {
    let changed = app.store.change_hook(hook, change, "test", app.now()).await;
    changed.expect("change the hook");
}
