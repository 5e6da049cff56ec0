//! What is past its retention goes, and nothing of it is lost in silence.

use postrider_core::{DeliveryId, EventId, HookId, NewEvent};
use postrider_store::{
    Backend, DeliveryFilter, DeliveryState, Error, EventFilter, HookChange, Pruned, Retention, Step,
};
use postrider_tests::{TestStore, conformance, event, eventually};
use std::time::Duration;

const DAY: u64 = 24 * 3600;
const KEPT: u64 = 30;

#[conformance]
async fn a_day_goes_when_its_last_moment_is_past(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    t.settle(&[t.accepted(&started[0])]).await;
    let first = t.now().date_naive();
    // From ten in the morning to the last second of the thirtieth day after.
    t.advance(KEPT * DAY + 14 * 3600 - 1);
    assert_eq!(prune(t).await, Pruned::default());
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::Delivered
    );
    t.advance(1);
    assert_eq!(prune(t).await.days, [first]);
    gone(t, started[0].event.id).await;
    let unknown = t.store.delivery(started[0].id).await;
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
    assert_eq!(prune(t).await, Pruned::default());
}

#[conformance]
async fn of_sixty_days_those_that_are_past_go(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut days = Vec::new();
    for _ in 0..60 {
        upkeep(t).await;
        let started = t.started(hook, 2).await;
        t.settle(&[t.accepted(&started[0]), t.accepted(&started[1])])
            .await;
        days.push(t.now().date_naive());
        t.advance(DAY);
    }
    assert_eq!(prune(t).await.days, days[..30]);
    let filter = EventFilter {
        limit: 1_000,
        ..EventFilter::default()
    };
    let left = t.store.events(filter).await.unwrap();
    assert_eq!(left.len(), 2 * 30);
    let filter = DeliveryFilter {
        state: Some(DeliveryState::Delivered),
        limit: 1_000,
        ..DeliveryFilter::default()
    };
    assert_eq!(t.store.deliveries(filter).await.unwrap().len(), 2 * 30);
    let mut sql = t.sql().await;
    let attempts = sql.number("SELECT count(*) FROM postrider_attempts").await;
    assert_eq!(attempts, 2 * 30);
}

#[conformance]
async fn what_had_not_ended_is_ended_as_expired(t: &TestStore) {
    let (held, retried, delayed) = (
        t.hook("held").await,
        t.hook("work").await,
        t.hook("late").await,
    );
    change(t, held, HookChange::Pause).await;
    let started = t.started(retried, 1).await;
    t.settle(&[t.refused(&started[0], 40 * DAY)]).await;
    let mut late = event("late");
    late.deliver_after = Some(t.now() + Duration::from_secs(29 * DAY));
    let waiting = [insert(t, event("held")).await, insert(t, late).await];
    t.fan_out().await;
    let ids = [
        DeliveryId::of(waiting[0], held),
        DeliveryId::of(waiting[1], delayed),
        started[0].id,
    ];
    past(t).await;
    // Some of the next days stay as they are.
    let kept = t.waiting(retried, 2).await;
    let pruned = prune(t).await;
    assert_eq!((pruned.expired, pruned.days.len()), (3, 1));
    for id in ids {
        let report = t.delivery(id).await;
        assert_eq!(report.state, DeliveryState::Expired);
        assert_eq!(report.reason.as_deref(), Some("expired"));
        assert_eq!(report.next_attempt_at, None);
        let refused = t.store.redeliver(id, t.now()).await;
        let text = refused.map(|_| ()).unwrap_err().to_string();
        assert!(text.contains("nothing left to send"), "{text}");
    }
    assert_eq!(t.delivery(ids[2]).await.attempts, 1);
    let filter = DeliveryFilter {
        state: Some(DeliveryState::Expired),
        limit: 10,
        ..DeliveryFilter::default()
    };
    assert_eq!(t.store.deliveries(filter).await.unwrap().len(), 3);
    for id in kept {
        assert_eq!(t.delivery(id).await.state, DeliveryState::Pending);
    }
}

#[conformance]
async fn many_are_ended_in_batches(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 25).await;
    past(t).await;
    let kept = t.waiting(hook, 25).await;
    let pruned = t.store.prune(&keep(), t.now(), 7).await.unwrap();
    assert_eq!((pruned.expired, pruned.days.len()), (25, 1));
    for id in ids {
        assert_eq!(t.delivery(id).await.state, DeliveryState::Expired);
    }
    for id in kept {
        assert_eq!(t.delivery(id).await.state, DeliveryState::Pending);
    }
}

