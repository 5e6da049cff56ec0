//! Partitions go and come whatever people, other sessions and crashes do to them (PostgreSQL).
//!
//! The partitions of a test begin with 2026-03-02.

use postrider_core::{DeliveryId, HookId};
use postrider_store::{DeliveryState, HookChange, Pruned, Retention};
use postrider_tests::{Connection, TestStore, conformance, event, eventually};
use std::time::Duration;

const DAY: u64 = 24 * 3600;
const KEPT: u64 = 30;

#[conformance(postgres)]
async fn many_days_wait_for_a_long_reader_and_keep_nothing_else_waiting(t: &TestStore) {
    let hook = t.hook("work").await;
    days_of_work(t, hook, 5).await;
    let mut keyed = event("work");
    keyed.dedup_key = Some("once".into());
    t.insert(&[keyed]).await;
    t.fan_out_without_room().await;
    t.advance((KEPT + 1) * DAY);
    let mut reader = reader_of(t, "postrider_events").await;
    for turn in 0..3 {
        t.store.upkeep(t.now(), 100).await.unwrap();
        let pruned = prune(t, KEPT).await;
        let reason = pruned.waiting.unwrap_or_default();
        assert!(reason.contains("open for long"), "{reason}");
        assert!(pruned.days.is_empty());
        // Keys go, days to come are made, and deliveries run.
        assert_eq!(pruned.forgotten, u64::from(turn == 0));
        work(t, hook).await;
        t.advance(3_600);
    }
    reader.run("COMMIT").await;
    let pruned = prune(t, KEPT).await;
    assert_eq!((pruned.days.len(), pruned.waiting), (6, None));
    work(t, hook).await;
}

#[conformance(postgres)]
async fn a_retention_made_shorter_takes_many_days_under_load(t: &TestStore) {
    let hook = t.hook("work").await;
    let held = t.hook("held").await;
    let change = HookChange::Pause;
    let changed = t.store.change_hook(held, change, "test", t.now()).await;
    changed.unwrap();
    days_of_work(t, hook, 20).await;
    let waiting = t.insert_many("held", 3).await;
    t.fan_out().await;
    days_of_work(t, hook, 10).await;
    assert_eq!(prune(t, KEPT).await, Pruned::default());

    let (store, now) = (t.another().await, t.now());
    let pruning = tokio::spawn(async move {
        let mut all = Pruned::default();
        while all.days.len() < 29 {
            let done = store.prune(&keep(1), now, 2).await.unwrap();
            all.days.extend(done.days);
            all.expired += done.expired;
        }
        all
    });
    let mut delivered = 0;
    while !pruning.is_finished() || delivered < 50 {
        work(t, hook).await;
        delivered += 1;
    }
    let pruned = pruning.await.unwrap();
    assert_eq!((pruned.days.len(), pruned.expired), (29, 3));
    for event in waiting {
        let report = t.delivery(DeliveryId::of(event, held)).await;
        assert_eq!(report.state, DeliveryState::Expired);
    }
    let mut sql = t.sql().await;
    let left = "SELECT count(*) FROM postrider_events WHERE day >= '2026-03-31'";
    let all = "SELECT count(*) FROM postrider_events";
    assert_eq!(sql.number(all).await, sql.number(left).await);
}

#[conformance(postgres)]
async fn a_partition_made_by_hand_is_left_alone_and_in_nobodys_way(t: &TestStore) {
    let hook = t.hook("work").await;
    work(t, hook).await;
    // Named like a day and holding a week, in which upkeep would make days of its own.
    let mut sql = t.sql().await;
    for table in ["events", "attempts", "ended"] {
        sql.run(format!(
            "CREATE TABLE postrider_{table}_20260306 PARTITION OF postrider_{table} \
                 FOR VALUES FROM ('2026-03-06') TO ('2026-03-13'); \
             CREATE TABLE old_{table} PARTITION OF postrider_{table} \
                 FOR VALUES FROM (MINVALUE) TO ('2026-03-02')"
        ))
        .await;
    }
    for day in 1..12 {
        t.advance(DAY);
        t.store.upkeep(t.now(), 100).await.unwrap();
        work(t, hook).await;
        let found = t.store.diagnostics(t.now()).await.unwrap();
        assert_eq!(
            (found.missing_partitions, found.foreign_partitions.len()),
            (vec![], 6),
            "{day}"
        );
    }
    t.advance((KEPT + 1) * DAY);
    t.store.upkeep(t.now(), 100).await.unwrap();
    let pruned = prune(t, KEPT).await;
    let days: Vec<_> = pruned.days.iter().map(ToString::to_string).collect();
    let ours = ["02", "03", "04", "05", "13"].map(|day| format!("2026-03-{day}"));
    assert_eq!(days, ours);
    let week = "SELECT count(*) FROM postrider_events_20260306";
    assert_eq!(sql.number(week).await, 7);
    work(t, hook).await;
}

