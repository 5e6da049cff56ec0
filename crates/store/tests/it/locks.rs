//! The locks of statements do not grow with the retention (PostgreSQL, R10).
//!
//! All databases of a server share one table of locks, by default with 6,400 places, and a statement
//! holds a lock on every partition that its plan names, with its indexes. When the table is full,
//! the inserts of applications fail too.

use crate::support::{drained, patient, settle_failed};
use postrider_core::{DeliveryId, EventId, HookId, Timestamp};
use postrider_store::{
    BulkPage, DeliveryFilter, DeliveryState, EventFilter, LeaseRequest, Redelivery, Store,
};
use postrider_tests::{TestStore, conformance, eventually, start};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// The retention, in days.
const DAYS: i64 = 400;

/// The newest and the oldest day with rows.
const TODAY: &str = "20260302";
const FIRST_DAY: &str = "20250127";

/// What one session may hold: some eight days of each table.
const OF_A_SESSION: i64 = 120;

/// What four processes and six callers may hold together, of 6,400.
const OF_ALL: i64 = 1_000;

#[conformance(postgres)]
async fn locks_do_not_grow_with_the_retention(t: &TestStore) {
    make_days(t).await;
    let hook = t.hook("work").await;
    let old = failed_on(t, start() - Duration::from_secs(399 * 24 * 3600)).await;
    let new = failed_on(t, start()).await;
    looking(t, hook, &old, &new).await;
    sending_again(t, &new).await;
    delivering(t, hook).await;
    everything_at_once(t, hook).await;
}

/// What callers look at. Each call is stopped at a partition, when it holds what it holds by then: at
/// the first one that it reads, and at the last one.
async fn looking(t: &TestStore, hook: HookId, old: &[DeliveryId], new: &[DeliveryId]) {
    let failed = || DeliveryFilter {
        hook: Some(hook),
        state: Some(DeliveryState::Failed),
        limit: 250,
        ..DeliveryFilter::default()
    };
    let everything = || DeliveryFilter {
        limit: 250,
        ..DeliveryFilter::default()
    };
    let events = || EventFilter {
        limit: 250,
        ..EventFilter::default()
    };
    let unknown = DeliveryId(uuid::Uuid::from_u128(7));
    let store = &t.store;
    for day in [TODAY, FIRST_DAY] {
        let [of_events, of_attempts, of_ended] =
            ["events", "attempts", "ended"].map(|table| format!("postrider_{table}_{day}"));
        let one = if day == TODAY { new[0] } else { old[0] };
        let event = store.delivery(one).await.unwrap().event_id;
        few(t, "failed ones", &of_ended, store.deliveries(failed()))
            .await
            .unwrap();
        few(t, "all", &of_attempts, store.deliveries(everything()))
            .await
            .unwrap();
        few(t, "their events", &of_events, store.deliveries(failed()))
            .await
            .unwrap();
        few(t, "events", &of_events, store.events(events()))
            .await
            .unwrap();
        few(t, "an event", &of_events, store.event(event))
            .await
            .unwrap();
        few(
            t,
            "of an event",
            &of_events,
            store.deliveries(DeliveryFilter {
                event: Some(event),
                ..everything()
            }),
        )
        .await
        .unwrap();
        few(t, "a delivery", &of_ended, store.delivery(one))
            .await
            .unwrap();
        few(t, "its attempts", &of_attempts, store.attempts(one))
            .await
            .unwrap();
        few(t, "an unknown delivery", &of_ended, store.delivery(unknown))
            .await
            .unwrap_err();
        few(t, "erasing", &of_events, store.erase(&[event], t.now()))
            .await
            .unwrap();
    }
}

async fn sending_again(t: &TestStore, failed: &[DeliveryId]) {
    let store = &t.store;
    let [of_events, of_ended] =
        ["events", "ended"].map(|table| format!("postrider_{table}_{TODAY}"));
    few(
        t,
        "redelivering",
        &of_events,
        store.redeliver(failed[1], t.now()),
    )
    .await
    .unwrap();
    // All days before have none of this hook, and are walked over.
    let hook = t.hook("other").await;
    t.insert_many("other", 3).await;
    let started = t.fan_out().await.started;
    settle_failed(t, &started).await;
    let which = Redelivery {
        hook,
        state: DeliveryState::Failed,
        since: None,
        until: None,
        event_type: None,
    };
    let page = BulkPage::first(250);
    let again = store.redeliver_many(&which, page, t.now());
    let done = few(t, "redelivering many", &of_ended, again).await.unwrap();
    assert_eq!(
        (done.count, done.next.is_some()),
        (3, true),
        "days to come are left"
    );
}

/// The hot path: a lease, a member given back, one recovered, a late attempt.
async fn delivering(t: &TestStore, hook: HookId) {
    let store = &t.store;
    let today = format!("postrider_events_{TODAY}");
    few(t, "leasing", &today, store.lease(t.lease_request(&[hook])))
        .await
        .unwrap();
    let started = t.started(hook, 3).await;
    let lease = started[0].lease;
    let ids = [started[0].first().id];
    few(
        t,
        "releasing",
        &today,
        store.release(t.slot, lease.token, &ids, t.now()),
    )
    .await
    .unwrap();
    t.outlive_leases();
    let schedule = postrider_core::RetrySchedule::default();
    few(
        t,
        "recovering",
        &today,
        store.recover(t.slot, t.now(), 10, &schedule),
    )
    .await
    .unwrap();
    let late = [t.accepted(&started[1])];
    few(t, "settling late", &today, store.settle(t.now(), &late))
        .await
        .unwrap();
}

