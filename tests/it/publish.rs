//! Events that come in over HTTP: what was accepted is delivered, and the rest is refused with
//! a word on what to do.

use postrider_core::PAYLOAD_MAX_BYTES;
use postrider_store::Backend;
use postrider_tests::{
    Caller, Connection, Postrider, Receiver, Reply, TestDatabase, eventually, on_both, value_of,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

on_both!(
    what_is_published_is_delivered_byte_for_byte,
    every_field_is_kept,
    each_refusal_says_what_to_do,
    a_payload_may_be_as_large_as_one_in_the_outbox,
    a_key_bound_to_an_account_publishes_there_alone,
    a_key_works_at_once_and_is_refused_a_second_after_it_is_revoked,
    a_use_of_a_key_is_recorded,
    what_was_accepted_survives_a_server_killed_in_the_next_instant,
    an_event_published_in_one_process_is_delivered_by_another,
    a_database_that_cannot_be_written_is_no_end,
);

const QUEUED: &str = "SELECT count(*) FROM postrider_outbox";

/// JSON that anything which parses it would write differently.
const AWKWARD: &str = "{\"b\": 1.0,  \"a\":\"\\u0000\",\n\"b\":2,\"big\":1e999,\"half\":\"\\ud800\",\
                       \"ü\":\"€\\ud83d\\ude00'\\\"\"}";

async fn what_is_published_is_delivered_byte_for_byte(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    postrider
        .json(&[&add[..], &["--body", "payload"]].concat())
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let payloads = [AWKWARD, "null", "7", "\"x\"", "[ ]"];
    let mut published = Vec::new();
    for (n, payload) in payloads.into_iter().enumerate() {
        let body = format!("{{\"payload\" : {payload} ,\n\"event_type\":\"invoice.p\\u0061id\"}}");
        let reply = match n {
            0 => caller.publish_in_chunks(&body).await.expect("an answer"),
            _ => caller.publish(&body).await,
        };
        published.push((accepted(&reply), payload));
        assert_eq!(reply.header("content-type"), "application/json");
    }
    receiver.wait_for(payloads.len()).await;
    for (id, payload) in published {
        let requests = receiver.requests();
        let request = requests.iter().find(|request| request.id() == id);
        let request = request.unwrap_or_else(|| panic!("{id} never came"));
        assert_eq!(request.body, payload);
    }
    let (_, metrics) = serving.get("/metrics").await;
    let labels = r#"{method="POST",route="/v1/events",status="202"}"#;
    let counted = value_of(&metrics, &format!("postrider_http_requests_total{labels}"));
    assert_eq!(counted, payloads.len() as f64);
}

async fn every_field_is_kept(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let body = json!({
        "event_type": "invoice.paid",
        "payload": {"id": 1},
        "account": "acme 'ü'",
        "ordering_key": "order \"7\"",
        "dedup_key": "dedup \\ 7",
        "occurred_at": "2026-01-31T13:00:00.0000019+01:00",
        "deliver_after": null,
    });
    let id = accepted(&caller.publish(&body.to_string()).await);
    let shown = postrider.json(&["event", "show", &id]).await;
    for field in [
        "event_type",
        "payload",
        "account",
        "ordering_key",
        "dedup_key",
    ] {
        assert_eq!(shown[field], body[field], "{field}");
    }
    assert_eq!(shown["occurred_at"], "2026-01-31T12:00:00.000001Z");
    assert_eq!(shown["state"], "queued");

    let id = accepted(&caller.publish(SMALL).await);
    let shown = postrider.json(&["event", "show", &id]).await;
    assert_eq!(shown["account"], "default");
}

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
        refused(&reply, status, kind, words);
        let pointed = reply.json()["errors"][0]["pointer"].clone();
        assert_eq!(pointed.as_str(), pointer, "{body:.100}: {reply:?}");
    }
    let reply = caller
        .publish_in_chunks(&large(2 * PAYLOAD_MAX_BYTES))
        .await;
    refused(&reply.expect("an answer"), 413, "too-large", "at most");

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
            "GET",
            "/v1/events",
            &[ours],
            405,
            "method-not-allowed",
            "GET",
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
        refused(&reply, status, kind, words);
        match status {
            401 => assert!(
                reply
                    .header("www-authenticate")
                    .starts_with("Bearer realm="),
                "{reply:?}"
            ),
            405 => assert_eq!(reply.header("allow"), "POST"),
            _ => {}
        }
    }
    assert_eq!(database.connect().await.number(QUEUED).await, 0);
    let said = serving.stderr().join("\n");
    assert!(!said.contains(&token[3..]), "a token is in the log: {said}");
    accepted(&caller.publish(SMALL).await);
}

