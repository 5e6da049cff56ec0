//! How much waits and how the database is: sampled by one, shown by all.

use postrider_core::{HookId, HookSettings, NewHook, Ordered};
use postrider_store::{Backend, GAUGES_COUNTED, GaugeSample, Gauges, HookChange, HookCounts};
use postrider_tests::{TestStore, conformance, event, new_hook};
use std::time::Duration;

#[conformance]
async fn an_empty_database_has_nothing_that_waits(t: &TestStore) {
    let told = gauges(t).await;
    let nothing = Gauges::default();
    assert_eq!((told.outbox, told.due), (nothing.outbox, nothing.due));
    assert_eq!((told.gated, told.held), (nothing.gated, nothing.held));
    assert_eq!((told.scheduled, told.leased), (0, 0));
    assert_eq!(told.hooks, HookCounts::default());
    assert!(told.database_bytes > 0);
}

#[conformance]
async fn what_waits_is_told_by_how_it_waits(t: &TestStore) {
    let (free, paused) = (t.hook("work").await, t.hook("held").await);
    let limited = t.register(limited("gated")).await.id;
    let now = t.now();
    let later = now + Duration::from_secs(3_600);
    let events = [
        ("work", None),
        ("work", None),
        ("work", Some(later)),
        ("gated", None),
        ("gated", Some(later)),
        ("held", None),
        ("held", Some(later)),
        ("held", None),
    ];
    let events = events.map(|(kind, after)| match after {
        Some(at) => event(kind).deliver_after(at),
        None => event(kind),
    });
    t.insert(&events).await;
    t.fan_out_without_room().await;
    change(t, paused, HookChange::Pause).await;
    t.advance(90);
    assert_eq!(t.store.lease(one_of(t, free)).await.unwrap().len(), 1);
    t.insert_many("work", 4).await;

    let told = gauges(t).await;
    assert_eq!(told.outbox.count, 4);
    assert_eq!((told.due.count, told.due.oldest_seconds), (1, 90.0));
    assert_eq!((told.gated.count, told.gated.oldest_seconds), (1, 90.0));
    assert_eq!((told.held.count, told.held.oldest_seconds), (3, 90.0));
    assert_eq!((told.scheduled, told.leased), (2, 1));

    // Deliveries that started with their fan-out have no rows of their own.
    t.fan_out().await;
    t.store.remove_hook(limited, "test", t.now()).await.unwrap();
    let told = next(t).await;
    assert_eq!((told.outbox.count, told.outbox.oldest_seconds), (0, 0.0));
    assert_eq!((told.leased, told.gated.count), (5, 0));
}

#[conformance]
async fn a_hook_with_any_limit_or_an_order_is_gated(t: &TestStore) {
    let none = HookSettings::default;
    for settings in [
        HookSettings {
            in_flight: Some(3),
            ..none()
        },
        HookSettings {
            rate: "20/s".parse().ok(),
            ..none()
        },
        HookSettings {
            ordered: Some(Ordered::Key),
            ..none()
        },
    ] {
        assert!(settings.is_limited());
        let hook = new_hook("default", &["work"]);
        t.register(NewHook { settings, ..hook }).await;
    }
    t.hook("work").await;
    t.insert_many("work", 1).await;
    t.fan_out_without_room().await;
    let told = gauges(t).await;
    assert_eq!((told.gated.count, told.due.count), (3, 1));
}

#[conformance]
async fn the_oldest_row_of_the_outbox_tells_its_age(t: &TestStore) {
    t.insert_many("work", 2).await;
    let old = match t.backend() {
        Backend::Postgres => "created_at = '2026-03-02 09:59:00Z'",
        Backend::Sqlite => "created_at = '2026-03-02T09:59:00.000Z'",
    };
    let first = "seq = (SELECT min(seq) FROM postrider_outbox)";
    let sql = format!("UPDATE postrider_outbox SET {old} WHERE {first}");
    t.sql().await.run(sql).await;
    let told = gauges(t).await;
    assert_eq!((told.outbox.count, told.outbox.oldest_seconds), (2, 60.0));
}

