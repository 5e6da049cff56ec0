//! A filled database of an earlier release is migrated, and everything in it goes on.
//!
//! `tests/data/0.1.0` holds such a database as `pg_dump --inserts` and sqlite3's `.dump` wrote it:
//! deliveries in every state, of hooks of every kind, and the outbox with what may stand in it. Its
//! secrets are sealed with the key of the tests. It is never made anew.

use crate::support::drained;
use postrider_core::{EventId, HookId, RetrySchedule, TokenHash};
use postrider_store::{
    Backend, DeliveryFilter, DeliveryReport, DeliveryState, EventFilter, HistoryFilter, HookChange,
    HookFilter, HookReport, HookRequest, MIGRATIONS, SchemaState,
};
use postrider_tests::{TestDatabase, TestStore, on_both, start};
use std::collections::BTreeMap;
use std::time::Duration;

on_both!(everything_in_a_database_of_0_1_0_goes_on_after_migrating);

async fn everything_in_a_database_of_0_1_0_goes_on_after_migrating(backend: Backend) {
    let t = filled(backend).await;
    assert_eq!(
        t.store.schema().await.unwrap(),
        SchemaState::Behind { applied: 1 }
    );
    let migrated = t.store.migrate(None, t.now()).await.unwrap();
    let newer: Vec<_> = MIGRATIONS[1..]
        .iter()
        .map(|migration| migration.name)
        .collect();
    assert_eq!(migrated.applied, newer);
    assert_eq!(
        t.store.schema().await.unwrap(),
        SchemaState::Current { slots: 1 }
    );

    // All of it can be seen.
    let hooks = hooks(&t).await;
    let statuses = hooks.iter().map(|hook| hook.status.as_str());
    assert_eq!(
        counted(statuses),
        [("active", 5), ("disabled", 2), ("paused", 1)]
    );
    assert_eq!(
        counted(
            deliveries(&t)
                .await
                .iter()
                .map(|delivery| delivery.state.name())
        ),
        [
            ("cancelled", 1),
            ("delivered", 1),
            ("failed", 3),
            ("held", 5),
            ("in_flight", 6),
            ("pending", 14)
        ]
    );
    let events = EventFilter {
        limit: 1_000,
        ..EventFilter::default()
    };
    assert_eq!(t.store.events(events).await.unwrap().len(), 36);
    assert_eq!(t.store.rejected(10).await.unwrap().len(), 1);
    assert!(
        t.store
            .find_key(TokenHash([7; 32]))
            .await
            .unwrap()
            .is_some()
    );
    for hook in &hooks {
        let history = HistoryFilter {
            limit: 10,
            ..HistoryFilter::default()
        };
        let history = t.store.hook_history(hook.id, history).await.unwrap();
        assert_eq!(history.last().unwrap().action, "created");
    }

    // All of it is delivered: what is held when its hook is enabled, what failed when it is sent
    // again, and the rest by itself.
    for hook in hooks.iter().filter(|hook| hook.status != "active") {
        let enabled = t
            .store
            .change_hook(hook.id, HookChange::Enable, "test", t.now())
            .await;
        enabled.unwrap();
    }
    for failed in deliveries(&t)
        .await
        .iter()
        .filter(|d| d.state == DeliveryState::Failed)
    {
        t.store.redeliver(failed.id, t.now()).await.unwrap();
    }
    let sent = all_sent(&t, &hooks).await;
    assert_eq!(
        counted(
            deliveries(&t)
                .await
                .iter()
                .map(|delivery| delivery.state.name())
        ),
        [("cancelled", 2), ("delivered", 33)]
    );
    // In the order of their key, and to the target that was kept.
    let ordered = sent.iter().flat_map(HookRequest::events);
    let mut by_key: BTreeMap<&str, Vec<EventId>> = BTreeMap::new();
    for event in ordered {
        if let Some(key) = event.ordering_key.as_deref() {
            by_key.entry(key).or_default().push(event.id);
        }
    }
    assert_eq!(by_key.values().map(Vec::len).collect::<Vec<_>>(), [2, 3, 2]);
    assert!(
        by_key.values().all(|events| events.is_sorted()),
        "{by_key:?}"
    );
    let kept: Vec<_> = sent
        .iter()
        .filter_map(|request| request.target.as_ref())
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].url, "https://receiver.example/hook");
    // What was in a batch went together.
    assert!(sent.iter().any(|request| request.deliveries.count() == 3));
}

/// The database of 0.1.0, some seconds after its latest event.
async fn filled(backend: Backend) -> TestStore {
    let database = TestDatabase::empty(backend).await;
    let dump = match backend {
        Backend::Postgres => include_str!("../data/0.1.0/postgres.sql"),
        Backend::Sqlite => include_str!("../data/0.1.0/sqlite.sql"),
    };
    if let Some(file) = database.url().strip_prefix("sqlite://") {
        std::fs::write(file, "").expect("make the file");
    }
    database.connect().await.run(dump).await;
    let t = TestStore::in_database(database).await;
    t.clock.set(start() + Duration::from_secs(10));
    t
}

/// Sends what is due until nothing is left, as workers do, and returns it in the order of sending.
async fn all_sent(t: &TestStore, hooks: &[HookReport]) -> Vec<HookRequest> {
    let ids: Vec<HookId> = hooks.iter().map(|hook| hook.id).collect();
    let mut sent = Vec::new();
    let mut sql = t.sql().await;
    for _ in 0..60 {
        t.advance(120);
        let mut requests = drained(t).await.started;
        let schedule = RetrySchedule::default();
        t.store
            .recover(t.slot, t.now(), 100, &schedule)
            .await
            .unwrap();
        t.store.upkeep(t.now(), 100).await.unwrap();
        requests.extend(t.lease(&ids).await);
        let settled: Vec<_> = requests.iter().map(|request| t.accepted(request)).collect();
        t.settle(&settled).await;
        sent.extend(requests);
        let left = "SELECT (SELECT count(*) FROM postrider_outbox) + \
                    (SELECT count(*) FROM postrider_deliveries) + \
                    (SELECT count(*) FROM postrider_leases)";
        if sql.number(left).await == 0 {
            return sent;
        }
    }
    panic!("something is left");
}

async fn hooks(t: &TestStore) -> Vec<HookReport> {
    let all = HookFilter {
        limit: 100,
        ..HookFilter::default()
    };
    t.store.hooks(all).await.unwrap()
}

async fn deliveries(t: &TestStore) -> Vec<DeliveryReport> {
    let all = DeliveryFilter {
        limit: 1_000,
        ..DeliveryFilter::default()
    };
    t.store.deliveries(all).await.unwrap()
}

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}
