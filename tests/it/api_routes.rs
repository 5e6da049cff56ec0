//! Every route of the API is documented, requires a key, and hides the resources of other accounts.
//! A new route fails here until it is in the table.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, Reply, TestDatabase, eventually, on_both};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

on_both!(
    no_route_is_open_to_those_it_is_not_for,
    every_documented_route_is_there_with_its_methods,
);

/// What a call without a key, or with one for something else, must come to.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Of one thing, named in the path: others do not find it.
    OfOne,
    /// A listing: others see nothing of it.
    Listing,
    /// Makes something new, in the caller's own account only.
    Making,
    /// Publishes, which a key for publishing may do too.
    Publishing,
}

/// The routes: method, path, kind and a body that would be accepted.
fn table() -> Vec<(&'static str, &'static str, Kind, Option<Value>)> {
    use Kind::{Listing, Making, OfOne, Publishing};
    let hook = json!({"url": "https://example.com", "events": ["*"], "account": "acme"});
    let event = json!({"event_type": "a", "payload": 1, "account": "acme"});
    vec![
        ("post", "/v1/events", Publishing, Some(event.clone())),
        ("get", "/v1/events", Listing, None),
        (
            "post",
            "/v1/events/batch",
            Publishing,
            Some(json!({"events": [event]})),
        ),
        ("get", "/v1/events/{id}", OfOne, None),
        ("post", "/v1/hooks", Making, Some(hook)),
        ("get", "/v1/hooks", Listing, None),
        ("get", "/v1/hooks/{id}", OfOne, None),
        (
            "patch",
            "/v1/hooks/{id}",
            OfOne,
            Some(json!({"url": "https://evil.example"})),
        ),
        ("delete", "/v1/hooks/{id}", OfOne, None),
        ("post", "/v1/hooks/{id}/pause", OfOne, None),
        ("post", "/v1/hooks/{id}/enable", OfOne, None),
        ("post", "/v1/hooks/{id}/disable", OfOne, None),
        ("post", "/v1/hooks/{id}/test", OfOne, None),
        ("post", "/v1/hooks/{id}/rotate-secret", OfOne, None),
        ("get", "/v1/hooks/{id}/history", OfOne, None),
        (
            "post",
            "/v1/hooks/{id}/redeliver",
            OfOne,
            Some(json!({"since": "2000-01-01T00:00:00Z", "state": "delivered"})),
        ),
        ("post", "/v1/hooks/{id}/discard", OfOne, None),
        ("get", "/v1/deliveries", Listing, None),
        ("get", "/v1/deliveries/{id}", OfOne, None),
        ("get", "/v1/deliveries/{id}/attempts", OfOne, None),
        ("post", "/v1/deliveries/{id}/redeliver", OfOne, None),
        ("post", "/v1/deliveries/{id}/discard", OfOne, None),
    ]
}

async fn no_route_is_open_to_those_it_is_not_for(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let admin = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let own = Caller::with_scope(&postrider, &serving, "account", Some("acme")).await;
    let things = things(&own, &receiver).await;

    let document = admin.get("/openapi.json").await;
    let documented: BTreeSet<_> = operations(&document)
        .filter(|(.., operation)| operation.get("security").is_none())
        .map(|(path, method, _)| (method.to_owned(), path.to_owned()))
        .collect();
    let known: BTreeSet<_> = table()
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(known, documented, "the table has every route, and no other");

    let before = everything(&admin, &things).await;
    let revoked = postrider.json(&["key", "create", "--scope", "admin"]).await;
    postrider
        .json(&["key", "revoke", revoked["id"].as_str().expect("an id")])
        .await;
    let revoked = revoked["token"].as_str().expect("a token");
    let other = Caller::with_scope(&postrider, &serving, "account", Some("other")).await;
    let publisher = Caller::with_scope(&postrider, &serving, "publish", Some("other")).await;
    for (method, path, kind, body) in table() {
        let thing = path.split('/').nth(2).expect("a kind of thing");
        let path = path.replace("{id}", things.get(thing).expect("one of them"));
        let (method, path) = (method.to_uppercase(), path.as_str());
        let body = body.map(|body| body.to_string());
        let what = format!("{method} {path}");
        for key in [None, Some("pr_"), Some(revoked)] {
            let reply = with_key(&admin, key, &method, path, body.as_deref()).await;
            reply.refused(401, "unauthorized", "key");
            assert!(
                reply.header("www-authenticate").starts_with("Bearer"),
                "{what}"
            );
        }
        let by_other = other.exchange(&method, path, &[], body.as_deref()).await;
        let by_publisher = publisher
            .exchange(&method, path, &[], body.as_deref())
            .await;
        match kind {
            Kind::OfOne => by_other.refused(404, "not-found", "There is no "),
            Kind::Listing => {
                assert_eq!(by_other.json()["data"], json!([]), "{what}");
                let asked = other.call(&method, &format!("{path}?account=acme")).await;
                asked.refused(403, "forbidden", "other");
            }
            Kind::Making => by_other.refused(403, "forbidden", "other"),
            Kind::Publishing => assert!(matches!(by_other.status, 403 | 422), "{by_other:?}"),
        }
        match kind {
            Kind::Publishing => assert_eq!(by_publisher.status, by_other.status, "{what}"),
            _ => by_publisher.refused(403, "forbidden", "publish"),
        }
    }
    assert_eq!(
        everything(&admin, &things).await,
        before,
        "nothing was changed"
    );
    assert_eq!(receiver.count(), 1, "nothing was sent");
}