#[conformance(postgres)]
async fn a_table_named_like_a_partition_is_in_nobodys_way(t: &TestStore) {
    let hook = t.hook("work").await;
    work(t, hook).await;
    let mut sql = t.sql().await;
    sql.run(
        "CREATE TABLE postrider_events_20261399 (note text); \
         CREATE TABLE postrider_events_20260230 (note text); \
         CREATE SCHEMA other; CREATE TABLE other.postrider_events_20260302 (note text); \
         COMMENT ON TABLE postrider_events_20261399 IS 'Postrider: past its retention, perhaps'",
    )
    .await;
    past(t).await;
    assert_eq!(prune(t, KEPT).await.days.len(), 1);
    let left = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE \
                'postrider_events_%' AND relname IN ('postrider_events_20261399', \
                'postrider_events_20260230', 'postrider_events_20260302')";
    assert_eq!(sql.number(left).await, 3);
}

#[conformance(postgres)]
async fn beside_a_default_partition_nothing_goes_and_the_rest_goes_on(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut keyed = event("work");
    keyed.dedup_key = Some("once".into());
    t.insert(&[keyed]).await;
    let started = t.fan_out().await.started;
    t.settle(&[t.accepted(&started[0])]).await;
    let mut sql = t.sql().await;
    sql.run("CREATE TABLE the_rest PARTITION OF postrider_events DEFAULT")
        .await;
    past(t).await;
    let pruned = prune(t, KEPT).await;
    let reason = pruned.waiting.unwrap_or_default();
    assert!(reason.contains("default partition"), "{reason}");
    assert!(reason.contains("the_rest"), "{reason}");
    assert_eq!((pruned.days.len(), pruned.forgotten), (0, 1));
    work(t, hook).await;
    let found = t.store.diagnostics(t.now()).await.unwrap();
    assert_eq!(found.foreign_partitions, ["public.the_rest"]);
    sql.run("DROP TABLE the_rest").await;
    assert_eq!(prune(t, KEPT).await.days.len(), 1);
}

#[conformance(postgres)]
async fn a_detaching_that_was_interrupted_is_finished(t: &TestStore) {
    let hook = t.hook("work").await;
    days_of_work(t, hook, 3).await;
    past(t).await;
    // Ours died while it waited for the reader; a person's was given up before that.
    let mut reader = reader_of(t, "postrider_events").await;
    let mut sql = t.sql().await;
    interrupted(
        &mut sql,
        "ALTER TABLE postrider_events \
             DETACH PARTITION postrider_events_20260303 CONCURRENTLY",
    )
    .await;
    assert!(prune(t, KEPT).await.waiting.is_some());
    work(t, hook).await;
    reader.run("COMMIT").await;
    // The person's is theirs; what is past goes once nothing else is being detached.
    let pruned = prune(t, KEPT).await;
    let days: Vec<_> = pruned.days.iter().map(ToString::to_string).collect();
    assert_eq!(days, ["2026-03-02", "2026-03-04", "2026-03-05"]);
    assert_eq!(pruned.waiting, None);
    let kept = "SELECT count(*) FROM postrider_events_20260303";
    assert_eq!(sql.number(kept).await, 1);

    // One that died with its server process, while it waited, is finished as well.
    days_of_work(t, hook, 2).await;
    past(t).await;
    let mut reader = reader_of(t, "postrider_events").await;
    let (store, now) = (t.another().await, t.now());
    let pruning = tokio::spawn(async move { store.prune(&keep(KEPT), now, 100).await });
    let waiting = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'ALTER TABLE%CONCURRENTLY' \
                     AND wait_event_type = 'Lock'";
    eventually(async || match sql.number(waiting).await {
        // It gives up by itself after a second: then that is what the next one finds.
        0 if !pruning.is_finished() => Err("it does not wait yet".into()),
        _ => Ok(()),
    })
    .await;
    pruning.await.unwrap().ok();
    work(t, hook).await;
    reader.run("COMMIT").await;
    assert!(prune(t, KEPT).await.days.len() > 1);
    let leaving = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(sql.number(leaving).await, 0);
}

#[conformance(postgres)]
async fn one_that_was_to_go_and_is_kept_may_be_detached_by_a_person(t: &TestStore) {
    let hook = t.hook("work").await;
    days_of_work(t, hook, 2).await;
    let mut sql = t.sql().await;
    // A process marked it and died before it detached it; then events were kept for longer.
    sql.run("COMMENT ON TABLE postrider_events_20260302 IS 'Postrider: past its retention'")
        .await;
    assert_eq!(prune(t, KEPT).await, Pruned::default());
    sql.run("ALTER TABLE postrider_events DETACH PARTITION postrider_events_20260302")
        .await;
    past(t).await;
    let pruned = prune(t, KEPT).await;
    assert_eq!(pruned.days.len(), 2, "{pruned:?}");
    let kept = "SELECT count(*) FROM postrider_events_20260302";
    assert_eq!(sql.number(kept).await, 1);
}

