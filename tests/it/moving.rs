//! A move takes everything from one database to another, whatever dies on the way.

use postrider_core::{KeyRing, NewEvent};
use postrider_store::{Backend, HookChange};
use postrider_tests::{
    Connection, KEY, Postrider, Process, Receiver, Registrant, TestApp, TestDatabase, event,
    eventually, hook_to, slots,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many events are moved where processes die; 20,000 unless this says otherwise.
const EVENTS: &str = "POSTRIDER_TEST_MOVED";

/// Rows between two lines of progress.
const TOLD_EVERY: usize = 5_000;

const TABLES: [&str; 6] = [
    "postrider_hooks",
    "postrider_events",
    "postrider_deliveries",
    "postrider_attempts",
    "postrider_ended",
    "postrider_dedup",
];

#[tokio::test]
async fn a_move_that_is_killed_twice_loses_and_repeats_nothing() {
    let total = std::env::var(EVENTS).map_or(20_000, |text| text.parse().expect("a number"));
    let app = TestApp::on(Backend::Sqlite).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let mut other = hook_to(&receiver.url());
    other.events = vec!["held.*".parse().expect("a pattern")];
    other.account = "other".into();
    let held = app.register(other).await.id;
    let paused = app
        .store
        .change_hook(held, HookChange::Pause, "test", app.now());
    paused.await.expect("pause the hook");

    // Some are delivered, some held, some wait for their time, and some are in the outbox.
    let delivered = insert(&app, &event("invoice.paid"), total / 10).await;
    app.tick().await;
    assert_eq!(receiver.count(), delivered.len());
    let mut of_other = event("held.here");
    of_other.account = "other".into();
    let held = insert(&app, &of_other, total * 6 / 10).await;
    let mut later = event("invoice.due");
    later.deliver_after = Some(app.now() + Duration::from_secs(3_600));
    let waiting = insert(&app, &later, total / 5).await;
    app.tick().await;
    assert_eq!(receiver.count(), delivered.len());
    let queued = insert(&app, &event("invoice.sent"), total / 10).await;

    let target = TestDatabase::empty(Backend::Postgres).await;
    let new_key = KeyRing::generate_key();
    let moving = Postrider::on(&app.database)
        .with("POSTRIDER_SECRETS__KEY", &new_key)
        .with("POSTRIDER_SECRETS__PREVIOUS_KEYS", KEY);
    let arguments = ["move", "--json", "--to", target.url()];
    // In the middle of either table.
    let halfway = [
        (told(total * 2 / 5), "deliveries"),
        (told(total / 2), "events"),
    ];
    for (rows, table) in halfway {
        let killed = moving.start(&arguments);
        reach(&killed, &format!("{rows} rows of postrider_{table}")).await;
        killed.kill().await;
        let half = Postrider::on(&target).run(&["serve"]).await.refused();
        assert!(half.contains("has begun and is not finished"), "{half}");
    }
    let mut last = moving.start(&arguments);
    reach(
        &last,
        &format!("{} rows of postrider_events", told(total * 9 / 10)),
    )
    .await;
    let moved = last.wait_for_lines(1).await.remove(0);
    let moved: serde_json::Value = serde_json::from_str(&moved).expect("JSON");
    assert_eq!(moved["tables"].as_array().map(Vec::is_empty), Some(false));
    assert!(last.ended().await.success(), "{last}");

    let (mut source, mut here) = (app.sql().await, target.connect().await);
    for table in TABLES {
        assert_eq!(
            rows(&mut here, table).await,
            rows(&mut source, table).await,
            "{table}"
        );
    }
    assert_eq!(
        rows(&mut here, "postrider_outbox").await,
        queued.len() as i64
    );
    assert_eq!(rows(&mut here, "postrider_moves").await, 0);

    // Nothing is done or taken any more where it was.
    let refused = Postrider::on(&app.database).run(&["serve"]).await.refused();
    assert!(
        refused.contains("has moved to the PostgreSQL database"),
        "{refused}"
    );
    let insert = "INSERT INTO postrider_outbox (event_type, payload) VALUES ('a', '{}')";
    let refused = source.attempt(insert).await.unwrap_err();
    assert!(refused.contains("everything has moved"), "{refused}");

    let _worker = Postrider::on(&target)
        .with("POSTRIDER_SECRETS__KEY", &new_key)
        .serve()
        .await;
    let sent: BTreeSet<_> = delivered.into_iter().chain(waiting).chain(queued).collect();
    for count in (0..sent.len()).step_by(1_000) {
        receiver.wait_for(count).await;
    }
    receiver.wait_for_events(&sent).await;
    let arrivals = receiver.arrivals();
    assert_eq!(arrivals.len(), sent.len(), "nothing that is held was sent");
    assert!(arrivals.values().all(|times| *times == 1), "each came once");
    let left = "SELECT count(*) FROM postrider_deliveries AS d \
                JOIN postrider_hooks AS h ON h.id = d.hook_id WHERE h.status = 'paused'";
    assert_eq!(here.number(left).await, held.len() as i64);
}

#[tokio::test]
async fn what_is_shown_after_a_move_is_what_was_shown_before() {
    use Backend::{Postgres, Sqlite};
    for (from, to) in [
        (Postgres, Sqlite),
        (Sqlite, Postgres),
        (Postgres, Postgres),
        (Sqlite, Sqlite),
    ] {
        let app = TestApp::on(from).await;
        let receiver = Receiver::answering([200, 500]).await;
        let hook = app.hook(&receiver).await;
        let mut odd =
            NewEvent::from_json("invoice.paid", "{ \"a\" : [1.50, \"\\u00e9\"] }".to_owned())
                .expect("an event");
        odd.headers = Some(r#"{"x-one":"1"}"#.into());
        odd.dedup_key = Some("once".into());
        odd.ordering_key = Some("key".into());
        let events = app
            .enqueue_all(&[odd, event("invoice.sent"), event("invoice.due")])
            .await;
        app.tick().await;
        let paused = app
            .store
            .change_hook(hook, HookChange::Pause, "test", app.now());
        paused.await.expect("pause the hook");
        let source = Postrider::on(&app.database);
        let key = source.json(&["key", "create", "--scope", "publish"]).await;
        let before = shown(&source, &events[0].to_string()).await;

        let target = TestDatabase::empty(to).await;
        let there = Postrider::on(&target);
        if to == Postgres && slots(from) > 1 {
            // Both must have as many.
            let slots = slots(from).to_string();
            there.run(&["migrate", "--slots", &slots]).await.succeeded();
        }
        source.json(&["move", "--to", target.url()]).await;
        assert_eq!(
            shown(&there, &events[0].to_string()).await,
            before,
            "{from:?} to {to:?}"
        );
        // Secrets open, keys are known, and what comes now comes after what was there.
        there.run(&["check"]).await.succeeded();
        assert!(key["id"].is_string());
        let next = there
            .json(&["event", "send", "--type", "invoice.paid", "--payload", "{}"])
            .await;
        assert!(next["id"].is_string());
        let mut sql = target.connect().await;
        let behind = sql
            .number(
                "SELECT (SELECT min(seq) FROM postrider_outbox) \
                     - (SELECT max(seq) FROM postrider_events)",
            )
            .await;
        assert!(behind > 0, "{from:?} to {to:?}");
        let again = source.run(&["move", "--to", target.url()]).await.refused();
        assert!(again.contains("has moved"), "{again}");
    }
}

#[tokio::test]
async fn credentials_of_registrants_are_good_under_the_key_of_the_target() {
    use Backend::{Postgres, Sqlite};
    for (from, to) in [(Sqlite, Postgres), (Postgres, Sqlite)] {
        let source = TestDatabase::migrated(from).await;
        let before = Postrider::on(&source);
        let mut serving = before.serve().await;
        let mut registrants = Vec::new();
        for system in ["solapi", "thulium", "misskey"] {
            registrants.push(Registrant::of(&before, &serving, system, "one").await);
        }
        serving.terminate().await;
        assert!(serving.ended().await.success(), "{serving}");

        let target = TestDatabase::empty(to).await;
        let new_key = KeyRing::generate_key();
        if to == Postgres && slots(to) > 1 {
            let slots = slots(to).to_string();
            let there = Postrider::on(&target);
            there.run(&["migrate", "--slots", &slots]).await.succeeded();
        }
        before
            .with("POSTRIDER_SECRETS__KEY", &new_key)
            .with("POSTRIDER_SECRETS__PREVIOUS_KEYS", KEY)
            .json(&["move", "--to", target.url()])
            .await;
        // The old key is known to nobody any more.
        let after = Postrider::on(&target).with("POSTRIDER_SECRETS__KEY", &new_key);
        let serving = after.serve().await;
        for registrant in registrants {
            let (method, path) = match registrant.part("for") {
                "solapi" => ("GET", "/webhook/v1/outgoing"),
                "thulium" => ("GET", "/api/webhooks"),
                _ => ("POST", "/api/i/webhooks/list"),
            };
            let body = match method {
                "GET" => serde_json::Value::Null,
                _ => serde_json::json!({}),
            };
            let reply = registrant
                .at(&serving)
                .await
                .call(method, path, &body)
                .await;
            assert_eq!(reply.status, 200, "{from:?} to {to:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn nothing_moves_while_workers_work_or_into_a_database_in_use() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let app = TestApp::on(backend).await;
        let source = Postrider::on(&app.database);
        let target = TestDatabase::empty(Backend::Sqlite).await;
        let mut worker = source.serve().await;
        let refused = source.run(&["move", "--to", target.url()]).await.refused();
        assert!(refused.contains("stop"), "{refused}");
        worker.terminate().await;
        worker.ended().await;

        let used = TestApp::on(Backend::Sqlite).await;
        let receiver = Receiver::accepting().await;
        used.hook(&receiver).await;
        let to = used.database.url();
        let refused = source.run(&["move", "--to", to]).await.refused();
        assert!(refused.contains("move into an empty database"), "{refused}");
        let same = app.database.url();
        let refused = source.run(&["move", "--to", same]).await.refused();
        assert!(refused.contains("the same database"), "{refused}");
    }
}

/// What the listings show.
async fn shown(postrider: &Postrider, event: &str) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    for listing in [
        ["hook", "list"],
        ["event", "list"],
        ["delivery", "list"],
        ["key", "list"],
    ] {
        all.extend(postrider.listing(&listing).await);
    }
    all.push(postrider.json(&["event", "show", event]).await);
    let deliveries = postrider.listing(&["delivery", "list"]).await;
    for delivery in deliveries {
        let id = delivery["id"].as_str().expect("an id").to_owned();
        all.push(postrider.json(&["delivery", "show", &id]).await);
    }
    all
}

async fn insert(app: &TestApp, event: &NewEvent, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for start in (0..count).step_by(500) {
        let some = vec![event.clone(); (count - start).min(500)];
        ids.extend(app.enqueue_all(&some).await);
    }
    ids.iter().map(ToString::to_string).collect()
}

/// Waits until a move has said this; each line before it may take as long as any wait.
async fn reach(moving: &Process, line: &str) {
    loop {
        let said = moving.stderr();
        if said.iter().any(|said| said.contains(line)) {
            return;
        }
        eventually(async || match moving.stderr().len() > said.len() {
            true => Ok(()),
            false => Err(format!("no {line:?} from {moving}")),
        })
        .await;
    }
}

/// The nearest number of rows at which progress is told.
fn told(rows: usize) -> usize {
    rows / TOLD_EVERY * TOLD_EVERY
}

async fn rows(sql: &mut Connection, table: &str) -> i64 {
    sql.number(format!("SELECT count(*) FROM {table}")).await
}
