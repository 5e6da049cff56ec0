//! Events in: what an application or the API writes, and what a worker sees of it at a glance.

use crate::support::{drained, ids_of};
use chrono::SubsecRound;
use postrider_core::{EventError, NewEvent, PAYLOAD_MAX_BYTES, RetrySchedule, slot_of};
use postrider_store::{Backend, Error, EventState, HookChange};
use postrider_tests::{TestStore, conformance, event, slots};
use std::time::Duration;

/// JSON that a database would like to tidy up.
const AWKWARD: &str = "{\"b\": 1.0,  \"a\":\"\\u0000\",\n\"b\":2,\"big\":1e999,\"half\":\"\\ud800\",\
                       \"ü\":\"€\\ud83d\\ude00'\\\"\"}";

#[conformance]
async fn ids_come_back_in_the_order_of_the_events(t: &TestStore) {
    let events: Vec<_> = (0..50).map(|n| event(&format!("type-{n}"))).collect();
    let ids = t.store.enqueue(&events).await.unwrap();
    assert_eq!(ids.len(), 50);
    for (id, event) in ids.iter().zip(&events) {
        let report = t.store.event(*id).await.unwrap();
        assert_eq!(report.event_type, event.event_type);
        assert_eq!(report.state, EventState::Queued);
    }
}

#[conformance]
async fn all_events_of_a_call_are_inserted_or_none(t: &TestStore) {
    t.refuse("postrider_outbox", "NEW.event_type = 'cursed'")
        .await;
    let error = t
        .store
        .enqueue(&[event("a"), event("b"), event("cursed"), event("c")])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    let words = match t.backend() {
        Backend::Postgres => {
            "the database refused the data: new row for relation \"postrider_outbox\" violates \
             check constraint \"refused\""
        }
        Backend::Sqlite => "the database refused the data: refused by a trigger",
    };
    assert_eq!(error.to_string(), words, "in the database's own words");
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance(postgres)]
async fn an_insert_that_fails_at_its_commit_is_told(t: &TestStore) {
    let mut sql = t.sql().await;
    sql.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'not at the end' USING ERRCODE = '23514', CONSTRAINT = 'late'; END $$",
    )
    .await;
    sql.run(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON postrider_outbox \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let error = t.store.enqueue(&[event("a")]).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance]
async fn a_broken_bound_is_refused_before_anything_is_written(t: &TestStore) {
    let large = NewEvent::new("large", &"x".repeat(PAYLOAD_MAX_BYTES)).unwrap();
    let mut malformed = event("headers");
    malformed.headers = Some("[]".into());
    let broken = [
        event("postrider.hook.disabled"),
        event("a b"),
        event("key").dedup_key("k".repeat(513)),
        event("account").account(""),
        large,
        malformed,
    ];
    for broken in broken {
        let error = t.store.enqueue(&[event("good"), broken]).await.unwrap_err();
        assert!(matches!(error, Error::Event(_)), "{error:?}");
    }
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance]
async fn a_payload_of_the_largest_size_is_kept(t: &TestStore) {
    let hook = t.hook("*").await;
    let text = "x".repeat(PAYLOAD_MAX_BYTES - 2);
    let largest = NewEvent::new("largest", &text).unwrap();
    t.store.enqueue(&[largest]).await.unwrap();
    let started = drained(t).await.started;
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].hook.id, hook);
    assert_eq!(started[0].event.payload.as_str().len(), PAYLOAD_MAX_BYTES);
}