#[conformance(postgres)]
async fn attempts_of_a_day_that_a_person_detached_go(t: &TestStore) {
    let hook = t.hook("work").await;
    work(t, hook).await;
    let mut sql = t.sql().await;
    sql.run("ALTER TABLE postrider_events DETACH PARTITION postrider_events_20260302")
        .await;
    past(t).await;
    prune(t, KEPT).await;
    let attempts = "SELECT count(*) FROM pg_class WHERE relname = 'postrider_attempts_20260302'";
    assert_eq!(sql.number(attempts).await, 0);
}

#[conformance(postgres)]
async fn what_a_view_needs_keeps_nothing_else(t: &TestStore) {
    let hook = t.hook("work").await;
    days_of_work(t, hook, 2).await;
    let mut sql = t.sql().await;
    sql.run("CREATE VIEW first AS SELECT id FROM postrider_events_20260302")
        .await;
    past(t).await;
    let pruned = prune(t, KEPT).await;
    let reason = pruned.waiting.unwrap_or_default();
    assert!(reason.contains("made by hand"), "{reason}");
    assert_eq!(pruned.days.len(), 2);
    sql.run("DROP VIEW first").await;
    let pruned = prune(t, KEPT).await;
    assert_eq!((pruned.days.len(), pruned.waiting), (1, None));
}

#[conformance(postgres)]
async fn neither_time_zone_nor_style_of_dates_of_the_database_matters(t: &TestStore) {
    let mut sql = t.sql().await;
    // Clocks go forward there on 2026-03-08.
    sql.run(
        "DO $$ BEGIN \
             EXECUTE format('ALTER DATABASE %I SET TimeZone = ''America/New_York''', \
                            current_database()); \
             EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', \
                            current_database()); \
         END $$",
    )
    .await;
    let store = t.another().await;
    let hook = t.hook("work").await;
    let mut days = Vec::new();
    for _ in 0..10 {
        store.upkeep(t.now(), 100).await.unwrap();
        work(t, hook).await;
        days.push(t.now().date_naive());
        t.advance(DAY);
    }
    t.advance((KEPT - 10) * DAY + 14 * 3600 - 1);
    store.upkeep(t.now(), 100).await.unwrap();
    let found = store.diagnostics(t.now()).await.unwrap();
    assert_eq!(
        (found.missing_partitions, found.foreign_partitions),
        (vec![], vec![])
    );
    let prune = async || store.prune(&keep(KEPT), t.now(), 100).await.unwrap().days;
    assert!(prune().await.is_empty());
    for day in days {
        t.advance(1);
        assert_eq!(prune().await, [day]);
        assert!(prune().await.is_empty());
        t.advance(DAY - 1);
    }
}

fn keep(days: u64) -> Retention {
    let kept = Duration::from_secs(days * DAY);
    Retention {
        events: kept,
        attempts: kept,
    }
}

async fn prune(t: &TestStore, days: u64) -> Pruned {
    t.store.prune(&keep(days), t.now(), 1_000).await.unwrap()
}

/// A delivery that arrives.
async fn work(t: &TestStore, hook: HookId) {
    let started = t.started(hook, 1).await;
    assert_eq!(t.settle(&[t.accepted(&started[0])]).await.settled, 1);
}

/// Days with a delivery each; the clock then shows the next.
async fn days_of_work(t: &TestStore, hook: HookId, days: u64) {
    for _ in 0..days {
        t.store.upkeep(t.now(), 100).await.unwrap();
        work(t, hook).await;
        t.advance(DAY);
    }
    t.store.upkeep(t.now(), 100).await.unwrap();
}

/// Moves the clock until today's events are past. Each day is looked, and everything kept.
async fn past(t: &TestStore) {
    let keep = Retention {
        events: Duration::MAX,
        attempts: Duration::MAX,
    };
    for _ in 0..=KEPT {
        t.advance(DAY);
        t.store.prune(&keep, t.now(), 100).await.unwrap();
    }
    t.store.upkeep(t.now(), 100).await.unwrap();
}

/// A transaction that has read a table and stays open.
async fn reader_of(t: &TestStore, table: &str) -> Connection {
    let mut reader = t.sql().await;
    reader
        .run(format!("BEGIN; SELECT count(*) FROM {table}"))
        .await;
    reader
}

/// Runs a statement that waits for a reader, and gives it up.
async fn interrupted(sql: &mut Connection, statement: &str) {
    sql.run("SET lock_timeout = '100ms'").await;
    let given_up = sql.attempt(statement).await.unwrap_err();
    assert!(given_up.contains("lock timeout"), "{given_up}");
}
