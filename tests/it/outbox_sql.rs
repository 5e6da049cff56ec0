//! The public contract: one plain INSERT, from any language, inside the application's own
//! transaction.

use postrider_core::BodyForm;
use postrider_store::Backend;
use postrider_tests::{
    Connection, Ended, Postrider, Receiver, TestApp, ended, event, hook_to, on_both, psql, python,
};
use tokio::process::Command;

on_both!(
    an_event_of_the_producer_crate_shares_the_fate_of_its_transaction,
    rows_with_every_optional_column_are_accepted,
    what_is_not_json_or_too_large_is_refused_in_the_applications_own_statement,
);

/// What the application's role is granted, as documented.
const GRANTS: &str = "\
    GRANT USAGE ON SCHEMA public TO {role}; \
    GRANT INSERT (slot, account, event_type, payload, ordering_key, dedup_key, deliver_after, \
    occurred_at, headers), SELECT (id) ON postrider_outbox TO {role}";

#[tokio::test]
async fn on_postgres_psql_inserts_with_the_documented_grants_alone() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    app.register(bare_payloads(&receiver)).await;
    let role = Role::with_the_documented_grants(&app).await;

    let committed = role
        .psql(&[
            "BEGIN",
            "INSERT INTO postrider_outbox (event_type, payload) \
             VALUES ('invoice.paid', '{\"id\":1}') RETURNING id",
            "COMMIT",
        ])
        .await
        .succeeded();
    let plain =
        "INSERT INTO postrider_outbox (event_type, payload) VALUES ('invoice.paid', '{\"id\":2}')";
    role.psql(&[plain]).await.succeeded();
    role.psql(&["BEGIN", plain, "ROLLBACK"]).await.succeeded();
    app.tick().await;
    let requests = receiver.requests();
    let bodies: Vec<_> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies.contains(&&br#"{"id":1}"#[..]) && bodies.contains(&&br#"{"id":2}"#[..]));
    let id = committed.stdout.trim();
    assert!(requests.iter().any(|request| request.id() == id), "{id}");

    // Nothing more than that is its to do.
    for forbidden in [
        "INSERT INTO postrider_outbox (id, event_type, payload) \
         VALUES (gen_random_uuid(), 'a', '{}')",
        "SELECT payload FROM postrider_outbox",
        "DELETE FROM postrider_outbox",
        "UPDATE postrider_outbox SET event_type = 'b'",
        "SELECT * FROM postrider_hooks",
        "TABLE postrider_events",
    ] {
        let refused = role.psql(&[forbidden]).await;
        assert!(!refused.status.success(), "{forbidden}: {refused}");
        assert!(refused.stderr.contains("permission denied"), "{refused}");
    }
    role.drop(&app).await;
}

#[tokio::test]
async fn on_postgres_a_session_that_is_cut_off_before_its_commit_leaves_nothing() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    app.register(bare_payloads(&receiver)).await;
    let mut application = app.sql().await;
    application.run("BEGIN").await;
    application
        .run("INSERT INTO postrider_outbox (event_type, payload) VALUES ('invoice.paid', '{}')")
        .await;
    app.tick().await;
    drop(application);
    app.tick().await;
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn on_sqlite_pythons_own_sqlite3_inserts() {
    let app = TestApp::on(Backend::Sqlite).await;
    let receiver = Receiver::accepting().await;
    app.register(bare_payloads(&receiver)).await;
    let file = app
        .database
        .url()
        .strip_prefix("sqlite://")
        .expect("a file");
    let printed = ended(python("insert.py").arg(file))
        .await
        .succeeded()
        .stdout;
    app.tick().await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 1, "what was rolled back never comes");
    assert_eq!(requests[0].id(), printed.lines().next().expect("an id"));
    assert_eq!(&requests[0].body[..], br#"{"id": 1, "by": "Python"}"#);
}

#[tokio::test]
async fn on_sqlite_its_command_line_inserts_while_a_worker_runs() {
    let app = TestApp::on(Backend::Sqlite).await;
    let receiver = Receiver::accepting().await;
    app.register(bare_payloads(&receiver)).await;
    let postrider = Postrider::on(&app.database);
    let worker = postrider.serve().await;
    let file = app
        .database
        .url()
        .strip_prefix("sqlite://")
        .expect("a file");
    for number in 1..=20 {
        let insert = format!(
            "BEGIN IMMEDIATE; INSERT INTO postrider_outbox (event_type, payload) \
             VALUES ('invoice.paid', '{{\"id\":{number}}}'); COMMIT"
        );
        ended(Command::new("sqlite3").args(["-cmd", ".timeout 20000", file, &insert]))
            .await
            .succeeded();
    }
    receiver.wait_for(20).await;
    drop(worker);
}

