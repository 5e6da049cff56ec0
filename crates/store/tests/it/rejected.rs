//! A row that cannot be accepted never stops the others.

use crate::support::ids_of;
use chrono::TimeDelta;
use postrider_core::{EventId, NewEvent};
use postrider_store::{Backend, Error, EventFilter, EventState, FanOutResult};
use postrider_tests::{TestStore, conformance, event};

/// The event type that a refusing database refuses.
const CURSED: &str = "cursed";

#[conformance]
async fn a_bad_row_among_a_thousand_is_rejected_alone(t: &TestStore) {
    let mut headers = event("work");
    headers.headers = Some(r#"{"a b":"c"}"#.into());
    let bad = [
        (event("postrider.x"), "postrider."),
        (event("with space"), "white space"),
        (event("work").ordering_key("k".repeat(600)), "ordering key"),
        (
            event("work").dedup_key("k".repeat(600)),
            "deduplication key",
        ),
        (event("work").account("k".repeat(600)), "account"),
        (headers, "headers"),
    ];
    t.hook("*").await;
    for (bad, told) in bad {
        let (rejected, done) = one_among_999(t, bad).await;
        all_but_one_started(&done);
        assert_rejected(t, rejected, told).await;
    }
}

#[conformance]
async fn a_row_the_database_refuses_to_keep_is_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    let condition = format!("NEW.event_type = '{CURSED}'");
    t.refuse("postrider_events", &condition).await;
    let (rejected, done) = one_among_999(t, event(CURSED)).await;
    all_but_one_started(&done);
    assert_rejected(t, rejected, "refused").await;
}

#[conformance]
async fn several_rows_the_database_refuses_are_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    let condition = format!("NEW.event_type = '{CURSED}'");
    t.refuse("postrider_events", &condition).await;
    let types = [CURSED, "a", CURSED, "b", "c", CURSED, CURSED];
    let ids = t.insert(&types.map(event)).await;
    let mut all = t.fan_out().await;
    while all.more {
        let done = t.fan_out().await;
        all.rejected += done.rejected;
        all.started.extend(done.started);
        all.more = done.more;
    }
    assert_eq!(all.rejected, 4);
    assert_eq!(ids_of(&all.started), [ids[1], ids[3], ids[4]]);
}

#[conformance]
async fn an_id_used_before_is_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    let [a, b, c] = [t.next_id(), t.next_id(), t.next_id()];
    t.insert_as(&[a, b, a], &["a", "b", "a"].map(event)).await;
    let mut rejected = 0;
    let mut seen = Vec::new();
    for _ in 0..2 {
        loop {
            let done = t.fan_out().await;
            rejected += done.rejected;
            seen.extend(ids_of(&done.started));
            if !done.more {
                break;
            }
        }
        if seen.len() == 2 {
            t.insert_as(&[b, c], &["d", "d"].map(event)).await;
        }
    }
    assert_eq!((seen, rejected), (vec![a, b, c], 2));
    assert_eq!(t.store.rejected(10).await.unwrap().len(), 2);
    let kept = t.store.event(b).await.unwrap();
    assert_eq!(kept.event_type, "b", "the first event of an id is kept");
}

#[conformance]
async fn a_refused_event_leaves_no_delivery_behind(t: &TestStore) {
    t.hook("*").await;
    t.refuse("postrider_events", "NEW.event_type = 'cursed'")
        .await;
    t.insert(&[event(CURSED)]).await;
    assert_eq!(t.fan_out().await.rejected, 1);
    let mut sql = t.sql().await;
    let left = sql
        .number(
            "SELECT (SELECT count(*) FROM postrider_outbox) \
                  + (SELECT count(*) FROM postrider_deliveries)
                  + (SELECT count(*) FROM postrider_leases)",
        )
        .await;
    assert_eq!(left, 0);
}

#[conformance]
async fn a_rejected_row_uses_up_no_deduplication_key(t: &TestStore) {
    t.hook("*").await;
    t.refuse("postrider_events", "NEW.event_type = 'cursed'")
        .await;
    t.insert(&[event(CURSED).dedup_key("k")]).await;
    assert_eq!(t.fan_out().await.rejected, 1);
    t.insert(&[event("a").dedup_key("k")]).await;
    assert_eq!(t.fan_out().await.events, 1);
}

