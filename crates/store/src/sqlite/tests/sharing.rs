//! Applications and our writer in one file.

use super::*;
use crate::store::*;
use sqlx::Connection;

/// An application that commits one event after another, as others would: with `BEGIN
/// IMMEDIATE` and the usual busy timeout.
async fn insert(mut connection: SqliteConnection, count: usize) {
    for _ in 0..count {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("INSERT INTO postrider_outbox (event_type, payload) VALUES ('a', '{}')")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_insert_while_deliveries_are_fanned_out_and_settled() {
    let file = TestFile::new().await;
    file.hook("*").await;
    let applications: Vec<_> = [file.application().await, file.application().await]
        .map(|connection| tokio::spawn(insert(connection, 50)))
        .into();
    let mut settled = 0;
    while settled < 100 {
        let done = file.fan_out(1_000).await;
        let batch: Vec<_> = done.started.iter().map(accepted).collect();
        settled += file.store.settle(now(), &batch).await.unwrap().settled;
        file.store.upkeep(now(), 10).await.unwrap();
    }
    for application in applications {
        application.await.unwrap();
    }
    assert_eq!(settled, 100);
    assert_eq!(
        file.count("SELECT count(DISTINCT id) FROM postrider_events")
            .await,
        100
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_open() {
    let file = TestFile::new().await;
    file.hook("*").await;
    file.enqueue(200).await;
    for turn in 0..60 {
        let mut call = Box::pin(file.store.fan_out(FanOutRequest {
            max_events: 2,
            ..fan_out(1_000)
        }));
        // Polled a few times, and dropped wherever it then is.
        for _ in 0..turn {
            if let std::task::Poll::Ready(done) = futures_poll(&mut call).await {
                done.unwrap();
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let mut application = file.application().await;
    sqlx::raw_sql("BEGIN IMMEDIATE; COMMIT")
        .execute(&mut application)
        .await
        .unwrap();
    while file.fan_out(1_000).await.more {}
    let events = file.count("SELECT count(*) FROM postrider_events").await;
    let deliveries = file
        .count("SELECT sum(length(closed)) FROM postrider_leases WHERE open > 0")
        .await;
    assert_eq!((events, deliveries), (200, 200));
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))
    })
    .await
}
