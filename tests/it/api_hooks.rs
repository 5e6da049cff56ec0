//! Managing hooks over HTTP: workers apply each change, and each refusal says what to do.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, TestDatabase, eventually, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

on_both!(
    a_hook_is_registered_shown_and_delivered_to,
    a_change_holds_for_what_comes_next,
    a_hook_gets_no_payload_larger_than_it_takes,
    a_held_hook_goes_on_when_it_is_enabled,
    a_hook_is_tested_whatever_its_status,
    tests_that_hang_leave_places_for_those_of_other_accounts,
    a_rotated_secret_signs_beside_the_old_one,
    faults_of_a_hook_are_reported_by_their_places,
    pages_show_each_hook_once_while_others_are_added,
    the_history_of_a_hook_says_who_made_each_change,
    many_deliveries_are_sent_again_page_by_page,
    held_deliveries_are_discarded,
    without_a_key_for_secrets_only_what_needs_none_works,
);

const EVENT: &str = r#"{"event_type":"invoice.paid","payload":{"id":1}}"#;

async fn a_hook_is_registered_shown_and_delivered_to(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let body = json!({
        "url": receiver.url(),
        "events": ["invoice.*", "order.paid"],
        "body": "payload",
        "headers": {"X-Environment": "test"},
        "basic": {"user": "shop", "password": "secret: 7"},
        "timeout": "5s",
        "retry_schedule": ["10s", "1m"],
        "rate": "500/s",
        "disable_after_failures": 7,
    });
    let reply = caller.call_with("POST", "/v1/hooks", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let made = reply.json();
    let id = made["id"].as_str().expect("an id");
    assert_eq!(reply.header("location"), format!("/v1/hooks/{id}"));
    assert!(
        made["secret"]
            .as_str()
            .is_some_and(|s| s.starts_with("whsec_"))
    );
    assert_eq!(made["account"], "default");
    assert_eq!(made["settings"]["retry_schedule"], json!(["10s", "1m"]));

    let mut shown = caller.get(&format!("/v1/hooks/{id}")).await;
    assert!(shown.get("secret").is_none(), "{shown}");
    let mut by_command = postrider.json(&["hook", "show", id]).await;
    by_command
        .as_object_mut()
        .expect("a hook")
        .remove("history");
    assert_eq!(shown, by_command);
    shown["secret"] = made["secret"].clone();
    assert_eq!(shown, made);

    caller.publish(EVENT).await.accepted();
    receiver.wait_for(1).await;
    let request = &receiver.requests()[0];
    assert_eq!(request.body, r#"{"id":1}"#);
    assert_eq!(request.header("x-environment"), "test");
    assert_eq!(
        request.header("authorization"),
        "Basic c2hvcDpzZWNyZXQ6IDc="
    );

    let reply = caller.call("DELETE", &format!("/v1/hooks/{id}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let gone = caller.call("GET", &format!("/v1/hooks/{id}")).await;
    gone.refused(404, "not-found", id);
    assert_eq!(caller.get("/v1/hooks").await["data"], json!([]));
}

async fn a_change_holds_for_what_comes_next(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let (first, second) = (Receiver::accepting().await, Receiver::accepting().await);
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(
        &caller,
        json!({"url": first.url(), "events": ["*"], "in_flight": 3}),
    )
    .await;
    let path = format!("/v1/hooks/{hook}");
    caller.publish(EVENT).await.accepted();
    first.wait_for(1).await;

    let change = json!({
        "url": second.url(),
        "filter": "id == 2",
        "headers": {"x-new": "yes"},
        "in_flight": null,
        "timeout": "3s",
    });
    let reply = caller.call_with("PATCH", &path, &change).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let changed = reply.json();
    assert_eq!(changed["url"], second.url());
    assert_eq!(changed["filter"], "id == 2");
    assert_eq!(changed["in_flight"], Value::Null);
    assert_eq!(changed["settings"]["timeout"], "3s");
    assert_eq!(changed["events"], json!(["*"]), "what is not named stays");
    caller.publish(EVENT).await.accepted();
    let fits = r#"{"event_type":"invoice.paid","payload":{"id":2}}"#;
    let id = caller.publish(fits).await.accepted();
    second.wait_for_events(&[id].into()).await;
    assert_eq!((first.count(), second.count()), (1, 1));
    assert_eq!(second.requests()[0].header("x-new"), "yes");

    // Nothing of a change that is refused is made.
    let refused = json!({"filter": null, "url": "ftp://example.com"});
    let reply = caller.call_with("PATCH", &path, &refused).await;
    reply.refused(422, "invalid", "/url");
    assert_eq!(caller.get(&path).await["filter"], "id == 2");
}

async fn a_hook_gets_no_payload_larger_than_it_takes(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let body = json!({"url": receiver.url(), "events": ["*"], "max_payload_bytes": 8});
    let hook = make(&caller, body).await;
    let path = format!("/v1/hooks/{hook}");
    let large = r#"{"event_type":"a","payload":{"id":10}}"#;
    let dropped = caller.publish(large).await.accepted();
    let small = r#"{"event_type":"a","payload":{"id":1}}"#;
    let first = caller.publish(small).await.accepted();
    receiver.wait_for_events(&[first].into()).await;

    let change = json!({"max_payload_bytes": null});
    let reply = caller.call_with("PATCH", &path, &change).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.json()["settings"].get("max_payload_bytes").is_none());
    let second = caller.publish(large).await.accepted();
    receiver.wait_for_events(&[second].into()).await;
    assert_eq!(receiver.count(), 2, "nothing was sent for {dropped}");

    let refused = json!({"max_payload_bytes": 0});
    let reply = caller.call_with("PATCH", &path, &refused).await;
    reply.refused(422, "invalid", "/max_payload_bytes: must be at least 1");
}

async fn a_held_hook_goes_on_when_it_is_enabled(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "account", Some("acme")).await;
    let hook = make(&caller, json!({"url": receiver.url(), "events": ["*"]})).await;
    for (action, status) in [("pause", "paused"), ("disable", "disabled")] {
        let reply = caller
            .call("POST", &format!("/v1/hooks/{hook}/{action}"))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["status"], status);
    }
    let shown = caller.get(&format!("/v1/hooks/{hook}")).await;
    assert_eq!(shown["disabled_reason"], "manual");
    let by = shown["disabled_by"].as_str().expect("by whom");
    assert!(by.starts_with("api "), "{by}");
    caller.publish(EVENT).await.accepted();
    let enabled = caller
        .call("POST", &format!("/v1/hooks/{hook}/enable"))
        .await;
    assert_eq!(enabled.json()["status"], "active");
    receiver.wait_for(1).await;
}

async fn a_hook_is_tested_whatever_its_status(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([200, 500]).await;
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(
        &caller,
        json!({"url": receiver.url(), "events": ["invoice.*"]}),
    )
    .await;
    let path = format!("/v1/hooks/{hook}");
    caller.call("POST", &format!("{path}/pause")).await;
    for (outcome, status) in [("accepted", 200), ("refused", 500)] {
        let reply = caller.call("POST", &format!("{path}/test")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let attempt = reply.json();
        assert_eq!(
            (&attempt["outcome"], &attempt["status"]),
            (&json!(outcome), &json!(status))
        );
    }
    assert_eq!(receiver.requests()[0].json()["type"], "postrider.test");
    let shown = caller.get(&path).await;
    assert_eq!(shown["fail_count"], 0, "a test counts for nothing");
}

async fn tests_that_hang_leave_places_for_those_of_other_accounts(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let (hanging, other) = (Receiver::accepting().await, Receiver::accepting().await);
    hanging.hold();
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = async |account: &str, receiver: &Receiver| {
        let body = json!({"account": account, "url": receiver.url(), "events": ["*"]});
        format!("/v1/hooks/{}/test", make(&caller, body).await)
    };
    let (mine, theirs) = (hook("a", &hanging).await, hook("b", &other).await);
    let mut tests = JoinSet::new();
    for _ in 0..8 {
        let (caller, path) = (caller.clone(), mine.clone());
        tests.spawn(async move { caller.call("POST", &path).await.status });
    }
    hanging.wait_for(8).await;
    let refused = caller.call("POST", &mine).await;
    refused.refused(429, "rate-limited", "try again");
    let reply = caller.call("POST", &theirs).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    hanging.release();
    assert_eq!(tests.join_all().await, [200; 8]);
    let reply = caller.call("POST", &mine).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

async fn a_rotated_secret_signs_beside_the_old_one(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(&caller, json!({"url": receiver.url(), "events": ["*"]})).await;
    let rotate = format!("/v1/hooks/{hook}/rotate-secret");
    let reply = caller.call("POST", &rotate).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let drawn = reply.json()["secret"].clone();
    assert!(
        drawn
            .as_str()
            .is_some_and(|secret| secret.starts_with("whsec_"))
    );
    caller.publish(EVENT).await.accepted();
    receiver.wait_for(1).await;
    let signatures = |n: usize| {
        let request = &receiver.requests()[n];
        request.header("webhook-signature").split(' ').count()
    };
    assert_eq!(signatures(0), 2);

    let given = format!("whsec_{}", "QUJD".repeat(8));
    let body = json!({"secret": given, "overlap": "0s"});
    let reply = caller.call_with("POST", &rotate, &body).await;
    assert_eq!(reply.json()["secret"], given);
    caller.publish(EVENT).await.accepted();
    receiver.wait_for(2).await;
    assert_eq!(
        signatures(1),
        1,
        "without an overlap the old one signs no more"
    );
}

async fn faults_of_a_hook_are_reported_by_their_places(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let url = "https://example.com/hook";
    let many: Vec<_> = (0..101).map(|n| format!("a{n}")).collect();
    for (body, pointers) in [
        (json!([]), &[""][..]),
        (json!({"events": ["*"]}), &["/url"]),
        (json!({"url": url}), &["/events"]),
        (json!({"url": url, "events": []}), &["/events"]),
        (json!({"url": url, "events": many}), &["/events"]),
        (
            json!({"url": url, "events": ["a", "b*", "c d"]}),
            &["/events/1", "/events/2"],
        ),
        (
            json!({"url": "https://u:p@example.com", "events": ["*"]}),
            &["/url"],
        ),
        (
            json!({"url": url, "events": ["*"], "filter": "a =="}),
            &["/filter"],
        ),
        (
            json!({"url": url, "events": ["*"], "rate": "fast", "in_flight": -1}),
            &["/in_flight", "/rate"],
        ),
        (
            json!({"url": url, "events": ["*"], "in_flight": 0}),
            &["/in_flight"],
        ),
        (
            json!({"url": url, "events": ["*"], "timeout": "0s"}),
            &["/timeout"],
        ),
        (
            json!({"url": url, "events": ["*"], "headers": {"host": "a"}}),
            &["/headers"],
        ),
        (
            json!({"url": url, "events": ["*"], "headers": {"x": 1}}),
            &["/headers"],
        ),
        (
            json!({"url": url, "events": ["*"], "basic": {"user": "a:b", "password": ""}}),
            &["/basic/user"],
        ),
        (
            json!({"url": url, "events": ["*"], "profile": "smoke"}),
            &["/profile"],
        ),
        (
            json!({"url": url, "events": ["*"], "secret": "hunter2"}),
            &["/secret"],
        ),
        (
            json!({"url": url, "events": ["*"], "account": ""}),
            &["/account"],
        ),
        (
            json!({"url": url, "events": ["*"], "retry_schedule": ["soon"]}),
            &["/retry_schedule/0"],
        ),
        (
            json!({"url": url, "events": ["*"], "colour": "red"}),
            &["/colour"],
        ),
    ] {
        let reply = caller.call_with("POST", "/v1/hooks", &body).await;
        assert_eq!(told(&reply.json()), pointers, "{body}: {reply:?}");
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(!reply.body.contains("hunter2"), "{reply:?}");
    }
    let reply = caller.exchange("POST", "/v1/hooks", &[], Some("{")).await;
    reply.refused(400, "malformed-json", "not valid JSON");
    let id = make(&caller, json!({"url": url, "events": ["*"]})).await;
    let reply = caller
        .call_with("PATCH", &format!("/v1/hooks/{id}"), &json!({}))
        .await;
    reply.refused(422, "invalid", "nothing to change");
    for path in [
        "/v1/hooks/7",
        "/v1/hooks/%FF",
        "/v1/hooks/01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e",
    ] {
        caller
            .call("GET", path)
            .await
            .refused(404, "not-found", "There is no hook");
    }
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=251", "limit"),
        ("cursor=AAAA", "cursor"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ] {
        let reply = caller.call("GET", &format!("/v1/hooks?{query}")).await;
        reply.refused(400, "invalid-parameter", parameter);
        assert_eq!(
            reply.json()["errors"][0]["parameter"],
            parameter,
            "{reply:?}"
        );
    }
}

async fn pages_show_each_hook_once_while_others_are_added(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let mut made = BTreeSet::new();
    for n in 0..45 {
        let body = json!({"url": format!("https://example.com/{n}"), "events": ["*"]});
        made.insert(make(&caller, body).await);
    }
    let (mut seen, mut sizes, mut query) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("/v1/hooks?limit=20{query}")).await;
        let hooks = page["data"].as_array().expect("hooks");
        sizes.push(hooks.len());
        let ids = hooks
            .iter()
            .map(|hook| hook["id"].as_str().expect("an id").to_owned());
        seen.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("&cursor={cursor}");
        if sizes.len() == 1 {
            let other = json!({"url": "https://example.com/x", "events": ["*"]});
            make(&caller, other).await;
        }
    }
    assert_eq!(sizes, [20, 20, 6]);
    let before: BTreeSet<_> = seen.iter().take(45).cloned().collect();
    assert_eq!(before, made);
}

async fn the_history_of_a_hook_says_who_made_each_change(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(
        &caller,
        json!({"url": "https://example.com", "events": ["*"]}),
    )
    .await;
    let path = format!("/v1/hooks/{hook}");
    caller
        .call_with(
            "PATCH",
            &path,
            &json!({"filter": "a == 1", "url": "https://b.example"}),
        )
        .await;
    caller.call("POST", &format!("{path}/pause")).await;
    postrider.json(&["hook", "enable", &hook]).await;
    let (mut told, mut query) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("{path}/history?limit=3{query}")).await;
        for entry in page["data"].as_array().expect("entries") {
            let actor = entry["actor"].as_str().expect("by whom");
            let actor = actor.split(' ').next().expect("a word").to_owned();
            let action = entry["action"].as_str().expect("what").to_owned();
            told.push((action, actor));
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("&cursor={cursor}");
    }
    let changed = caller.get(&format!("{path}/history")).await;
    assert_eq!(changed["data"][2]["reason"], "url, filter");
    let told: Vec<_> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let expected = [
        ("enabled", "cli"),
        ("paused", "api"),
        ("changed", "api"),
        ("created", "api"),
    ];
    assert_eq!(told, expected);
}

