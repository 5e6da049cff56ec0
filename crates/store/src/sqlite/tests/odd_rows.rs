//! Rows that only SQLite accepts: it checks neither text nor times. Each bad one is rejected alone,
//! with its reason.

use super::*;
use crate::store::*;

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
    assert_eq!(leased[0].event.occurred_at, occurred_at);
}