#[conformance]
async fn one_in_flight_keeps_its_event(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 1).await;
    past(t).await;
    let leased = t.lease(&[hook]).await;
    assert_eq!(leased.len(), 1);
    let pruned = prune(t).await;
    let reason = pruned.waiting.clone().unwrap_or_default();
    assert!(reason.contains("1 deliveries"), "{reason}");
    assert!(pruned.days.is_empty());
    t.settle(&[t.settlement(
        &leased[0],
        postrider_tests::refusal(500),
        Step::Retry(t.now()),
    )])
    .await;
    assert_eq!(t.delivery(ids[0]).await.attempts, 1);
    let pruned = prune(t).await;
    assert_eq!((pruned.expired, pruned.waiting), (1, None));
    assert_eq!(t.delivery(ids[0]).await.state, DeliveryState::Expired);
}

#[conformance]
async fn one_that_started_with_its_fan_out_keeps_its_event(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    past(t).await;
    assert!(prune(t).await.waiting.is_some());
    assert_eq!(
        t.store.event(started[0].event.id).await.unwrap().id,
        started[0].event.id
    );
    t.settle(&[t.accepted(&started[0])]).await;
    assert_eq!(prune(t).await.days.len(), 1);
    gone(t, started[0].event.id).await;
}

#[conformance]
async fn what_expired_is_told_for_a_week_longer(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 1).await;
    past(t).await;
    assert_eq!(prune(t).await.expired, 1);
    live(t, 7).await;
    prune(t).await;
    assert_eq!(t.delivery(ids[0]).await.state, DeliveryState::Expired);
    t.advance(DAY);
    prune(t).await;
    let unknown = t.store.delivery(ids[0]).await;
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
    let mut sql = t.sql().await;
    assert_eq!(sql.number("SELECT count(*) FROM postrider_ended").await, 0);
}

#[conformance]
async fn attempts_may_go_before_their_events(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    let (one, other) = (&started[0], &started[1]);
    t.settle(&[t.accepted(one), t.refused(other, 5 * DAY)])
        .await;
    let keep = Retention {
        events: Duration::from_secs(KEPT * DAY),
        attempts: Duration::from_secs(7 * DAY),
    };
    t.advance(5 * DAY);
    upkeep(t).await;
    let again = t.lease(&[hook]).await;
    t.settle(&[t.refused(&again[0], 20 * DAY)]).await;
    // The attempts of a day go together, when the latest is past.
    live(t, 4).await;
    let pruned = t.store.prune(&keep, t.now(), 100).await.unwrap();
    assert_eq!(pruned, Pruned::default());
    assert_eq!(t.attempts(other.id).await.len(), 2);
    live(t, 4).await;
    // The server may be looking after the table at this moment: then it goes a little later.
    let mut gone = (0, 0);
    eventually(async || {
        let pruned = t.store.prune(&keep, t.now(), 100).await.unwrap();
        gone = (gone.0 + pruned.attempts.len(), gone.1 + pruned.days.len());
        pruned.waiting.map_or(Ok(()), Err)
    })
    .await;
    assert_eq!(gone, (1, 0));
    assert!(t.attempts(other.id).await.is_empty());
    assert_eq!(t.store.event(one.event.id).await.unwrap().id, one.event.id);
    // What is sent later still finds capacity for its attempt.
    t.advance(15 * DAY);
    let again = t.lease(&[hook]).await;
    t.settle(&[t.accepted(&again[0])]).await;
    let attempts = t.attempts(other.id).await;
    assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [3]);
}

#[conformance]
async fn keys_and_rejected_rows_go_with_the_events(t: &TestStore) {
    t.hook("work").await;
    let mut keyed = event("work");
    keyed.dedup_key = Some("once".into());
    insert(t, keyed.clone()).await;
    insert(t, event("postrider.ours")).await;
    assert_eq!(t.fan_out().await.events, 1);
    past(t).await;
    // Until they are pruned, keys are known.
    insert(t, keyed.clone()).await;
    assert_eq!(t.fan_out().await.duplicates, 1);
    assert_eq!(prune(t).await.forgotten, 2);
    assert!(t.store.rejected(10).await.unwrap().is_empty());
    insert(t, keyed).await;
    assert_eq!(t.fan_out().await.duplicates, 0);
}