#[conformance]
async fn hooks_are_counted_as_they_stand(t: &TestStore) {
    let hook = t.hook("work").await;
    let others = [t.hook("a").await, t.hook("b").await, t.hook("c").await];
    change(t, others[0], HookChange::Pause).await;
    change(t, others[1], HookChange::Disable).await;
    t.store
        .remove_hook(others[2], "test", t.now())
        .await
        .unwrap();
    let started = t.started(hook, 5).await;
    let failed: Vec<_> = started.iter().map(|leased| t.refused(leased, 60)).collect();
    t.settle(&failed).await;
    let expected = HookCounts {
        active: 1,
        paused: 1,
        disabled: 1,
        backed_off: 1,
        ramping: 0,
    };
    assert_eq!(gauges(t).await.hooks, expected);
    t.advance(61);
    let told = next(t).await;
    assert_eq!((told.due.count, told.gated.count), (0, 5));
    let probe = t.lease(&[hook]).await.remove(0);
    t.settle(&[t.accepted(&probe)]).await;
    let hooks = next(t).await.hooks;
    assert_eq!((hooks.backed_off, hooks.ramping), (0, 1));
}

#[conformance]
async fn counts_end(t: &TestStore) {
    let hook = t.hook("work").await;
    for _ in 0..5 {
        t.waiting(hook, 1_000).await;
    }
    let multiply = match t.backend() {
        Backend::Postgres => {
            "INSERT INTO postrider_deliveries (slot, id, day, event_id, hook_id, event_seq, next_attempt_at)
             SELECT slot, gen_random_uuid(), day, event_id, hook_id, event_seq, next_attempt_at
             FROM postrider_deliveries, generate_series(1, 2)"
        }
        Backend::Sqlite => {
            "INSERT INTO postrider_deliveries (slot, id, day, event_id, hook_id, event_seq, next_attempt_at)
             SELECT slot, randomblob(16), day, event_id, hook_id, event_seq, next_attempt_at
             FROM postrider_deliveries, (VALUES (1), (2))"
        }
    };
    t.sql().await.run(multiply).await;
    t.advance(7);
    let told = gauges(t).await;
    assert_eq!(told.due.count, GAUGES_COUNTED);
    assert_eq!(told.due.oldest_seconds, 7.0);
    change(t, hook, HookChange::Pause).await;
    let told = next(t).await;
    assert_eq!((told.due.count, told.held.count), (0, GAUGES_COUNTED));
}

#[conformance]
async fn a_sample_serves_all_for_ten_seconds(t: &TestStore) {
    let other = t.another().await;
    let first = sampled(t).await;
    assert_eq!(first.at, t.now());
    t.insert_many("work", 1).await;
    t.advance(9);
    assert_eq!(sampled(t).await, first);
    assert_eq!(other.gauges(t.now()).await.unwrap(), Some(first));
    t.advance(1);
    let second = other.gauges(t.now()).await.unwrap().unwrap();
    assert_eq!((second.at, second.gauges.outbox.count), (t.now(), 1));
    assert_eq!(sampled(t).await, second);
}

#[conformance]
async fn while_one_takes_a_sample_others_are_given_the_one_before(t: &TestStore) {
    let due_at = |t: &TestStore, seconds| {
        let at = t.now() + Duration::from_secs(seconds);
        match t.backend() {
            Backend::Postgres => format!("'{}'", at.to_rfc3339()),
            Backend::Sqlite => at.timestamp_micros().to_string(),
        }
    };
    // Another process has begun the very first.
    let begun = format!(
        "INSERT INTO postrider_gauges (due_at) VALUES ({})",
        due_at(t, 60)
    );
    t.sql().await.run(begun).await;
    assert_eq!(t.store.gauges(t.now()).await.unwrap(), None);
    t.advance(60);
    let first = sampled(t).await;
    assert_eq!(first.at, t.now(), "whoever began it has vanished");

    t.advance(30);
    let begun = format!("UPDATE postrider_gauges SET due_at = {}", due_at(t, 60));
    t.sql().await.run(begun).await;
    t.advance(59);
    assert_eq!(sampled(t).await, first);
    t.advance(1);
    assert_eq!(sampled(t).await.at, t.now());
}

#[conformance]
async fn several_may_ask_at_once(t: &TestStore) {
    let second = t.another().await;
    for _ in 0..3 {
        let mut callers = Vec::new();
        for store in [t.store.clone(), second.clone(), t.store.clone()] {
            let now = t.now();
            callers.push(tokio::spawn(async move { store.gauges(now).await }));
        }
        let mut current = 0;
        for caller in callers {
            let told = caller.await.unwrap().unwrap();
            current += u32::from(told.is_some_and(|told| told.at == t.now()));
        }
        assert!(current > 0, "somebody took it");
        t.advance(11);
    }
}

