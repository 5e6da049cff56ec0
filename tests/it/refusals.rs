//! Impossible requests are refused with a message that says what to do and a non-zero exit code,
//! and nothing is lost.

use postrider_core::{PAYLOAD_MAX_BYTES, SigningSecret};
use postrider_store::Backend;
use postrider_tests::{Postrider, TestApp, TestDatabase, on_both};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::TcpListener;

on_both!(
    an_event_that_breaks_a_rule_is_refused,
    a_file_with_a_bad_line_is_sent_up_to_that_line,
    a_hook_that_cannot_be_called_is_refused,
    a_configuration_that_cannot_be_used_is_refused,
    a_database_that_is_half_migrated_is_refused,
    a_database_that_is_too_new_is_refused,
    a_read_only_database_is_refused,
    an_address_in_use_is_refused,
);

const EVENT: [&str; 6] = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];

async fn an_event_that_breaks_a_rule_is_refused(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let large = postrider.folder().join("large.json");
    let text = format!("\"{}\"", "x".repeat(PAYLOAD_MAX_BYTES));
    std::fs::write(&large, text).expect("write a file");
    let large = format!("@{}", large.display());
    for (event_type, payload, expected) in [
        ("invoice.paid", "{'id':1}", &["not valid JSON"][..]),
        ("invoice.paid", "", &["not valid JSON"]),
        (
            "invoice.paid",
            large.as_str(),
            &["524290 bytes", "at most 524288"],
        ),
        ("", "{}", &["the event type is empty"]),
        ("postrider.hook.disabled", "{}", &["choose another name"]),
    ] {
        let send = ["event", "send", "--type", event_type, "--payload", payload];
        says(&postrider.run(&send).await.refused(), expected);
    }
    let listed = postrider.listing(&["event", "list"]).await;
    assert_eq!(listed.len(), 0, "{listed:?}");
}

async fn a_file_with_a_bad_line_is_sent_up_to_that_line(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let good = r#"{"event_type":"invoice.paid","payload":{}}"#;
    let mended = format!("{good}\n{good}\n{good}\n{good}\n");
    let bad = mended.replacen(good, "{\"event_type\":\"\u{0}", 3);
    let bad = bad.replacen("{\"event_type\":\"\u{0}", good, 2);
    let send = ["event", "send", "--file", "-"];
    let message = postrider.run_with_input(&send, &bad).await.refused();
    says(
        &message,
        &[
            "line 3",
            "not valid JSON",
            "2 events were sent",
            "--from-line 3",
        ],
    );
    assert_eq!(postrider.listing(&["event", "list"]).await.len(), 2);

    let rest = [&send[..], &["--from-line", "3"]].concat();
    postrider.run_with_input(&rest, &mended).await.succeeded();
    assert_eq!(postrider.listing(&["event", "list"]).await.len(), 4);
}

async fn a_hook_that_cannot_be_called_is_refused(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    for (url, expected) in [
        ("ftp://receiver.example/", &["http"][..]),
        ("receiver.example", &["is not a URL Postrider can send to"]),
        ("https://", &["is not a URL Postrider can send to"]),
    ] {
        let add = ["hook", "add", "--url", url, "--event", "*"];
        says(&postrider.run(&add).await.refused(), expected);
    }
    let add = [
        "hook",
        "add",
        "--url",
        "https://receiver.example/",
        "--event",
    ];
    let message = postrider.run(&[&add[..], &["inv*"]].concat()).await;
    says(&message.refused(), &["invoice.*"]);
    let short = [&add[..], &["*", "--secret", "whsec_aHVudGVyMg=="]].concat();
    let message = postrider.run(&short).await.refused();
    says(&message, &["24 to 64"]);
    assert!(
        !message.contains("aHVudGVyMg"),
        "a secret is repeated: {message}"
    );
    assert_eq!(postrider.listing(&["hook", "list"]).await.len(), 0);
}