async fn many_deliveries_are_sent_again_page_by_page(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(&caller, json!({"url": receiver.url(), "events": ["*"]})).await;
    let mut published = BTreeSet::new();
    for _ in 0..2 {
        let events = vec![json!({"event_type": "a.b", "payload": 1}); 600];
        let body = json!({"events": events});
        let reply = caller.call_with("POST", "/v1/events/batch", &body).await;
        let ids = reply.json()["ids"].as_array().expect("ids").clone();
        published.extend(ids.iter().map(|id| id.as_str().expect("an id").to_owned()));
    }
    caller.publish(EVENT).await.accepted();
    receiver.wait_for(1_201).await;
    let path = format!("/v1/hooks/{hook}/redeliver");
    let mut body = json!({
        "state": "delivered", "since": "2000-01-01T00:00:00Z", "event_type": "a.*",
    });
    // What the receiver has answered is settled a moment later.
    let listing = format!("/v1/deliveries?hook={hook}&state=in_flight");
    eventually(
        async || match caller.get(&listing).await["data"] == json!([]) {
            true => Ok(()),
            false => Err("some are in flight".into()),
        },
    )
    .await;
    let mut counts = Vec::new();
    loop {
        let reply = caller.call_with("POST", &path, &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let done = reply.json();
        counts.push(done["count"].as_u64().expect("a count"));
        if done["next_cursor"].is_null() {
            break;
        }
        body["cursor"] = done["next_cursor"].clone();
    }
    assert!(counts.len() > 1, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 1_200, "{counts:?}");
    receiver.wait_for(2_401).await;
    for (body, pointer) in [
        (json!({}), "/since"),
        (
            json!({"since": "2000-01-01T00:00:00Z", "state": "pending"}),
            "/state",
        ),
        (
            json!({"since": "2000-01-01T00:00:00Z", "cursor": "e30"}),
            "/cursor",
        ),
    ] {
        let reply = caller.call_with("POST", &path, &body).await;
        reply.refused(422, "invalid", pointer);
    }
}

async fn held_deliveries_are_discarded(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = make(&caller, json!({"url": receiver.url(), "events": ["*"]})).await;
    let path = format!("/v1/hooks/{hook}");
    let reply = caller.call("POST", &format!("{path}/discard")).await;
    reply.refused(409, "conflict", "active");
    caller.call("POST", &format!("{path}/pause")).await;
    let event = caller.publish(EVENT).await.accepted();
    eventually(async || match caller.get(&path).await["held"] == 1 {
        true => Ok(()),
        false => Err("nothing is held".into()),
    })
    .await;
    let none = json!({"until": "2000-01-01T00:00:00Z"});
    for (body, count) in [(Some(&none), 0), (None, 1), (None, 0)] {
        let discard = format!("{path}/discard");
        let reply = match body {
            Some(body) => caller.call_with("POST", &discard, body).await,
            None => caller.call("POST", &discard).await,
        };
        assert_eq!(reply.json()["count"], count, "{reply:?}");
    }
    let listing = caller.get(&format!("/v1/deliveries?event={event}")).await;
    assert_eq!(listing["data"][0]["state"], "cancelled");
    assert_eq!(listing["data"][0]["reason"], "discarded");
}

async fn without_a_key_for_secrets_only_what_needs_none_works(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database).with("POSTRIDER_SECRETS__KEY", "");
    if backend == Backend::Sqlite {
        // It makes a key of its own.
        let serving = postrider.serve_as("api").await;
        let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
        make(
            &caller,
            json!({"url": "https://example.com", "events": ["*"]}),
        )
        .await;
        return;
    }
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let body = json!({"url": "https://example.com", "events": ["*"]});
    let reply = caller.call_with("POST", "/v1/hooks", &body).await;
    reply.refused(503, "unavailable", "POSTRIDER_SECRETS__KEY");
    caller.publish(EVENT).await.accepted();
}

/// Registers a hook and returns its id.
async fn make(caller: &Caller, body: Value) -> String {
    let reply = caller.call_with("POST", "/v1/hooks", &body).await;
    assert_eq!(reply.status, 201, "{body}: {reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

/// The places of a refusal's faults.
fn told(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().expect("errors");
    errors
        .iter()
        .map(|fault| fault["pointer"].as_str().expect("a pointer"))
        .collect()
}