#[conformance]
async fn a_rejected_event_keeps_the_time_it_occurred_at(t: &TestStore) {
    let before = t.now() - TimeDelta::days(1);
    let untold = event("postrider.x");
    let told = event("postrider.x").occurred_at(before);
    let ids = t.insert(&[untold, told]).await;
    let queued = t.store.event(ids[0]).await.unwrap();
    assert!(queued.occurred_at.is_some(), "the time of the insert");
    assert_eq!(t.fan_out().await.rejected, 2);
    for (id, expected) in [(ids[0], queued.occurred_at), (ids[1], Some(before))] {
        let report = t.store.event(id).await.unwrap();
        assert_eq!(report.state, EventState::Rejected);
        assert_eq!(report.occurred_at, expected);
    }
}

#[conformance]
async fn what_was_rejected_is_kept_as_it_was(t: &TestStore) {
    let bad = NewEvent::from_json("postrider.x", "{\"b\": 1.0, \"b\":2}".into())
        .unwrap()
        .account("acme")
        .dedup_key("k");
    let id = t.insert(&[bad]).await[0];
    assert_eq!(t.fan_out().await.rejected, 1);
    let report = t.store.event(id).await.unwrap();
    assert_eq!(report.state, EventState::Rejected);
    assert_eq!(report.account, "acme");
    assert_eq!(report.event_type, "postrider.x");
    assert_eq!(report.payload.unwrap().get(), "{\"b\": 1.0, \"b\":2}");
    assert_eq!(report.fanned_out_at, None);
}

#[conformance]
async fn rejected_rows_are_listed_newest_first(t: &TestStore) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(t.insert(&[event("postrider.x")]).await);
        t.fan_out().await;
        t.advance(1);
    }
    let listed = t.store.rejected(2).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|report| report.id).collect();
    assert_eq!(listed, [ids[2], ids[1]]);
}

#[conformance]
async fn a_time_beyond_the_calendar_is_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    // What each database lets through, of what no other program knows.
    let times: &[&str] = match t.backend() {
        Backend::Postgres => &[
            "infinity",
            "-infinity",
            "294276-01-01",
            "10000-01-01 00:00:00Z",
            "4713-01-01 BC",
        ],
        Backend::Sqlite => &["0000-12-31", "2026-02-31", "2026-03-02T24:00:00"],
    };
    for column in ["occurred_at", "deliver_after", "created_at"] {
        for time in times {
            an_odd_row_is_rejected_alone(t, column, &format!("'{time}'")).await;
        }
    }
    for row in t.store.rejected(100).await.unwrap() {
        let names = |column| row.reason.contains(column);
        let named = ["occurred_at", "deliver_after", "created_at"].map(names);
        assert!(named.contains(&true), "{}", row.reason);
    }
}

#[conformance]
async fn malformed_headers_are_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    for headers in [
        "null",
        "1",
        "\"a\"",
        "[]",
        r#"{"a":1}"#,
        r#"{"a":null}"#,
        r#"{"":"a"}"#,
        r#"{"a":"\n"}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud800"}"#,
    ] {
        an_odd_row_is_rejected_alone(t, "headers", &format!("'{headers}'")).await;
    }
}

#[conformance]
async fn a_rejected_id_is_rejected_again_beside_itself(t: &TestStore) {
    t.hook("*").await;
    let [id, good] = [t.next_id(), t.next_id()];
    for _ in 0..2 {
        let bad = ["postrider.a", "postrider.b"].map(event);
        t.insert_as(&[id, id], &bad).await;
        t.insert(&[event("a")]).await;
        let done = t.fan_out().await;
        assert_eq!((done.events, done.rejected), (1, 2));
    }
    t.insert_as(&[good], &[event("a")]).await;
    assert_eq!(t.fan_out().await.events, 1);
    let rejected = t.store.rejected(10).await.unwrap();
    assert_eq!(rejected.len(), 4, "each is kept");
    assert_eq!(rejected.iter().filter(|row| row.id == id).count(), 1);
}

