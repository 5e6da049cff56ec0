//! Calls that the API refuses, and for whom: each refusal says what to do, and nothing is recorded.

use postrider_core::PAYLOAD_MAX_BYTES;
use postrider_store::Backend;
use postrider_tests::{Caller, Connection, Postrider, TestDatabase, eventually, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

on_both!(
    each_refusal_says_what_to_do,
    a_key_bound_to_an_account_publishes_there_alone,
    a_key_works_at_once_and_is_refused_a_second_after_it_is_revoked,
    a_use_of_a_key_is_recorded,
    a_database_that_cannot_be_written_is_no_end,
);

const QUEUED: &str = "SELECT count(*) FROM postrider_outbox";
const SMALL: &str = r#"{"event_type":"invoice.paid","payload":{}}"#;

async fn each_refusal_says_what_to_do(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database).with("POSTRIDER_RETENTION__EVENTS", "7d");
    let serving = postrider.serve_as("api").await;
    let key = postrider.json(&["key", "create", "--scope", "admin"]).await;
    let token = key["token"].as_str().expect("a token");
    let caller = Caller::of(&serving, token).await;

    let body = |field: &str| format!(r#"{{"event_type":"a","payload":{{}},{field}}}"#);
    let long = "x".repeat(513);
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let large = |bytes: usize| {
        let payload = "x".repeat(bytes);
        format!(r#"{{"event_type":"a","payload":"{payload}"}}"#)
    };
    for (body, status, kind, pointer, words) in [
        ("", 400, "malformed-json", None, "not valid JSON"),
        ("{", 400, "malformed-json", None, "not valid JSON"),
        (
            "{'event_type':1}",
            400,
            "malformed-json",
            None,
            "not valid JSON",
        ),
        ("[]", 422, "invalid", Some(""), "must be a JSON object"),
        (
            r#"{"payload":1}"#,
            422,
            "invalid",
            Some("/event_type"),
            "is missing",
        ),
        (
            r#"{"event_type":"a"}"#,
            422,
            "invalid",
            Some("/payload"),
            "is missing",
        ),
        (
            r#"{"event_type":7,"payload":1}"#,
            422,
            "invalid",
            Some("/event_type"),
            "must be a string",
        ),
        (
            r#"{"event_type":"","payload":1}"#,
            422,
            "invalid",
            Some("/event_type"),
            "is empty",
        ),
        (
            r#"{"event_type":"a b","payload":1}"#,
            422,
            "invalid",
            Some("/event_type"),
            "white space",
        ),
        (
            r#"{"event_type":"postrider.hook.disabled","payload":1}"#,
            422,
            "invalid",
            Some("/event_type"),
            "choose another name",
        ),
        (
            &body(r#""extra":1"#),
            422,
            "invalid",
            Some("/extra"),
            "not a field",
        ),
        (
            &body(r#""payload":1"#),
            422,
            "invalid",
            Some("/payload"),
            "given twice",
        ),
        (
            &body(r#""account":"""#),
            422,
            "invalid",
            Some("/account"),
            "1 to 512 bytes",
        ),
        (
            &body(r#""account":7"#),
            422,
            "invalid",
            Some("/account"),
            "must be a string",
        ),
        (
            &body(&format!(r#""dedup_key":"{long}""#)),
            422,
            "invalid",
            Some("/dedup_key"),
            "513 bytes",
        ),
        (
            &body(r#""ordering_key":"a\u0000""#),
            422,
            "invalid",
            Some("/ordering_key"),
            "without NUL",
        ),
        (
            &body(r#""occurred_at":"noon""#),
            422,
            "invalid",
            Some("/occurred_at"),
            "2026-01-31T12:00:00Z",
        ),
        (
            &body(r#""occurred_at":"0000-01-01T00:00:00Z""#),
            422,
            "invalid",
            Some("/occurred_at"),
            "1 to 9999",
        ),
        (
            &body(r#""deliver_after":"9999-12-31T00:00:00Z""#),
            422,
            "invalid",
            Some("/deliver_after"),
            "beyond retention.events (7days)",
        ),
        // What only the database finds out.
        (
            &format!(r#"{{"event_type":"a","payload":{deep}}}"#),
            422,
            "invalid",
            Some(""),
            "the database refused the data",
        ),
        (
            &large(PAYLOAD_MAX_BYTES - 1),
            413,
            "too-large",
            Some("/payload"),
            "at most 524288",
        ),
        (
            &large(2 * PAYLOAD_MAX_BYTES),
            413,
            "too-large",
            None,
            "at most 524288",
        ),
    ] {
        let reply = caller.publish(body).await;
        reply.refused(status, kind, words);
        let pointed = reply.json()["errors"][0]["pointer"].clone();
        assert_eq!(pointed.as_str(), pointer, "{body:.100}: {reply:?}");
    }
    let reply = caller
        .publish_in_chunks(&large(2 * PAYLOAD_MAX_BYTES))
        .await;
    reply
        .expect("an answer")
        .refused(413, "too-large", "at most");

    let several = r#"{"event_type":7,"account":8,"x/y":9}"#;
    let errors = caller.publish(several).await.json()["errors"].clone();
    let pointers = errors.as_array().expect("errors").iter();
    let pointers: BTreeSet<_> = pointers.filter_map(|e| e["pointer"].as_str()).collect();
    let expected = ["/event_type", "/payload", "/account", "/x~1y"];
    assert_eq!(pointers, expected.into(), "all of them are told");

    let bearer = format!("Bearer {token}");
    let unknown = format!("Bearer {}x", &token[..token.len() - 1]);
    let json = ("content-type", "application/json");
    let ours = ("authorization", bearer.as_str());
    for (method, path, headers, status, kind, words) in [
        (
            "POST",
            "/v1/events",
            &[json][..],
            401,
            "unauthorized",
            "postrider key create",
        ),
        (
            "POST",
            "/v1/events",
            &[json, ("authorization", "Basic YTpi")],
            401,
            "unauthorized",
            "Bearer",
        ),
        (
            "POST",
            "/v1/events",
            &[json, ("authorization", "Bearer x")],
            401,
            "unauthorized",
            "revoked",
        ),
        (
            "POST",
            "/v1/events",
            &[json, ("authorization", &unknown)],
            401,
            "unauthorized",
            "revoked",
        ),
        (
            "POST",
            "/v1/events",
            &[ours],
            415,
            "unsupported-media-type",
            "application/json",
        ),
        (
            "POST",
            "/v1/events",
            &[ours, ("content-type", "text/plain")],
            415,
            "unsupported-media-type",
            "application/json",
        ),
        (
            "POST",
            "/v1/events",
            &[ours, json, ("content-encoding", "gzip")],
            415,
            "unsupported-media-type",
            "compressed",
        ),
        (
            "PUT",
            "/v1/events",
            &[ours],
            405,
            "method-not-allowed",
            "PUT",
        ),
        (
            "POST",
            "/v1/event",
            &[ours, json],
            404,
            "not-found",
            "/v1/event",
        ),
    ] {
        let reply = caller.send(method, path, headers, SMALL).await;
        let reply = reply.expect("an answer");
        reply.refused(status, kind, words);
        match status {
            401 => assert!(
                reply
                    .header("www-authenticate")
                    .starts_with("Bearer realm="),
                "{reply:?}"
            ),
            405 => {
                let allowed: BTreeSet<_> = reply.header("allow").split(',').collect();
                assert_eq!(allowed, ["GET", "HEAD", "POST"].into());
            }
            _ => {}
        }
    }
    assert_eq!(database.connect().await.number(QUEUED).await, 0);
    let said = serving.stderr().join("\n");
    assert!(!said.contains(&token[3..]), "a token is in the log: {said}");
    caller.publish(SMALL).await.accepted();
}

async fn a_key_bound_to_an_account_publishes_there_alone(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let create = ["key", "create", "--name", "shop 'ü'", "--scope"];
    let asking = |account| json!({"event_type": "a", "payload": 1, "account": account});
    for (scope, own) in [
        ("admin", None),
        ("account", Some("acme")),
        ("publish", Some("acme")),
        ("publish", None),
    ] {
        let mut arguments = [&create[..], &[scope]].concat();
        arguments.extend(own.iter().flat_map(|own| ["--account", own]));
        let key = postrider.json(&arguments).await;
        let token = key["token"].as_str().expect("a token");
        let keys: Vec<_> = key.as_object().expect("an object").keys().collect();
        assert_eq!(
            keys.len(),
            8,
            "the key as it is listed, and its token: {key}"
        );
        assert_eq!(key["scope"], scope);
        assert_eq!(key["account"].as_str(), own);
        assert_eq!(key["name"], "shop 'ü'");

        let caller = Caller::of(&serving, token).await;
        for asked in [None, Some("acme"), Some("other")] {
            let reply = caller.publish(&asking(asked).to_string()).await;
            let expected = match (own, asked) {
                (Some(own), Some(asked)) if own != asked => {
                    reply.refused(403, "forbidden", "bound to the account \"acme\"");
                    continue;
                }
                (own, asked) => asked.or(own).unwrap_or("default"),
            };
            let id = reply.accepted();
            let event = postrider.json(&["event", "show", &id]).await;
            assert_eq!(event["account"], expected, "{scope} {own:?} {asked:?}");
        }
    }
    let listed = postrider.listing(&["key", "list"]).await;
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|key| key.get("token").is_none()));
    for (arguments, words) in [
        (
            &["--scope", "admin", "--account", "acme"][..],
            "leave the account out",
        ),
        (&["--scope", "account"], "needs an account"),
        (&["--scope", "publish", "--name", ""], "the name of a key"),
        (&["--scope", "everything"], "possible values"),
    ] {
        let create = [&["key", "create"], arguments].concat();
        let message = postrider.run(&create).await.refused();
        assert!(message.contains(words), "{message}");
    }
    let unknown = ["key", "revoke", "0193a5c8-0000-7000-8000-000000000000"];
    let message = postrider.run(&unknown).await.refused();
    assert!(message.contains("there is no key"), "{message}");
}

async fn a_key_works_at_once_and_is_refused_a_second_after_it_is_revoked(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    for _ in 0..3 {
        let key = postrider
            .json(&["key", "create", "--scope", "publish"])
            .await;
        let caller = Caller::of(&serving, key["token"].as_str().expect("a token")).await;
        caller.publish(SMALL).await.accepted();
        let revoke = ["key", "revoke", key["id"].as_str().expect("an id")];
        let revoked = postrider.json(&revoke).await;
        assert!(revoked["revoked_at"].is_string(), "{revoked}");
        // The time that is promised: no sign tells when a process forgets.
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller
            .publish(SMALL)
            .await
            .refused(401, "unauthorized", "revoked");
    }
}

async fn a_use_of_a_key_is_recorded(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let mut serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let used = async || postrider.listing(&["key", "list"]).await[0]["last_used_at"].clone();
    assert_eq!(used().await, Value::Null);
    caller.publish(SMALL).await.accepted();
    serving.terminate().await;
    assert!(serving.ended().await.success(), "{serving}");
    assert!(used().await.is_string());
}

async fn a_database_that_cannot_be_written_is_no_end(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    caller.publish(SMALL).await.accepted();

    let away = Away::begin(&database).await;
    let reply = caller.publish(SMALL).await;
    reply.refused(503, "unavailable", "again");
    assert_eq!(reply.header("retry-after"), "1");
    serving.wait_for_log("answers 503").await;
    away.end().await;

    eventually(async || match caller.publish(SMALL).await {
        reply if reply.status == 202 => Ok(()),
        reply => Err(format!("{reply:?}")),
    })
    .await;
    serving.wait_for_log("can use the database again").await;
}

/// A database that takes nothing: a server that lets nobody in, a file that another one holds.
struct Away {
    sql: Connection,
    back: String,
}

impl Away {
    async fn begin(database: &TestDatabase) -> Self {
        let mut sql = database.connect().await;
        if database.backend() == Backend::Sqlite {
            sql.run("BEGIN IMMEDIATE").await;
            return Self {
                sql,
                back: "ROLLBACK".into(),
            };
        }
        let name = sql.text("SELECT current_database()").await;
        let server = std::env::var("POSTRIDER_TEST_POSTGRES").expect("a server");
        let mut sql = Connection::open(&server).await;
        let allow = |allowed| format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS {allowed}");
        sql.run(allow(false)).await;
        sql.run(format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
        Self {
            sql,
            back: allow(true),
        }
    }

    async fn end(mut self) {
        self.sql.run(&self.back).await;
    }
}