#[conformance]
async fn a_jump_of_the_clock_by_a_day_takes_a_day(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut events = Vec::new();
    for _ in 0..4 {
        upkeep(t).await;
        let started = t.started(hook, 1).await;
        t.settle(&[t.accepted(&started[0])]).await;
        events.push(started[0].event.id);
        t.advance(DAY);
    }
    let first = t.now() - Duration::from_secs(4 * DAY);
    t.advance((KEPT - 3) * DAY);
    upkeep(t).await;
    assert_eq!(prune(t).await.days, [first.date_naive()]);
    let real = t.now();
    let ahead = real + Duration::from_secs(DAY);
    let pruned = t.store.prune(&keep(), ahead, 100).await.unwrap();
    assert_eq!(pruned.days.len(), 1);
    // Back again, and a day behind: nothing more goes, and the work goes on.
    for now in [real, real - Duration::from_secs(DAY)] {
        let pruned = t.store.prune(&keep(), now, 100).await.unwrap();
        assert_eq!(pruned, Pruned::default());
        t.store.upkeep(now, 100).await.unwrap();
    }
    assert_eq!(t.started(hook, 1).await.len(), 1);
    for (event, there) in events.into_iter().zip([false, false, true, true]) {
        assert_eq!(t.store.event(event).await.is_ok(), there);
    }
}

#[conformance]
async fn a_clock_that_jumps_by_a_year_takes_nothing_for_a_day(t: &TestStore) {
    let hook = t.hook("work").await;
    let held = t.hook("held").await;
    change(t, held, HookChange::Pause).await;
    let started = t.started(hook, 1).await;
    t.settle(&[t.accepted(&started[0])]).await;
    let waiting = insert(t, event("held")).await;
    let mut keyed = event("work");
    keyed.dedup_key = Some("once".into());
    insert(t, keyed.clone()).await;
    t.fan_out_without_room().await;
    assert_eq!(prune(t).await, Pruned::default());
    let (real, delivery) = (t.now(), DeliveryId::of(waiting, held));
    let year = Duration::from_secs(365 * DAY);
    for ahead in [0, 3_600, DAY - 1].map(Duration::from_secs) {
        let pruned = t.store.prune(&keep(), real + year + ahead, 100).await;
        let pruned = pruned.unwrap();
        let doubt = pruned.waiting.clone().unwrap_or_default();
        assert!(doubt.contains("clock has gone forward"), "{doubt}");
        let rest = Pruned {
            waiting: None,
            ..pruned
        };
        assert_eq!(rest, Pruned::default());
    }
    // Set right in time, nothing was lost.
    assert_eq!(prune(t).await, Pruned::default());
    assert_eq!(t.delivery(delivery).await.state, DeliveryState::Held);
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::Delivered
    );
    insert(t, keyed).await;
    assert_eq!(t.fan_out().await.duplicates, 1);

    // What stays so for a day is believed, as after a year in which no worker ran.
    t.clock.advance(year);
    upkeep(t).await;
    assert!(prune(t).await.waiting.is_some());
    live(t, 1).await;
    let pruned = prune(t).await;
    assert_eq!((pruned.expired, pruned.waiting), (2, None));
    assert_eq!(t.delivery(delivery).await.state, DeliveryState::Expired);
}

#[conformance]
async fn of_several_that_prune_at_once_one_does_the_work(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 40).await;
    past(t).await;
    let others = [t.another().await, t.another().await, t.another().await];
    let calls = others.iter().map(|store| {
        let (store, now) = (store.clone(), t.now());
        tokio::spawn(async move { store.prune(&keep(), now, 3).await.unwrap() })
    });
    let mut expired = 0;
    for call in calls.collect::<Vec<_>>() {
        expired += call.await.unwrap().expired;
    }
    assert_eq!(expired, 40);
    prune(t).await;
    let mut sql = t.sql().await;
    assert_eq!(sql.number("SELECT count(*) FROM postrider_events").await, 0);
}

#[conformance(postgres)]
async fn a_long_reader_delays_what_it_reads_and_nothing_else(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    t.settle(&[t.accepted(&started[0])]).await;
    past(t).await;
    let mut reader = t.sql().await;
    reader
        .run("BEGIN; SELECT count(*) FROM postrider_events")
        .await;
    for _ in 0..2 {
        let pruned = prune(t).await;
        assert!(pruned.days.is_empty());
        assert!(pruned.waiting.unwrap_or_default().contains("open for long"));
        // The traffic goes on while the reader is there.
        let started = t.started(hook, 3).await;
        let settled: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
        assert_eq!(t.settle(&settled).await.settled, 3);
        t.waiting(hook, 2).await;
        let leased = t.lease(&[hook]).await;
        let settled: Vec<_> = leased.iter().map(|leased| t.accepted(leased)).collect();
        assert_eq!(t.settle(&settled).await.settled, 2);
        upkeep(t).await;
    }
    reader.run("COMMIT").await;
    let pruned = prune(t).await;
    assert_eq!((pruned.days.len(), pruned.waiting), (1, None));
    assert_eq!(
        tables_of(t, "20260302").await,
        1,
        "what ended is kept for longer"
    );
}

