//! Rows that only SQLite would take: each is rejected alone, with its reason.

use super::*;
use crate::store::*;
use postrider_core::EventId;

#[tokio::test]
async fn bad_rows_are_rejected_and_the_others_go_on() {
    let file = TestFile::new().await;
    file.hook("*").await;
    file.enqueue(1).await;
    file.run(
        "INSERT INTO postrider_outbox (event_type, payload) VALUES (CAST(x'61ff' AS TEXT), '1');
         INSERT INTO postrider_outbox (event_type, payload) VALUES ('a', CAST(x'22ff22' AS TEXT));
         INSERT INTO postrider_outbox (event_type, payload, id) VALUES ('a', '1', 'mine');
         INSERT INTO postrider_outbox (event_type, payload, account)
             VALUES ('a', '1', 'a' || char(0));
         INSERT INTO postrider_outbox (event_type, payload) VALUES ('postrider.hook.disabled', '1');
         INSERT INTO postrider_outbox (event_type, payload) VALUES ('a b', '1');
         INSERT INTO postrider_outbox (event_type, payload, headers) VALUES ('a', '1', '[]');
         INSERT INTO postrider_outbox (event_type, payload, deliver_after)
             VALUES ('a', '1', '2027-02-31');
         INSERT INTO postrider_outbox (event_type, payload, deliver_after)
             VALUES ('a', '1', '2999-01-01T00:00:00Z');
         INSERT INTO postrider_outbox (event_type, payload, created_at) VALUES ('a', '1', 'then');
         INSERT INTO postrider_outbox (event_type, payload, dedup_key)
             VALUES ('a', '1', hex(zeroblob(300)))",
    )
    .await;
    file.enqueue(1).await;
    let done = file.fan_out(10).await;
    assert_eq!((done.events, done.rejected, done.started.len()), (2, 11, 2));
    assert!(!done.more);
    let rejected = file.store.rejected(100).await.unwrap();
    let has = |part: &str| rejected.iter().any(|row| row.reason.contains(part));
    for part in [
        "event_type is not valid UTF-8",
        "payload is not valid UTF-8",
        "not a UUID",
        "account must be",
        "kept for events of Postrider",
        "white space",
        "headers must be",
        "\"2027-02-31\" is not a time",
        "beyond the retention",
        "\"then\" is not a time",
        "deduplication key must be",
    ] {
        assert!(has(part), "{part}: {rejected:?}");
    }
    for row in rejected {
        let event = file.store.event(row.id).await.unwrap();
        assert_eq!(event.state, crate::EventState::Rejected);
    }
    assert_eq!(file.count("SELECT count(*) FROM postrider_outbox").await, 0);
}

#[tokio::test]
async fn an_id_that_was_used_before_is_rejected_by_itself() {
    let file = TestFile::new().await;
    file.hook("*").await;
    const TWICE: &str = "INSERT INTO postrider_outbox (event_type, payload, id)
        VALUES ('a', '1', '01890000-0000-7000-8000-000000000001'),
               ('a', '2', '01890000-0000-7000-8000-000000000001')";
    file.run(TWICE).await;
    let done = file.fan_out(10).await;
    assert_eq!((done.events, done.rejected), (1, 1));
    file.enqueue(2).await;
    file.run(TWICE).await;
    file.enqueue(2).await;
    let (mut events, mut rejected) = (0, 0);
    loop {
        let done = file.fan_out(10).await;
        events += done.events;
        rejected += done.rejected;
        if !done.more {
            break;
        }
    }
    assert_eq!((events, rejected), (4, 2));
    let id = "01890000-0000-7000-8000-000000000001"
        .parse::<EventId>()
        .unwrap();
    assert_eq!(
        file.store.event(id).await.unwrap().payload.unwrap().get(),
        "1"
    );
}

#[tokio::test]
async fn a_settlement_that_is_refused_is_made_without_its_text() {
    let file = TestFile::new().await;
    file.hook("*").await;
    file.enqueue(8).await;
    let started = file.fan_out(8).await.started;
    // Something of the operator's that does not like what one receiver says.
    file.run(
        "CREATE TRIGGER fussy BEFORE INSERT ON postrider_attempts
         WHEN new.response = x'626164' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let mut batch: Vec<_> = started.iter().map(accepted).collect();
    batch[5].attempts.first.response = b"bad".to_vec();
    let settled = file.store.settle(now(), &batch).await.unwrap();
    assert_eq!((settled.settled, settled.scrubbed), (8, 1));
    let attempts = file.store.attempts(started[5].first().id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].response.as_deref()), (1, None));
    let attempts = file.store.attempts(started[4].first().id).await.unwrap();
    assert_eq!(attempts[0].response.as_deref(), Some("ok \u{fffd}"));
}

#[tokio::test]
async fn times_are_taken_as_applications_write_them() {
    let file = TestFile::new().await;
    let hook = file.hook("*").await;
    file.run(
        "INSERT INTO postrider_outbox (event_type, payload, deliver_after, occurred_at)
         VALUES ('a', '1', '2027-01-15 10:00:00', '2027-01-15T08:00:00.5+02:00')",
    )
    .await;
    let done = file.fan_out(10).await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    let due = file.store.due_hooks(0, None, 1).await.unwrap();
    let ten = "2027-01-15T10:00:00Z".parse::<Timestamp>().unwrap();
    assert_eq!((due[0].hook, due[0].first_due), (hook, ten));
    let early = lease(hook, 1, ten - TimeDelta::microseconds(1));
    assert!(file.store.lease(early).await.unwrap().is_empty());
    let leased = file.store.lease(lease(hook, 1, ten)).await.unwrap();
    let occurred_at = "2027-01-15T06:00:00.500Z".parse::<Timestamp>().unwrap();
    assert_eq!(leased[0].first().event.occurred_at, occurred_at);
}

#[tokio::test]
async fn a_key_is_used_up_by_the_first_event_that_is_taken() {
    let file = TestFile::new().await;
    file.hook("*").await;
    let keyed = |n: u32| NewEvent::new("a", &n).unwrap().dedup_key("once");
    file.store
        .enqueue(&[keyed(1), keyed(2), NewEvent::new("a", &3).unwrap()])
        .await
        .unwrap();
    let first = FanOutRequest {
        max_deliveries: 1,
        ..fan_out(10)
    };
    let done = file.store.fan_out(first).await.unwrap();
    assert_eq!((done.events, done.duplicates, done.more), (1, 1, true));
    file.store.enqueue(&[keyed(4)]).await.unwrap();
    let done = file.fan_out(10).await;
    assert_eq!((done.events, done.duplicates, done.more), (1, 1, false));
}
