//! What an application may rely on when it enqueues on SQLite.

use postrider_producer::sqlite::{enqueue, enqueue_many};
use postrider_producer::{EnqueueError, EventError, EventId, NewEvent};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

const TABLES: &str = include_str!("../../../../migrations/sqlite/0001_foundation.sql");

/// A new database file with our tables, and a connection to it.
async fn database() -> (TempDir, SqliteConnection) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("app.db"))
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(TABLES)
        .execute(&mut connection)
        .await
        .unwrap();
    (folder, connection)
}

/// The ids in the outbox, in order.
async fn queued(connection: &mut SqliteConnection) -> Vec<EventId> {
    let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM postrider_outbox ORDER BY seq")
        .fetch_all(connection)
        .await
        .unwrap();
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn event(n: usize) -> NewEvent {
    NewEvent::new("order.paid", &n).unwrap()
}

#[tokio::test]
async fn an_event_is_there_after_the_commit() {
    let (_folder, mut connection) = database().await;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let id = enqueue(&mut tx, &event(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(queued(&mut connection).await, [id]);
    assert_eq!(id.0.get_version_num(), 7);
}

#[tokio::test]
async fn an_event_is_gone_after_a_rollback() {
    let (_folder, mut connection) = database().await;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    enqueue(&mut tx, &event(1)).await.unwrap();
    enqueue_many(&mut tx, &[event(2), event(3)]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(queued(&mut connection).await, []);
}

#[tokio::test]
async fn ids_come_back_in_the_order_of_the_events() {
    let (_folder, mut connection) = database().await;
    let events: Vec<_> = (0..1_000).map(event).collect();
    let ids = enqueue_many(&mut connection, &events).await.unwrap();
    assert_eq!(queued(&mut connection).await, ids);
    let payloads: Vec<String> =
        sqlx::query_scalar("SELECT payload FROM postrider_outbox ORDER BY seq")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let expected: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(payloads, expected);
    assert_eq!(enqueue_many(&mut connection, &[]).await.unwrap(), []);
}

#[tokio::test]
async fn every_column_arrives_verbatim() {
    let (_folder, mut connection) = database().await;
    let json = "{\"b\":1.0, \"a\":\"\\u0000 \\\" ä 😀\",\"b\":2}";
    let at = "2026-01-31T12:00:00.123456Z".parse().unwrap();
    let mut full = NewEvent::from_json("order.paid", json.into())
        .unwrap()
        .account("acme \"1\"")
        .ordering_key("order-1")
        .dedup_key("once")
        .deliver_after(at)
        .occurred_at(at);
    full.headers = Some("{\"X-A\":\"b\"}".into());
    enqueue(&mut connection, &full).await.unwrap();
    enqueue_many(&mut connection, &[full.clone(), full])
        .await
        .unwrap();
    type Columns = (String, String, String, String, String, String, String);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT account, payload, ordering_key, dedup_key, deliver_after, occurred_at, headers
         FROM postrider_outbox",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let time = "2026-01-31T12:00:00.123456+00:00";
        let (account, payload, ordering, dedup, deliver_after, occurred_at, headers) = row;
        assert_eq!((account.as_str(), payload.as_str()), ("acme \"1\"", json));
        assert_eq!((ordering.as_str(), dedup.as_str()), ("order-1", "once"));
        assert_eq!((deliver_after.as_str(), occurred_at.as_str()), (time, time));
        assert_eq!(headers, "{\"X-A\":\"b\"}");
    }
}

#[tokio::test]
async fn what_breaks_a_bound_is_refused_before_anything_is_written() {
    let (_folder, mut connection) = database().await;
    let bad = NewEvent::new("order paid", &1).unwrap();
    let error = enqueue(&mut connection, &bad).await.unwrap_err();
    assert!(matches!(
        error,
        EnqueueError::Event(EventError::TypeMalformed(_))
    ));
    let error = enqueue_many(&mut connection, &[event(1), bad])
        .await
        .unwrap_err();
    assert!(matches!(error, EnqueueError::Event(_)));
    assert_eq!(queued(&mut connection).await, []);
}

#[tokio::test]
async fn a_missing_table_is_the_databases_error() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let error = enqueue(&mut connection, &event(1)).await.unwrap_err();
    assert!(matches!(error, EnqueueError::Database(_)));
    assert!(error.to_string().contains("postrider_outbox"));
}