#[conformance]
async fn a_payload_is_kept_byte_for_byte(t: &TestStore) {
    let hook = t.hook("*").await;
    let awkward = NewEvent::from_json("awkward", AWKWARD.into()).unwrap();
    let id = t.store.enqueue(&[awkward]).await.unwrap()[0];
    let payload = |report: postrider_store::EventReport| report.payload.unwrap().get().to_owned();
    assert_eq!(payload(t.store.event(id).await.unwrap()), AWKWARD);
    let started = drained(t).await.started;
    assert_eq!(started[0].event.payload.as_str(), AWKWARD, "at fan-out");
    assert_eq!(payload(t.store.event(id).await.unwrap()), AWKWARD);

    t.outlive_leases();
    let (slot, schedule) = (started[0].slot, RetrySchedule::default());
    t.store.recover(slot, t.now(), 10, &schedule).await.unwrap();
    let mut request = t.lease_request(&[hook]);
    request.slot = slot;
    let leased = t.store.lease(request).await.unwrap();
    assert_eq!(
        leased[0].event.payload.as_str(),
        AWKWARD,
        "at a later lease"
    );
}

#[conformance]
async fn any_json_is_a_payload(t: &TestStore) {
    t.hook("*").await;
    let payloads = ["null", "7", "\"x\"", "[]", "  { }\n\t"];
    let mut sql = t.sql().await;
    for payload in payloads {
        sql.run(format!(
            "INSERT INTO postrider_outbox (slot, event_type, payload) \
             VALUES ({}, 'a', '{payload}')",
            t.slot
        ))
        .await;
    }
    let started = drained(t).await.started;
    let seen: Vec<_> = started.iter().map(|l| l.event.payload.as_str()).collect();
    assert_eq!(seen, payloads);
}