#[conformance]
async fn a_sample_that_cannot_be_read_is_none(t: &TestStore) {
    sampled(t).await;
    let odd = "UPDATE postrider_gauges SET sample = '7'";
    t.sql().await.run(odd).await;
    assert_eq!(t.store.gauges(t.now()).await.unwrap(), None);
    assert_eq!(next(t).await.outbox.count, 0);
}

#[conformance]
async fn connections_are_told_by_their_pools(t: &TestStore) {
    t.store.now().await.unwrap();
    let pools = t.store.pools();
    assert!(!pools.is_empty());
    for pool in &pools {
        assert!(
            pool.max > 0 && pool.used + pool.idle <= pool.max,
            "{pool:?}"
        );
    }
    assert!(pools.iter().any(|pool| pool.used + pool.idle > 0));
}

#[conformance(postgres)]
async fn tables_and_their_dead_rows_are_told(t: &TestStore) {
    t.insert_many("work", 500).await;
    let mut sql = t.sql().await;
    sql.run("DELETE FROM postrider_outbox").await;
    sql.run("SELECT pg_stat_force_next_flush()").await;
    let told = gauges(t).await;
    let outbox = told.tables.iter().find(|t| t.table == "postrider_outbox");
    let outbox = outbox.expect("the outbox");
    assert_eq!(outbox.dead_rows, Some(500));
    assert!(outbox.bytes > 8_192, "{outbox:?}");
    let history = told.tables.iter().find(|t| t.table == "postrider_events");
    let history = history.expect("the events");
    assert_eq!(history.dead_rows, None);
    assert!(history.bytes > 0, "{history:?}");
}

#[conformance(postgres)]
async fn a_transaction_left_open_is_told(t: &TestStore) {
    let mut idle = t.sql().await;
    idle.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM postrider_meta")
        .await;
    t.insert_many("a", 1).await;
    t.insert_many("a", 1).await;
    let held = gauges(t).await.snapshot.expect("there is vacuum");
    assert!(held.seconds > 0.0 && held.transactions >= 2, "{held:?}");
    idle.run("ROLLBACK").await;
    let free = next(t).await.snapshot.expect("there is vacuum");
    assert!(free.transactions < held.transactions, "{free:?}");
}

#[conformance(postgres)]
async fn partitions_are_told(t: &TestStore) {
    t.advance(24 * 3_600);
    let told = gauges(t).await;
    let days: Vec<_> = told
        .partitions
        .iter()
        .map(|p| (p.table.as_str(), p.count, p.days_ahead))
        .collect();
    let expected = ["postrider_attempts", "postrider_ended", "postrider_events"];
    assert_eq!(days, expected.map(|table| (table, 4, 2)));
    assert_eq!(told.history_seconds, f64::from((24 + 10) * 3_600));
    t.store.upkeep(t.now(), 1).await.unwrap();
    let ahead = next(t).await.partitions[0].days_ahead;
    assert_eq!(ahead, 3);
}

/// The sample as of now; it must be time for one.
async fn gauges(t: &TestStore) -> Gauges {
    let sampled = sampled(t).await;
    assert_eq!(sampled.at, t.now(), "a sample was due");
    sampled.gauges
}

/// The next sample, when its time has come.
async fn next(t: &TestStore) -> Gauges {
    // Taking it may have cost half a second on a busy machine.
    t.advance(10 * 60);
    gauges(t).await
}

async fn sampled(t: &TestStore) -> GaugeSample {
    let told = t.store.gauges(t.now()).await.expect("sample");
    told.expect("a sample")
}

fn limited(pattern: &str) -> NewHook {
    NewHook {
        settings: HookSettings {
            in_flight: Some(1),
            ..HookSettings::default()
        },
        ..new_hook("default", &[pattern])
    }
}

fn one_of(t: &TestStore, hook: HookId) -> postrider_store::LeaseRequest {
    postrider_store::LeaseRequest {
        wanted: vec![(hook, 1)],
        ..t.lease_request(&[hook])
    }
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.expect("change the hook");
}