#[conformance(sqlite)]
async fn what_is_not_text_is_rejected_alone(t: &TestStore) {
    t.hook("*").await;
    // Text to SQLite, but not UTF-8; and text with a NUL in it.
    for column in ["account", "event_type", "ordering_key", "dedup_key"] {
        for value in ["CAST(x'61ff' AS TEXT)", "'a' || char(0) || 'b'"] {
            an_odd_row_is_rejected_alone(t, column, value).await;
        }
    }
    an_odd_row_is_rejected_alone(t, "payload", "CAST(x'22ff22' AS TEXT)").await;
}

#[conformance(postgres)]
async fn a_missing_partition_is_our_own_fault(t: &TestStore) {
    let id = t.insert(&[event("a")]).await[0];
    t.advance(40 * 24 * 3600);
    let error = t.store.fan_out(t.request()).await.unwrap_err();
    assert!(matches!(error, Error::Schema(_)), "{error:?}");
    assert!(t.store.rejected(1).await.unwrap().is_empty());
    let report = t.store.event(id).await.unwrap();
    assert_eq!(report.state, EventState::Queued, "nothing is lost");
}

/// Fans out three rows; in the second one column has a value that only raw SQL can write.
async fn an_odd_row_is_rejected_alone(t: &TestStore, column: &str, value: &str) {
    let ids = [t.next_id(), t.next_id(), t.next_id()];
    let mut sql = t.sql().await;
    for (place, id) in ids.iter().enumerate() {
        let mut row = vec![("event_type", "'a'"), ("payload", "'1'")];
        if place == 1 {
            row.retain(|(name, _)| *name != column);
            row.push((column, value));
        }
        let (columns, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
        sql.run(format!(
            "INSERT INTO postrider_outbox (slot, id, {}) VALUES ({}, '{id}', {})",
            columns.join(", "),
            t.slot,
            values.join(", "),
        ))
        .await;
    }
    let everything = EventFilter {
        limit: 100,
        ..EventFilter::default()
    };
    let queued = t.store.events(everything.clone()).await;
    assert!(queued.is_ok(), "{column} {value}: {queued:?}");
    assert!(t.store.event(ids[1]).await.is_ok(), "{column} {value}");

    let done = t.fan_out().await;
    assert_eq!((done.events, done.rejected), (2, 1), "{column} {value}");
    assert_eq!(ids_of(&done.started), [ids[0], ids[2]]);
    let rejected = t.store.rejected(100).await.unwrap();
    assert!(rejected.iter().any(|row| row.id == ids[1]));
    let report = t.store.event(ids[1]).await.unwrap();
    assert_eq!(report.state, EventState::Rejected, "{column} {value}");
    t.store.events(everything).await.unwrap();
}

/// Fans out 999 good rows and, in the middle of them, this one.
async fn one_among_999(t: &TestStore, bad: NewEvent) -> (EventId, FanOutResult) {
    let mut events = vec![event("work"); 999];
    events.insert(611, bad);
    let ids = t.insert(&events).await;
    let mut all = FanOutResult::default();
    loop {
        let done = t.fan_out().await;
        all.rejected += done.rejected;
        all.events += done.events;
        all.started.extend(done.started);
        if !done.more {
            return (ids[611], all);
        }
    }
}

fn all_but_one_started(done: &FanOutResult) {
    assert_eq!((done.events, done.rejected), (999, 1));
    assert_eq!(done.started.len(), 999);
}

async fn assert_rejected(t: &TestStore, id: EventId, told: &str) {
    let rejected = t.store.rejected(1_000).await.unwrap();
    let Some(row) = rejected.iter().find(|row| row.id == id) else {
        panic!("{told}: not rejected");
    };
    assert!(row.reason.contains(told), "{}", row.reason);
    assert_eq!(row.rejected_at, t.now());
}

#[conformance]
async fn a_damaged_database_rejects_no_row(t: &TestStore) {
    t.hook("*").await;
    let ids = t.insert(&["a", "b"].map(event)).await;
    let mut sql = t.sql().await;
    sql.run("DELETE FROM postrider_meta").await;
    let error = t.store.fan_out(t.request()).await.unwrap_err();
    assert!(matches!(error, Error::Schema(_)), "{error:?}");
    assert!(t.store.rejected(10).await.unwrap().is_empty());
    for id in ids {
        assert_eq!(t.store.event(id).await.unwrap().state, EventState::Queued);
    }
}
