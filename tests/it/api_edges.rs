//! Malformed and extreme requests to every documented route: each call is answered as the document
//! says, and never with an internal error.
//!
//! Where schemathesis draws what it sends, here stands what is known to be awkward.

use crate::api_routes::{operations, things};
use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Process, Receiver, Reply, TestDatabase, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;

on_both!(
    awkward_paths_and_queries_are_answered_as_documented,
    awkward_bodies_are_answered_as_documented,
    awkward_members_are_answered_as_documented,
    a_leap_second_is_a_time_like_others,
);

/// In the place of an id.
const IDS: &[&str] = &[
    "%00",
    "%2f",
    "%ff",
    "%",
    "..",
    "%20",
    "%ed%a0%80",
    "-1",
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "urn:uuid:01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e",
    "{01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e}",
    "01a1ff74ca0c7f358a515f0c6f6c1f9e%2f",
];

/// Behind a path.
const TAILS: &[&str] = &[
    "/",
    "//",
    "/.",
    "%2f",
    "?",
    "?&&",
    "?%00=1",
    "?colour=red",
    "?limit=0",
    "?limit=-1",
    "?limit=1e3",
    "?limit=99999999999999999999",
    "?limit=1&limit=2",
    "?cursor=",
    "?cursor=%00",
    "?cursor=AAAA",
    "?account=%00",
    "?account=%ff",
    "?event_type=%00",
    "?state=%00",
    "?hook=%00",
    "?event=..",
    "?since=%00",
    "?since=0000-01-01T00:00:00Z",
    "?since=2016-12-31T23:59:60Z",
    "?since=9999-12-31T23:59:60Z",
    "?until=%2B262142-01-01T00:00:00Z",
    "?until=2026-01-01T00:00:00%2B99:00",
];

/// A list of the kind that stands in a cursor, a byte, and the last thing of a page, which is
/// none that ever was.
const CURSORS: &[&str] = &[
    "AQAAAAAAAAAAAAAAAAAAAAA",
    "Av____________________8",
    "A3________________-AAAA",
    "BAAAAAAAAAAAgAAAAAAAAAA",
];

/// As the value of any member.
const VALUES: &[&str] = &[
    r#""\u0000""#,
    r#""\ud800""#,
    r#""""#,
    "1e400",
    "-1",
    "4294967296",
    "99999999999999999999",
    "null",
    r#"["\u0000"]"#,
    r#"["106751991167d"]"#,
    r#"{"a":"b\r\nc"}"#,
    r#"{"\u0000":"a"}"#,
    r#"{"user":"a","user":"b","password":"c"}"#,
    r#""99999999999999999999d""#,
    r#""999999999/s""#,
    r#""2016-12-31T23:59:60Z""#,
    r#""+10000-01-01T00:00:00Z""#,
    r#""http://a\u0000b/""#,
    r#""whsec_""#,
];

/// A server, someone who may do everything, and something of each kind to name in paths.
struct Setting {
    caller: Caller,
    /// Every operation: method, path with ids in it, and what is said of it.
    operations: Vec<(String, String, Value)>,
    schemas: Value,
    _serving: Process,
    _postrider: Postrider,
    _database: TestDatabase,
}

impl Setting {
    async fn on(backend: Backend) -> Self {
        let database = TestDatabase::migrated(backend).await;
        let postrider = Postrider::on(&database).with("POSTRIDER_API__RATE_LIMIT", "100000/s");
        let receiver = Receiver::accepting().await;
        let serving = postrider.serve().await;
        let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
        let things = things(&caller, &receiver).await;
        let document = caller.get("/openapi.json").await;
        let found = operations(&document)
            .filter(|(.., operation)| operation.get("security").is_none())
            .map(|(path, method, operation)| {
                let thing = path.split('/').nth(2).expect("a kind of thing");
                let path = path.replace("{id}", &things[thing]);
                (method.to_uppercase(), path, operation.clone())
            })
            .collect();
        Self {
            caller,
            operations: found,
            schemas: document["components"]["schemas"].clone(),
            _serving: serving,
            _postrider: postrider,
            _database: database,
        }
    }

    /// The operations that take a body, and the names of its members.
    fn with_bodies(&self) -> impl Iterator<Item = (&str, &str, &Value, BTreeSet<&str>)> {
        self.operations
            .iter()
            .filter_map(|(method, path, operation)| {
                let schema =
                    operation.pointer("/requestBody/content/application~1json/schema/$ref")?;
                let name = schema.as_str()?.rsplit('/').next()?;
                let members = self.schemas[name]["properties"].as_object()?;
                let members = members.keys().map(String::as_str).collect();
                Some((method.as_str(), path.as_str(), operation, members))
            })
    }
}