/// Four processes deliver, while six callers list.
async fn everything_at_once(t: &TestStore, hook: HookId) {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(t.another().await);
    }
    let (done, most) = (AtomicBool::new(false), AtomicI64::new(0));
    let delivering = async |store: &Arc<dyn Store>| {
        for _ in 0..20 {
            deliver(t, store.as_ref(), hook).await;
        }
    };
    let listing = async |store: &Arc<dyn Store>, state: Option<DeliveryState>| {
        while !done.load(Ordering::Relaxed) {
            let filter = DeliveryFilter {
                state,
                limit: 250,
                ..DeliveryFilter::default()
            };
            let listed = store.deliveries(filter).await.unwrap();
            let id = listed
                .first()
                .map_or(DeliveryId(uuid::Uuid::nil()), |d| d.id);
            store.attempts(id).await.ok();
        }
    };
    let looking = async {
        let mut sql = t.sql().await;
        while !done.load(Ordering::Relaxed) {
            let held = sql.number(format!("SELECT count(*) {LOCKS}")).await;
            most.fetch_max(held, Ordering::Relaxed);
        }
    };
    let work = async {
        tokio::join!(
            delivering(&stores[0]),
            delivering(&stores[1]),
            delivering(&stores[2]),
            delivering(&stores[3]),
        );
        done.store(true, Ordering::Relaxed);
    };
    let [failed, delivered] = [DeliveryState::Failed, DeliveryState::Delivered].map(Some);
    tokio::join!(
        work,
        looking,
        listing(&stores[0], failed),
        listing(&stores[0], delivered),
        listing(&stores[1], None),
        listing(&stores[1], failed),
        listing(&stores[2], None),
        listing(&stores[3], failed),
    );
    let most = most.into_inner();
    eprintln!("four processes and six callers held {most} locks at most");
    assert!(most <= OF_ALL, "{most} locks");
}

/// The locks of other sessions of this database.
const LOCKS: &str = "FROM pg_locks WHERE pid <> pg_backend_pid() AND database =
    (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Events are fanned out, refused, leased again and accepted.
async fn deliver(t: &TestStore, store: &dyn Store, hook: HookId) {
    t.insert_many("work", 5).await;
    let started = store.fan_out(t.request()).await.unwrap().started;
    let refused = started.iter().map(|leased| patient(t.refused(leased, 0)));
    let refused: Vec<_> = refused.collect();
    store.settle(t.now(), &refused).await.unwrap();
    let request = LeaseRequest {
        wanted: vec![(hook, 5)],
        ..t.lease_request(&[])
    };
    let leased = store.lease(request).await.unwrap();
    let accepted: Vec<_> = leased.iter().map(|leased| t.accepted(leased)).collect();
    store.settle(t.now(), &accepted).await.unwrap();
}

/// Asserts that a call holds few locks when it comes to a partition, which another session has
/// locked. Returns its result.
async fn few<T: Debug>(
    t: &TestStore,
    what: &str,
    partition: &str,
    call: impl Future<Output = postrider_store::Result<T>>,
) -> postrider_store::Result<T> {
    let mut other = t.sql().await;
    other
        .run(format!(
            "BEGIN; LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE"
        ))
        .await;
    let waiting = format!("FROM pg_locks WHERE NOT granted AND relation = '{partition}'::regclass");
    let looking = async {
        let mut sql = t.sql().await;
        eventually(
            async || match sql.number(format!("SELECT count(*) {waiting}")).await {
                0 => Err(format!("{what}: nothing waits for {partition}")),
                _ => Ok(()),
            },
        )
        .await;
        let of_it = format!("pid = (SELECT pid {waiting} LIMIT 1)");
        let held = sql
            .number(format!("SELECT count(*) {LOCKS} AND {of_it}"))
            .await;
        other.run("COMMIT").await;
        held
    };
    let (result, held) = tokio::join!(call, looking);
    eprintln!("{what}: {held} locks at {partition}");
    assert!(held <= OF_A_SESSION, "{what}: {held} locks at {partition}");
    result
}

/// Makes the partitions of the days before, some at a time: making them takes locks too.
async fn make_days(t: &TestStore) {
    let mut sql = t.sql().await;
    for ago in (1..DAYS).step_by(20) {
        sql.run(format!(
            "DO $$ DECLARE day date; name text; part text; BEGIN
             FOR day IN SELECT date '{TODAY}' - n FROM generate_series({ago}, {}) AS n LOOP
                 FOREACH name IN ARRAY ARRAY['events', 'attempts', 'ended'] LOOP
                     part := format('postrider_%s_%s', name, to_char(day, 'YYYYMMDD'));
                     EXECUTE format('CREATE TABLE %I (LIKE postrider_%s INCLUDING ALL)', part, name);
                     EXECUTE format('ALTER TABLE postrider_%s ATTACH PARTITION %I \
                                     FOR VALUES FROM (%L) TO (%L)', name, part, day, day + 1);
                 END LOOP;
             END LOOP; END $$",
            (ago + 19).min(DAYS - 1)
        ))
        .await;
    }
    let first = format!("SELECT to_regclass('postrider_ended_{FIRST_DAY}')");
    assert_eq!(
        sql.text(first).await,
        format!("postrider_ended_{FIRST_DAY}")
    );
}

/// Deliveries of two events of this time that have failed.
async fn failed_on(t: &TestStore, at: Timestamp) -> Vec<DeliveryId> {
    let now = t.now();
    t.clock.set(at);
    let ids = [EventId::draw(at), EventId::draw(at)];
    t.insert_as(
        &ids,
        &[
            postrider_tests::event("work"),
            postrider_tests::event("work"),
        ],
    )
    .await;
    let started = drained(t).await.started;
    settle_failed(t, &started).await;
    t.clock.set(now);
    started.iter().map(|leased| leased.first().id).collect()
}