#[conformance(postgres)]
async fn a_days_partitions_go_while_deliveries_run(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 50).await;
    past(t).await;
    let (store, now) = (t.another().await, t.now());
    let pruning = tokio::spawn(async move {
        let mut days = Vec::new();
        while days.is_empty() {
            days = store.prune(&keep(), now, 5).await.unwrap().days;
        }
    });
    let mut delivered = 0;
    while !pruning.is_finished() || delivered < 100 {
        let started = t.started(hook, 5).await;
        let settled: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
        assert_eq!(t.settle(&settled).await.settled, 5);
        delivered += 5;
    }
    pruning.await.unwrap();
    let filter = DeliveryFilter {
        state: Some(DeliveryState::Delivered),
        limit: 10_000,
        ..DeliveryFilter::default()
    };
    assert_eq!(t.store.deliveries(filter).await.unwrap().len(), delivered);
}

#[conformance(postgres)]
async fn what_a_process_that_died_had_begun_is_finished(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 2).await;
    past(t).await;
    // It had ended nothing yet, and died between detaching and dropping; a delivery was sent
    // again in between.
    let mut sql = t.sql().await;
    sql.run(
        "COMMENT ON TABLE postrider_events_20260302 IS 'Postrider: past its retention'; \
         ALTER TABLE postrider_events DETACH PARTITION postrider_events_20260302",
    )
    .await;
    assert!(t.lease(&[hook]).await.is_empty(), "its events are gone");
    let pruned = prune(t).await;
    assert_eq!((pruned.expired, pruned.days.len()), (2, 1));
    for id in ids {
        assert_eq!(t.delivery(id).await.state, DeliveryState::Expired);
    }
    assert_eq!(tables_of(t, "20260302").await, 1);
}

#[conformance(postgres)]
async fn a_partition_that_a_person_detached_is_left_alone(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    t.settle(&[t.accepted(&started[0])]).await;
    let mut sql = t.sql().await;
    sql.run("ALTER TABLE postrider_events DETACH PARTITION postrider_events_20260302")
        .await;
    past(t).await;
    assert!(prune(t).await.days.is_empty());
    let kept = sql
        .number("SELECT count(*) FROM postrider_events_20260302")
        .await;
    assert_eq!(kept, 1);
}

#[conformance(postgres)]
async fn a_late_attempt_of_a_day_that_is_gone_stops_no_other(t: &TestStore) {
    let hook = t.hook("work").await;
    let late = t.started(hook, 1).await;
    t.outlive_leases();
    t.store
        .recover(
            t.slot,
            t.now(),
            10,
            &postrider_core::RetrySchedule::default(),
        )
        .await
        .unwrap();
    past(t).await;
    assert_eq!(prune(t).await.expired, 1);
    let started = t.started(hook, 1).await;
    let settled = t
        .settle(&[t.accepted(&late[0]), t.accepted(&started[0])])
        .await;
    assert_eq!(settled.settled, 1);
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::Delivered
    );
}

fn keep() -> Retention {
    let kept = Duration::from_secs(KEPT * DAY);
    Retention {
        events: kept,
        attempts: kept,
    }
}

async fn prune(t: &TestStore) -> Pruned {
    t.store.prune(&keep(), t.now(), 1_000).await.unwrap()
}

/// Lets days pass in which is looked for what is past, but everything is kept.
async fn live(t: &TestStore, days: u64) {
    let keep = Retention {
        events: Duration::MAX,
        attempts: Duration::MAX,
    };
    t.store.prune(&keep, t.now(), 100).await.unwrap();
    for _ in 0..days {
        t.advance(DAY);
        t.store.prune(&keep, t.now(), 100).await.unwrap();
    }
}

async fn upkeep(t: &TestStore) {
    t.store.upkeep(t.now(), 100).await.unwrap();
}

/// Moves the clock until today's events are past.
async fn past(t: &TestStore) {
    t.advance((KEPT + 1) * DAY);
    upkeep(t).await;
}

async fn insert(t: &TestStore, event: NewEvent) -> EventId {
    t.insert(&[event]).await[0]
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap();
}

async fn gone(t: &TestStore, event: EventId) {
    let found = t.store.event(event).await;
    assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
}

/// How many tables of a day there are, whether they are partitions or not.
async fn tables_of(t: &TestStore, day: &str) -> i64 {
    assert_eq!(t.backend(), Backend::Postgres);
    let mut sql = t.sql().await;
    sql.number(format!(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'postrider%{day}'"
    ))
    .await
}
