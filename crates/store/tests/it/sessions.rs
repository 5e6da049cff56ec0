//! Settings of a role or a database that change how values are read and written (PostgreSQL,
//! R37).

use postrider_core::DeliveryId;
use postrider_tests::{TestStore, conformance, event};
use std::time::Duration;

#[conformance(postgres)]
async fn neither_time_zone_nor_styles_change_a_value(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut sql = t.sql().await;
    for setting in [
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = -3",
    ] {
        sql.run(format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$",
            setting.replace('\'', "''")
        ))
        .await;
    }
    let store = t.another().await;
    let hour = Duration::from_secs(3_600);
    let mut later = event("work");
    later.occurred_at = Some(t.now() - hour);
    later.deliver_after = Some(t.now() + hour);
    let (later, now) = (
        t.insert(&[later]).await[0],
        t.insert_many("work", 1).await[0],
    );
    let started = store.fan_out(t.request()).await.unwrap().started;
    assert_eq!(started.len(), 1);
    let settled = store.settle(t.now(), &[t.refused(&started[0], 300)]).await;
    assert_eq!(settled.unwrap().settled, 1);

    let shown = store.event(later).await.unwrap();
    assert_eq!(shown.occurred_at, Some(t.now() - hour));
    assert_eq!(shown.fanned_out_at, Some(t.now()));
    let [waits, retried] = [later, now].map(|event| DeliveryId::of(event, hook));
    let due = store.delivery(waits).await.unwrap().next_attempt_at;
    assert_eq!(due, Some(t.now() + hour));
    let due = store.delivery(retried).await.unwrap().next_attempt_at;
    assert_eq!(due, Some(t.now() + Duration::from_secs(300)));
    let attempt = store.attempts(retried).await.unwrap().remove(0);
    assert_eq!(attempt.at, t.now());
    assert_eq!(attempt.response.as_deref(), Some("the response"));
    t.advance(3_600);
    let leased = store.lease(t.lease_request(&[hook])).await.unwrap();
    assert_eq!(leased.len(), 2);
}