#[conformance]
async fn every_field_of_an_event_is_kept(t: &TestStore) {
    t.hook_of("acme", "*").await;
    let happened = t.now() - Duration::from_micros(1_500_001);
    let mut full = event("full")
        .account("acme")
        .ordering_key("order 'ü'")
        .dedup_key("dedup \\ key")
        .occurred_at(happened)
        .deliver_after(t.now());
    full.headers = Some(r#"{"x-tenant":"7"}"#.into());
    let id = t.store.enqueue(&[full.clone()]).await.unwrap()[0];
    let queued = t.store.event(id).await.unwrap();
    assert_eq!(queued.occurred_at, Some(happened));
    assert_eq!(queued.dedup_key, full.dedup_key);

    let started = drained(t).await.started;
    let kept = &started[0].event;
    assert_eq!(kept.id, id);
    assert_eq!(kept.account, "acme");
    assert_eq!(kept.event_type, "full");
    assert_eq!(kept.ordering_key, full.ordering_key);
    assert_eq!(kept.headers, full.headers);
    assert_eq!(kept.occurred_at, happened.trunc_subsecs(6));
    let report = t.store.event(id).await.unwrap();
    assert_eq!(report.state, EventState::FannedOut);
    assert_eq!(report.account, "acme");
    assert_eq!(report.occurred_at, Some(happened));
    assert_eq!(report.fanned_out_at, Some(t.now()));
    assert_eq!(report.ordering_key, full.ordering_key);
    assert_eq!(report.dedup_key, full.dedup_key);
}

#[conformance]
async fn an_event_without_a_time_happened_when_it_was_inserted(t: &TestStore) {
    t.hook("*").await;
    let before = t.store.now().await.unwrap();
    t.store.enqueue(&[event("a")]).await.unwrap();
    let after = t.store.now().await.unwrap();
    let happened = drained(t).await.started[0].event.occurred_at;
    // SQLite's own clock counts milliseconds.
    let before = before.trunc_subsecs(3);
    assert!(before <= happened && happened <= after, "{happened}");
}

#[conformance]
async fn a_key_decides_the_slot(t: &TestStore) {
    t.hook("*").await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let key = format!("customer-{number}");
        let keyed = match number % 2 {
            0 => event("a").ordering_key(&key).dedup_key(format!("d{key}")),
            _ => event("a").dedup_key(&key),
        };
        let id = t.store.enqueue(&[keyed]).await.unwrap()[0];
        expected.push((id, slot_of(&key, slots(t.backend()))));
    }
    let mut seen: Vec<_> = drained(t)
        .await
        .started
        .iter()
        .map(|leased| (leased.event.id, leased.slot))
        .collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[conformance(postgres)]
async fn a_key_decides_the_slot_as_soon_as_the_slots_have_grown(t: &TestStore) {
    let keyed = |n| event("a").ordering_key(format!("customer-{n}"));
    t.store.enqueue(&[event("a")]).await.unwrap();
    drained(t).await;
    t.another().await.migrate(Some(32), t.now()).await.unwrap();
    t.hook("*").await;
    let events: Vec<_> = (0..20).map(keyed).collect();
    let ids = t.store.enqueue(&events).await.unwrap();
    let started = drained(t).await.started;
    for (id, event) in ids.iter().zip(&events) {
        let leased = started.iter().find(|leased| leased.event.id == *id);
        let expected = slot_of(event.slot_key().unwrap(), 32);
        assert_eq!(leased.map(|leased| leased.slot), Some(expected));
    }
}

#[conformance]
async fn thousands_of_events_fit_into_one_call(t: &TestStore) {
    t.hook("*").await;
    let ids = t.store.enqueue(&vec![event("a"); 5_000]).await.unwrap();
    let mut seen = ids_of(&drained(t).await.started);
    seen.sort();
    let mut expected = ids;
    expected.sort();
    assert_eq!(seen, expected);
}

#[conformance]
async fn no_events_are_no_work(t: &TestStore) {
    assert!(t.store.enqueue(&[]).await.unwrap().is_empty());
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance]
async fn the_documented_insert_is_enough(t: &TestStore) {
    t.hook("*").await;
    t.sql()
        .await
        .run(r#"INSERT INTO postrider_outbox (event_type, payload) VALUES ('invoice.paid', '{"id":1}')"#)
        .await;
    let started = drained(t).await.started;
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].event.event_type, "invoice.paid");
    assert_eq!(started[0].event.payload.as_str(), r#"{"id":1}"#);
    assert_eq!(started[0].event.account, "default");
    assert_eq!(started[0].event.id.0.get_version_num(), 7);
}

#[conformance]
async fn the_outbox_refuses_what_is_no_payload(t: &TestStore) {
    let mut sql = t.sql().await;
    let insert = |payload: &str| {
        format!("INSERT INTO postrider_outbox (event_type, payload) VALUES ('a', '{payload}')")
    };
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_MAX_BYTES));
    let told = sql.attempt(insert(&large)).await.unwrap_err();
    assert!(
        told.contains("the payload is larger than 512 KiB"),
        "{told}"
    );
    assert!(sql.attempt(insert("{")).await.is_err());
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance]
async fn peek_names_the_slots_that_have_rows(t: &TestStore) {
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
    t.insert_many("a", 3).await;
    assert_eq!(t.store.peek().await.unwrap().outbox, [t.slot]);
    t.fan_out().await;
    assert!(t.store.peek().await.unwrap().outbox.is_empty());
}

#[conformance]
async fn the_version_grows_with_every_change_of_a_hook(t: &TestStore) {
    let watcher = t.another().await;
    let mut last = watcher.peek().await.unwrap().hooks_version;
    let hook = t.hook("*").await;
    let secret = postrider_core::SigningSecret::generate();
    let rotate = HookChange::Rotate {
        secret,
        overlap_until: t.now(),
    };
    let mut versions = vec![watcher.peek().await.unwrap().hooks_version];
    for change in [
        HookChange::Pause,
        HookChange::Enable,
        HookChange::Disable,
        rotate,
    ] {
        t.store
            .change_hook(hook, change, "test", t.now())
            .await
            .unwrap();
        versions.push(watcher.peek().await.unwrap().hooks_version);
    }
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    versions.push(watcher.peek().await.unwrap().hooks_version);
    for version in versions {
        assert!(version > last, "{version} after {last}");
        last = version;
    }
}

#[conformance]
async fn what_breaks_a_bound_is_named(t: &TestStore) {
    let error = t.store.enqueue(&[event("")]).await.unwrap_err();
    assert!(
        matches!(error, Error::Event(EventError::TypeEmpty)),
        "{error:?}"
    );
}