async fn every_documented_route_is_there_with_its_methods(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let anyone = Caller::of(&serving, "none").await;
    let document = anyone.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        let methods = paths.entry(path.to_owned()).or_default();
        methods.insert(method.to_uppercase());
        if method == "get" {
            methods.insert("HEAD".into());
        }
    }
    assert!(paths.len() > 10, "{paths:?}");
    for (path, methods) in paths {
        let path = path.replace("{id}", "01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e");
        let reply = anyone
            .send("OPTIONS", &path, &[], "")
            .await
            .expect("an answer");
        assert_eq!(reply.status, 204, "{path}: {reply:?}");
        let allowed: BTreeSet<_> = reply
            .header("allow")
            .split(',')
            .map(str::to_owned)
            .collect();
        assert_eq!(allowed, methods, "{path}");
        let reply = anyone.call("PUT", &path).await;
        reply.refused(405, "method-not-allowed", "PUT");
    }
    let page = anyone.call("GET", "/docs").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for (path, _, operation) in operations(&document) {
        assert!(page.body.contains(path), "{path} is not on the page");
        let summary = operation["summary"].as_str().expect("a summary");
        assert!(page.body.contains(summary), "{summary} is not on the page");
    }
    assert!(!page.body.contains("<script") && !page.body.contains("src="));
}

/// A route that is added by `routes!` is in the document, and one that a dialect has as data is in
/// its list; no other way is taken.
#[test]
fn no_route_passes_the_document_by() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/api/src");
    let mut folders = vec![PathBuf::from(sources)];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("probes.rs") && !path.ends_with("dialects/route.rs") {
                check_source(&path);
                looked += 1;
            }
        }
    }
    assert!(looked > 20, "{looked}");
}

fn check_source(path: &Path) {
    let source = std::fs::read_to_string(path).expect("a source");
    let program = source.split("#[cfg(test)]").next().unwrap_or_default();
    for other in [".route(", ".route_service(", ".nest_service("] {
        assert!(!program.contains(other), "{} has {other}", path.display());
    }
}

/// A hook, an event and a delivery of the caller's account, by their place in paths.
pub async fn things(caller: &Caller, receiver: &Receiver) -> BTreeMap<&'static str, String> {
    let hook = json!({"url": receiver.url(), "events": ["*"]});
    let hook = caller.call_with("POST", "/v1/hooks", &hook).await.json();
    let event = r#"{"event_type":"a","payload":1}"#;
    let event = caller.publish(event).await.accepted();
    let listing = format!("/v1/deliveries?event={event}&state=delivered");
    let mut delivery = Value::Null;
    eventually(async || {
        let page = caller.get(&listing).await;
        delivery = page.pointer("/data/0/id").cloned().unwrap_or_default();
        match delivery.is_string() {
            true => Ok(()),
            false => Err("nothing was delivered".into()),
        }
    })
    .await;
    let text = |id: &Value| id.as_str().expect("an id").to_owned();
    BTreeMap::from([
        ("hooks", text(&hook["id"])),
        ("events", event),
        ("deliveries", text(&delivery)),
    ])
}

/// All that can be seen.
async fn everything(admin: &Caller, things: &BTreeMap<&'static str, String>) -> Vec<Value> {
    let mut seen = Vec::new();
    for (kind, id) in things {
        seen.push(admin.get(&format!("/v1/{kind}/{id}")).await);
        seen.push(admin.get(&format!("/v1/{kind}")).await);
    }
    seen
}

async fn with_key(
    caller: &Caller,
    key: Option<&str>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Reply {
    let authorization = format!("Bearer {}", key.unwrap_or_default());
    let mut headers = Vec::new();
    headers.extend(key.map(|_| ("authorization", authorization.as_str())));
    headers.extend(body.map(|_| ("content-type", "application/json")));
    let reply = caller
        .send(method, path, &headers, body.unwrap_or_default())
        .await;
    reply.expect("an answer")
}

/// Path, method and operation of each that is documented.
pub fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}