async fn awkward_paths_and_queries_are_answered_as_documented(backend: Backend) {
    let t = Setting::on(backend).await;
    for (method, path, operation) in &t.operations {
        let body = operation.get("requestBody").map(|_| "{}");
        let mut places: Vec<_> = TAILS.iter().map(|tail| format!("{path}{tail}")).collect();
        let cursors = CURSORS.iter();
        places.extend(cursors.map(|cursor| format!("{path}?cursor={cursor}")));
        // What a query says does not keep anybody from deleting a hook.
        places.retain(|place| method != "DELETE" || !place.contains('?'));
        let last = path.match_indices('/').nth(2).map(|(place, _)| place + 1);
        if let Some(start) = last {
            let end = path[start..]
                .find('/')
                .map_or(path.len(), |end| start + end);
            let (before, after) = (&path[..start], &path[end..]);
            let is_id = path[start..end].len() == 36;
            let ids = IDS.iter().filter(|_| is_id);
            places.extend(ids.map(|id| format!("{before}{id}{after}")));
        }
        for place in places {
            let reply = t.caller.exchange(method, &place, &[], body).await;
            // Some of them are paths of nothing, or of something else.
            if !matches!(reply.status, 404 | 405) {
                as_documented(operation, &reply, &format!("{method} {place}"));
            }
            no_fault(&reply, &format!("{method} {place}"));
        }
        for other in ["HEAD", "OPTIONS", "TRACE", "PUT", "get", "BREW"] {
            let reply = t.caller.exchange(other, path, &[], None).await;
            no_fault(&reply, &format!("{other} {path}"));
        }
    }
}

async fn awkward_bodies_are_answered_as_documented(backend: Backend) {
    let t = Setting::on(backend).await;
    let bodies = [
        String::new(),
        "null".into(),
        "\u{feff}{}".into(),
        "{}{}".into(),
        "{\"a\":\"\0\"}".into(),
        r#"{"\u0000":1}"#.into(),
        r#"{"\ud800":1}"#.into(),
        "[".repeat(100_000),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000)),
        format!("\"{}\"", "x".repeat(1024 * 1024 - 1)),
        format!("{{{}\"a\":1}}", "\"a\":1,".repeat(50_000)),
    ];
    let mut operations = 0;
    for (method, path, operation, members) in t.with_bodies() {
        let what = format!("{method} {path}");
        let twice = members
            .iter()
            .map(|name| format!(r#""{name}":1,"{name}":2"#));
        let twice = format!("{{{}}}", twice.collect::<Vec<_>>().join(","));
        for body in bodies.iter().chain([&twice]) {
            let reply = t.caller.exchange(method, path, &[], Some(body)).await;
            let what = format!("{what} {body:.60}");
            as_documented(operation, &reply, &what);
            // Where everything can be left out, the body can.
            let is_whole = body.is_empty() && reply.status == 200;
            assert!(is_whole || reply.status >= 400, "{what}: {reply:?}");
        }
        let authorization = format!("Bearer {}", t.caller.token());
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "a",
            "/",
            "",
        ] {
            let headers = [
                ("authorization", authorization.as_str()),
                ("content-type", media_type),
            ];
            let reply = t.caller.send(method, path, &headers, "{}").await;
            let reply = reply.expect("an answer");
            reply.refused(415, "unsupported-media-type", "application/json");
        }
        operations += 1;
    }
    assert!(operations > 5, "{operations}");
}

async fn awkward_members_are_answered_as_documented(backend: Backend) {
    let t = Setting::on(backend).await;
    let mut sent = 0;
    for (method, path, operation, members) in t.with_bodies() {
        for name in members {
            for value in VALUES {
                let body = body_with(method, path, name, value);
                let reply = t.caller.exchange(method, path, &[], Some(&body)).await;
                as_documented(operation, &reply, &format!("{method} {path} {body}"));
                sent += 1;
            }
        }
    }
    assert!(sent > 500, "{sent}");
}

async fn a_leap_second_is_a_time_like_others(backend: Backend) {
    let t = Setting::on(backend).await;
    let event = json!({"event_type": "a", "payload": 1, "occurred_at": "2016-12-31T23:59:60Z"});
    let id = t.caller.publish(&event.to_string()).await.accepted();
    let shown = t.caller.get(&format!("/v1/events/{id}")).await;
    assert_eq!(shown["occurred_at"], "2017-01-01T00:00:00Z");
}

/// A body that would do, but for one member.
fn body_with(method: &str, path: &str, name: &str, value: &str) -> String {
    let good: &[(&str, &str)] = match (method, path) {
        ("POST", "/v1/events") => &[("event_type", r#""a""#), ("payload", "1")],
        ("POST", "/v1/hooks") => &[("url", r#""https://example.com""#), ("events", r#"["no"]"#)],
        ("POST", path) if path.ends_with("/redeliver") => &[("since", r#""9999-01-01T00:00:00Z""#)],
        _ => &[],
    };
    let others = good.iter().filter(|(other, _)| *other != name);
    let odd = (name, value);
    let members = others.chain([&odd]);
    let members: Vec<_> = members
        .map(|(name, value)| format!(r#""{name}":{value}"#))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn as_documented(operation: &Value, reply: &Reply, what: &str) {
    no_fault(reply, what);
    let documented = operation["responses"].get(reply.status.to_string());
    assert!(documented.is_some(), "{what}: {reply:?}");
}

/// Checks that it is no fault of ours, and if it is a refusal, one that can be read.
fn no_fault(reply: &Reply, what: &str) {
    assert!(reply.status < 500, "{what}: {reply:?}");
    let is_problem = reply.header("content-type") == "application/problem+json";
    assert_eq!(reply.status >= 400, is_problem, "{what}: {reply:?}");
}