async fn a_payload_may_be_as_large_as_one_in_the_outbox(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    postrider
        .json(&[&add[..], &["--body", "payload"]].concat())
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let largest = format!("\"{}\"", "x".repeat(PAYLOAD_MAX_BYTES - 2));
    let mut publishing = JoinSet::new();
    for _ in 0..30 {
        let body = format!(r#"{{"event_type":"large","payload":{largest}}}"#);
        let caller = caller.clone();
        publishing.spawn(async move { accepted(&caller.publish(&body).await) });
    }
    let published = publishing.join_all().await.into_iter().collect();
    receiver.wait_for_events(&published).await;
    assert!(receiver.requests().iter().all(|r| r.body == largest));
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
        assert_eq!(keys.len(), 6, "{key}");
        assert_eq!(key["scope"], scope);
        assert_eq!(key["account"].as_str(), own);
        assert_eq!(key["name"], "shop 'ü'");

        let caller = Caller::of(&serving, token).await;
        for asked in [None, Some("acme"), Some("other")] {
            let reply = caller.publish(&asking(asked).to_string()).await;
            let expected = match (own, asked) {
                (Some(own), Some(asked)) if own != asked => {
                    refused(&reply, 403, "forbidden", "bound to the account \"acme\"");
                    continue;
                }
                (own, asked) => asked.or(own).unwrap_or("default"),
            };
            let id = accepted(&reply);
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
        accepted(&caller.publish(SMALL).await);
        let revoke = ["key", "revoke", key["id"].as_str().expect("an id")];
        let revoked = postrider.json(&revoke).await;
        assert!(revoked["revoked_at"].is_string(), "{revoked}");
        // The time that is promised: no sign tells when a process forgets.
        tokio::time::sleep(Duration::from_secs(1)).await;
        refused(&caller.publish(SMALL).await, 401, "unauthorized", "revoked");
    }
}

async fn a_use_of_a_key_is_recorded(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let mut serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let used = async || postrider.listing(&["key", "list"]).await[0]["last_used_at"].clone();
    assert_eq!(used().await, Value::Null);
    accepted(&caller.publish(SMALL).await);
    serving.terminate().await;
    assert!(serving.ended().await.success(), "{serving}");
    assert!(used().await.is_string());
}

async fn what_was_accepted_survives_a_server_killed_in_the_next_instant(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s")
        .with("POSTRIDER_WORKER__LEASE", "6s");
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let mut acknowledged = BTreeSet::new();
    for round in 1..=4 {
        let serving = postrider.serve().await;
        let caller = Caller::publishing(&postrider, &serving).await;
        let mut publishing = JoinSet::new();
        for _ in 0..60 {
            let caller = caller.clone();
            publishing.spawn(async move { caller.try_publish(SMALL).await });
        }
        let before = acknowledged.len();
        while acknowledged.len() < before + 7 * round {
            let reply = publishing.join_next().await.expect("a request");
            acknowledged.insert(accepted(&reply.expect("a task").expect("an answer")));
        }
        serving.kill().await;
        // Some had been answered by then, the others never are.
        for reply in publishing.join_all().await.into_iter().flatten() {
            acknowledged.insert(accepted(&reply));
        }
    }
    let _last = postrider.serve().await;
    receiver.wait_for_events(&acknowledged).await;
    assert!(acknowledged.len() >= 70);
}

async fn an_event_published_in_one_process_is_delivered_by_another(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let api = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &api).await;
    let first = accepted(&caller.publish(SMALL).await);
    let worker = postrider.serve_as("worker").await;
    receiver.wait_for_events(&[first].into()).await;
    let second = accepted(&caller.publish(SMALL).await);
    receiver.wait_for_events(&[second].into()).await;
    assert!(!worker.stdout()[0].contains("\"api\""), "{worker}");
    assert_eq!(receiver.count(), 2);
}

async fn a_database_that_cannot_be_written_is_no_end(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    accepted(&caller.publish(SMALL).await);

    let away = Away::begin(&database).await;
    let reply = caller.publish(SMALL).await;
    refused(&reply, 503, "unavailable", "again");
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

#[tokio::test]
async fn on_postgres_many_at_once_share_their_commits() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let mut sql = database.connect().await;
    sql.run("BEGIN; LOCK TABLE postrider_outbox IN SHARE MODE")
        .await;
    let mut publishing = JoinSet::new();
    for _ in 0..200 {
        let caller = caller.clone();
        publishing.spawn(async move { accepted(&caller.publish(SMALL).await) });
    }
    inserts_wait(&mut sql, 2).await;
    sql.run("COMMIT").await;
    let ids: BTreeSet<_> = publishing.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 200);
    let kept = sql.number(QUEUED).await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM postrider_outbox";
    let transactions = sql.number(transactions).await;
    assert_eq!(kept, 200);
    assert!(transactions < 100, "{transactions} transactions");
}

#[tokio::test]
async fn on_postgres_what_was_accepted_is_answered_before_the_process_ends() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    let mut serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let mut sql = database.connect().await;
    sql.run("BEGIN; LOCK TABLE postrider_outbox IN SHARE MODE")
        .await;
    let publishing = tokio::spawn(async move { caller.publish(SMALL).await });
    inserts_wait(&mut sql, 1).await;
    serving.terminate().await;
    serving.wait_for_log("Draining").await;
    sql.run("COMMIT").await;
    accepted(&publishing.await.expect("a task"));
    assert!(serving.ended().await.success(), "{serving}");
    assert_eq!(sql.number(QUEUED).await, 1);
}

/// The id of the event that was accepted.
fn accepted(reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{reply:?}");
    let body = reply.json();
    let id = body["id"].as_str().expect("an id");
    assert_eq!(reply.body, format!("{{\"id\":\"{id}\"}}"));
    id.to_owned()
}

/// Checks that it is a refusal of this kind, that says so.
fn refused(reply: &Reply, status: u16, kind: &str, words: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let content_type = reply.header("content-type");
    assert_eq!(content_type, "application/problem+json", "{reply:?}");
    let problem = reply.json();
    assert_eq!(problem["type"], format!("urn:postrider:problem:{kind}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string(), "{problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(words), "no {words:?} in: {problem}");
}

/// Waits until so many inserts wait for a lock.
async fn inserts_wait(sql: &mut Connection, expected: i64) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                   AND relation = 'postrider_outbox'::regclass";
    eventually(async || match sql.number(waiting).await {
        waiting if waiting == expected => Ok(()),
        waiting => Err(format!("{waiting} inserts wait instead of {expected}")),
    })
    .await;
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
