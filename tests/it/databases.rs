//! What the tests themselves rely on: each has its own database, which is dropped at the end.

use postrider_store::Backend;
use postrider_tests::{Connection, TestDatabase};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tests_database_on_the_server_goes_with_the_test() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let url = database.url().to_owned();
    let mut connection = database.connect().await;
    connection.run("CREATE TABLE t (a integer)").await;
    let name = connection.text("SELECT current_database()").await;
    drop(database);

    assert!(connection.attempt("SELECT 1").await.is_err(), "cut off");
    let mut server = Connection::open(&url.replace(&name, "template1")).await;
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(server.number(query).await, 0);
}

#[tokio::test]
async fn a_tests_file_goes_with_the_test() {
    let database = TestDatabase::empty(Backend::Sqlite).await;
    let url = format!("{}?mode=rwc", database.url());
    let mut connection = Connection::open(&url).await;
    connection
        .run("CREATE TABLE t (a integer, b text); INSERT INTO t VALUES (7, NULL), (8, 'x')")
        .await;
    let rows = connection.rows("SELECT a, b FROM t ORDER BY a").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rows, [[text("7"), None], [text("8"), text("x")]]);
    let files = database.files();
    assert!(!files.is_empty());
    drop(database);
    assert!(files.iter().all(|file| !file.exists()));
}