async fn a_configuration_that_cannot_be_used_is_refused(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    for (name, value, expected) in [
        (
            "POSTRIDER_WORKER__CONCURENCY",
            "3",
            &["worker.concurency", "worker.concurrency"][..],
        ),
        (
            "POSTRIDER_WORKER__LEASE",
            "15s",
            &[
                "worker.lease (15s)",
                "worker.request_timeout (15s)",
                "raise",
            ],
        ),
        ("POSTRIDER_WORKER__LEASE", "soon", &["worker.lease", "soon"]),
        (
            "POSTRIDER_WORKER__ALLOW_ADDRESSES",
            "localhost",
            &["allow_addresses"],
        ),
        (
            "POSTRIDER_SECRETS__KEY",
            "c2hvcnQ=",
            &["head -c 32 /dev/urandom"],
        ),
        (
            "POSTRIDER_DATABASE__URL",
            "mysql://a/b",
            &["sqlite://", "postgres://"],
        ),
    ] {
        let postrider = Postrider::on(&database).with(name, value);
        for command in [&["serve"][..], &["check"]] {
            let ended = postrider.run(command).await;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            says(&said, expected);
            assert!(!ended.status.success(), "{ended}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    let postrider = Postrider::on(&database);
    let file = postrider.folder().join("postrider.toml");
    std::fs::write(file, "[worker]\nlesae = \"60s\"\n").expect("write a file");
    let message = postrider.run(&["serve"]).await.refused();
    says(
        &message,
        &["postrider.toml", "worker.lesae", "worker.lease"],
    );
}

async fn a_database_that_is_half_migrated_is_refused(backend: Backend) {
    let app = TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    app.sql().await.run("DROP TABLE postrider_attempts").await;
    for command in [&["serve"][..], &EVENT, &["migrate"]] {
        let message = postrider.run(command).await.refused();
        says(&message, &["half migrated", "postrider_attempts", "backup"]);
    }
    let check = postrider.run(&["check"]).await;
    assert!(!check.status.success(), "{check}");
    says(&check.stdout, &["half migrated"]);
}

async fn a_database_that_is_too_new_is_refused(backend: Backend) {
    let app = TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    let newer = "UPDATE postrider_meta SET oldest_binary = 99";
    app.sql().await.run(newer).await;
    for command in [&["serve"][..], &EVENT, &["migrate"]] {
        let message = postrider.run(command).await.refused();
        says(&message, &["newer Postrider", "upgrade"]);
    }
}

async fn a_read_only_database_is_refused(backend: Backend) {
    let app = TestApp::on(backend).await;
    app.enqueue("invoice.paid").await;
    let postrider = match backend {
        Backend::Postgres => {
            let mut sql = app.sql().await;
            let name = sql.text("SELECT current_database()").await;
            sql.run(format!(
                "ALTER DATABASE \"{name}\" SET default_transaction_read_only = on"
            ))
            .await;
            Postrider::on(&app.database)
        }
        Backend::Sqlite => {
            let postrider = Postrider::on(&app.database).unprivileged();
            set_modes(&app.database, 0o555, 0o444);
            postrider
        }
    };
    for command in [&["serve"][..], &EVENT] {
        let message = postrider.run(command).await.refused();
        assert!(
            message.contains("read-only") || message.contains("does not allow"),
            "{message}"
        );
    }
    set_modes(&app.database, 0o755, 0o644);
    let left = app
        .sql()
        .await
        .number("SELECT count(*) FROM postrider_outbox")
        .await;
    assert_eq!(left, 1, "what was there is there, and nothing more");
}

/// Changes who may do what with a SQLite file and its folder.
fn set_modes(database: &TestDatabase, folder: u32, file: u32) {
    let set = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("set permissions");
    };
    for path in database.files() {
        set(&path, file);
        set(path.parent().expect("a folder"), folder);
    }
}

async fn an_address_in_use_is_refused(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("the port").to_string();
    for (variable, key) in [
        ("POSTRIDER_METRICS__LISTEN", "metrics.listen"),
        ("POSTRIDER_API__LISTEN", "api.listen"),
    ] {
        let postrider = Postrider::on(&database).with(variable, &address);
        let message = postrider.run(&["serve"]).await.refused();
        says(&message, &[&address, key]);
    }
    let listen = ["listen", "--listen", &address];
    let message = Postrider::on(&database).run(&listen).await.refused();
    says(&message, &[&address]);
}

#[tokio::test]
async fn on_sqlite_a_second_worker_on_the_same_file_is_refused() {
    let database = TestDatabase::migrated(Backend::Sqlite).await;
    let postrider = Postrider::on(&database);
    let mut first = postrider.serve().await;
    let message = postrider.run(&["serve"]).await.refused();
    says(&message, &["another", "PostgreSQL"]);
    assert!(first.is_running());
    // The command line may write beside it, and a worker that died leaves no lock behind.
    postrider.json(&EVENT).await;
    first.kill().await;
    postrider.serve().await;
}

#[tokio::test]
async fn on_sqlite_a_file_that_is_something_else_or_cannot_be_is_refused_and_left_alone() {
    let postrider = Postrider::bare().with("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0");
    let file = postrider.folder().join("letter.db");
    let letter = "Dear reader, this is no database.".repeat(100);
    std::fs::write(&file, &letter).expect("write a file");
    let url = format!("sqlite://{}", file.display());
    for (url, expected) in [
        (url.as_str(), &["letter.db", "not a SQLite database"][..]),
        ("sqlite:///nowhere/at/all.db", &["/nowhere/at"]),
        ("mysql://root@localhost/app", &["sqlite://", "postgres://"]),
    ] {
        for command in [&["serve"][..], &EVENT, &["migrate"], &["hook", "list"]] {
            let command = [command, &["--database", url]].concat();
            says(&postrider.run(&command).await.refused(), expected);
        }
    }
    assert_eq!(std::fs::read_to_string(&file).expect("read it"), letter);
    let key = postrider.folder().join("letter.db.key");
    assert!(!key.exists(), "no key beside what is no database");
}

#[tokio::test]
async fn on_postgres_a_server_that_does_not_answer_is_said_without_the_password() {
    // A secret that a URL takes as it is.
    let secret = SigningSecret::generate().reveal().replace(['+', '/'], "x");
    let secret = &secret[6..20];
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("the port");
    drop(nobody);
    let url = format!("postgres://app:{secret}@{address}/app");
    let postrider = Postrider::with_url(&url);
    for command in [&["serve"][..], &EVENT, &["migrate"], &["check"]] {
        let ended = postrider.run(command).await;
        assert!(!ended.status.success(), "{ended}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        says(&said, &["cannot connect", "check that the server runs"]);
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn on_postgres_a_database_without_tables_is_refused_until_it_is_migrated() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    for command in [&["serve"][..], &EVENT] {
        let message = postrider.run(command).await.refused();
        says(&message, &["no Postrider tables", "postrider migrate"]);
    }
    postrider.json(&["migrate"]).await;
    postrider.json(&EVENT).await;
}

#[tokio::test]
async fn on_postgres_nothing_secret_is_stored_or_used_without_a_key() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database).with("POSTRIDER_SECRETS__KEY", "");
    let add = [
        "hook",
        "add",
        "--url",
        "https://receiver.example/",
        "--event",
        "*",
    ];
    for command in [&add[..], &["serve"]] {
        let message = postrider.run(command).await.refused();
        says(
            &message,
            &["POSTRIDER_SECRETS__KEY", "head -c 32 /dev/urandom"],
        );
    }
    postrider.json(&EVENT).await;
}

fn says(message: &str, expected: &[&str]) {
    for words in expected {
        assert!(message.contains(words), "no {words:?} in: {message}");
    }
}