async fn an_event_of_the_producer_crate_shares_the_fate_of_its_transaction(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.register(bare_payloads(&receiver)).await;
    let mut application = app.sql().await;
    application.run("CREATE TABLE invoices (id int)").await;
    let mut committed = Vec::new();
    for end in ["ROLLBACK", "COMMIT", "ROLLBACK", "COMMIT"] {
        let event = event("invoice.paid");
        application.run("BEGIN").await;
        application.run("INSERT INTO invoices VALUES (1)").await;
        let id = match &mut application {
            Connection::Postgres(tx) => postrider_producer::postgres::enqueue(tx, &event).await,
            Connection::Sqlite(tx) => postrider_producer::sqlite::enqueue(tx, &event).await,
        };
        application.run(end).await;
        if end == "COMMIT" {
            committed.push((id.expect("insert the event").to_string(), 1));
        }
        app.tick().await;
    }
    committed.sort();
    let came: Vec<_> = receiver.arrivals().into_iter().collect();
    assert_eq!(came, committed);
    let invoices = "SELECT count(*) FROM invoices";
    assert_eq!(application.number(invoices).await, 2);
}

async fn rows_with_every_optional_column_are_accepted(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let mut hook = bare_payloads(&receiver);
    hook.account = "acme".into();
    hook.settings.body = BodyForm::Envelope;
    app.register(hook).await;
    // An event with a key belongs into the slot of that key; SQLite has but one.
    let slot = match backend {
        Backend::Postgres => "postrider_slot('customer-7')",
        Backend::Sqlite => "0",
    };
    app.sql()
        .await
        .run(format!(
            "INSERT INTO postrider_outbox (slot, account, event_type, payload, ordering_key, \
             dedup_key, deliver_after, occurred_at, headers) VALUES ({slot}, 'acme', 'invoice.paid', \
             '{{\"id\":1}}', 'customer-7', 'invoice-1', '2026-03-01T00:00:00Z', \
             '2026-02-28T23:59:59.5Z', '{{\"x-trace\":\"abc\"}}')"
        ))
        .await;
    app.tick().await;
    let request = receiver.requests().remove(0);
    assert_eq!(request.header("x-trace"), "abc");
    assert_eq!(
        std::str::from_utf8(&request.body).expect("text"),
        r#"{"type":"invoice.paid","timestamp":"2026-02-28T23:59:59.500Z","data":{"id":1}}"#
    );
}

async fn what_is_not_json_or_too_large_is_refused_in_the_applications_own_statement(
    backend: Backend,
) {
    let app = TestApp::on(backend).await;
    let mut sql = app.sql().await;
    let large = format!("\"{}\"", "x".repeat(512 * 1024));
    for (payload, expected) in [
        ("{", "json"),
        ("", "json"),
        ("{'a':1}", "json"),
        (large.as_str(), "the payload is larger than 512 kib"),
    ] {
        let payload = payload.replace('\'', "''");
        let insert = format!(
            "INSERT INTO postrider_outbox (event_type, payload) VALUES ('invoice.paid', '{payload}')"
        );
        let message = sql.attempt(insert).await.unwrap_err().to_lowercase();
        assert!(message.contains(expected), "{message}");
    }
    let left = sql.number("SELECT count(*) FROM postrider_outbox").await;
    assert_eq!(left, 0);
}

fn bare_payloads(receiver: &Receiver) -> postrider_core::NewHook {
    let mut hook = hook_to(&receiver.url());
    hook.settings.body = BodyForm::Payload;
    hook
}

/// A role of the server for an application.
struct Role {
    name: String,
    url: String,
}

impl Role {
    async fn with_the_documented_grants(app: &TestApp) -> Self {
        let mut sql = app.sql().await;
        let name = sql.text("SELECT 'app_of_' || current_database()").await;
        sql.run(format!("CREATE ROLE {name} LOGIN PASSWORD 'sesame'"))
            .await;
        sql.run(GRANTS.replace("{role}", &name)).await;
        let url = app.database.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let place = rest.split_once('@').map_or(rest, |(_, place)| place);
        Self {
            url: format!("{scheme}://{name}:sesame@{place}"),
            name,
        }
    }

    async fn psql(&self, statements: &[&str]) -> Ended {
        ended(&mut psql(&self.url, statements)).await
    }

    /// Roles belong to the server, not to the database.
    async fn drop(self, app: &TestApp) {
        let name = &self.name;
        app.sql()
            .await
            .run(format!("DROP OWNED BY {name}; DROP ROLE {name}"))
            .await;
    }
}
