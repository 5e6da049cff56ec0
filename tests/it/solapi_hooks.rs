//! Hooks over SOLAPI's API from outside: listed, paused, forbidden and refused.

use crate::profile_vectors::text;
use crate::solapi::{ACCOUNT, EVENT, OUTGOING, answered, has_keys_in_order, refused, setting};
use postrider_store::Backend;
use postrider_tests::{Receiver, Registrant, eventually, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;

on_both!(
    hooks_are_listed_page_by_page_while_others_are_added,
    hooks_are_listed_by_their_fields,
    a_hook_is_paused_and_goes_on,
    what_a_key_lacks_is_forbidden,
    what_cannot_be_is_refused_in_solapis_form,
);

async fn hooks_are_listed_page_by_page_while_others_are_added(backend: Backend) {
    let t = setting(backend).await;
    let empty = answered(&t.caller.call("GET", OUTGOING, &Value::Null).await);
    assert_eq!(
        empty,
        json!({"limit": 20, "webhookList": [], "startKey": null, "nextKey": null})
    );
    let mut made = BTreeSet::new();
    for number in 0..45 {
        made.insert(t.register(&format!("https://example.com/{number}")).await);
    }
    let (mut seen, mut path, mut sizes) = (Vec::new(), OUTGOING.to_owned(), Vec::new());
    loop {
        let reply = t.caller.call("GET", &path, &Value::Null).await;
        let page = answered(&reply);
        let keys = json!(["limit", "webhookList", "startKey", "nextKey"]);
        has_keys_in_order(&reply, &keys);
        let list = page["webhookList"].as_array().expect("a list");
        sizes.push(list.len());
        seen.extend(list.iter().map(|hook| text(&hook["webhookId"]).to_owned()));
        assert_eq!(page["startKey"], list[0]["webhookId"]);
        assert_eq!(page["limit"], 20);
        let Some(next) = page["nextKey"].as_str() else {
            break;
        };
        path = format!("{OUTGOING}?startKey={next}");
        t.register("https://example.com/added").await;
    }
    assert_eq!(sizes, [20, 20, 5]);
    let sorted: Vec<_> = made.iter().rev().cloned().collect();
    assert_eq!(seen, sorted, "each once, the youngest first");
    let all = t
        .caller
        .call("GET", &format!("{OUTGOING}?limit=200"), &Value::Null)
        .await;
    assert_eq!(
        answered(&all)["webhookList"].as_array().map(Vec::len),
        Some(47)
    );
}

async fn hooks_are_listed_by_their_fields(backend: Backend) {
    let t = setting(backend).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(
            t.register(&format!("https://example.com/{}", number % 2))
                .await,
        );
    }
    let paused = format!("{OUTGOING}/{}", ids[1]);
    answered(
        &t.caller
            .call("PUT", &paused, &json!({"status": "INACTIVE"}))
            .await,
    );
    let list = async |query: &str| {
        let path = format!("{OUTGOING}?{query}");
        let page = answered(&t.caller.call("GET", &path, &Value::Null).await);
        let list = page["webhookList"].as_array().expect("a list").clone();
        let ids = list.iter().map(|hook| text(&hook["webhookId"]).to_owned());
        (ids.collect::<Vec<_>>(), page["nextKey"].clone())
    };
    let picked = |numbers: &[usize]| numbers.iter().map(|n| ids[*n].clone()).collect::<Vec<_>>();
    assert_eq!(list("status=INACTIVE").await, (picked(&[1]), Value::Null));
    let url = "url[eq]=https%3A%2F%2Fexample.com%2F0";
    assert_eq!(list(url).await.0, picked(&[4, 2, 0]));
    // A page ends with what it has found, and the next begins with what is asked for.
    assert_eq!(
        list(&format!("{url}&limit=2")).await,
        (picked(&[4, 2]), json!(ids[0]))
    );
    let rest = list(&format!("{url}&limit=2&startKey={}", ids[0])).await;
    assert_eq!(rest, (picked(&[0]), Value::Null));
    let shown = answered(
        &t.caller
            .call("GET", &format!("{OUTGOING}/{}", ids[2]), &Value::Null)
            .await,
    );
    let date = text(&shown["dateCreated"]);
    assert!(
        list(&format!("dateCreated[gte]={date}"))
            .await
            .0
            .contains(&ids[2])
    );
    assert!(
        !list(&format!("dateCreated[gt]={date}"))
            .await
            .0
            .contains(&ids[2])
    );
    let reply = t
        .caller
        .call("GET", &format!("{OUTGOING}?limit=none"), &Value::Null)
        .await;
    refused(&reply, 400, "ValidationError");
}

async fn a_hook_is_paused_and_goes_on(backend: Backend) {
    let t = setting(backend).await;
    let receiver = Receiver::accepting().await;
    let id = t.register(&receiver.url()).await;
    let path = format!("{OUTGOING}/{id}");
    let send = async |n: &str| {
        let payload = format!("{{\"messageId\":\"{n}\"}}");
        let send = [
            "event",
            "send",
            "--type",
            "SINGLE-REPORT",
            "--account",
            ACCOUNT,
        ];
        t.postrider
            .json(&[&send[..], &["--payload", &payload]].concat())
            .await
    };
    send("1").await;
    receiver.wait_for(1).await;
    let reply = t
        .caller
        .call("PUT", &path, &json!({"status": "INACTIVE"}))
        .await;
    assert_eq!(answered(&reply)["status"], "INACTIVE");
    let event = send("2").await;
    // It has been fanned out when its delivery is held.
    let event = text(&event["id"]).to_owned();
    eventually(async || {
        let listed = t
            .postrider
            .listing(&["delivery", "list", "--event", &event])
            .await;
        match listed.first().map(|delivery| delivery["state"].clone()) {
            Some(state) if state == "held" => Ok(()),
            state => Err(format!("the delivery is {state:?}")),
        }
    })
    .await;
    assert_eq!(receiver.requests().len(), 1);
    let reply = t
        .caller
        .call("PUT", &path, &json!({"status": "ACTIVE"}))
        .await;
    assert_eq!(answered(&reply)["status"], "ACTIVE");
    receiver.wait_for(2).await;
    assert_eq!(receiver.requests()[1].body, "[{\"messageId\":\"2\"}]");
}

async fn what_a_key_lacks_is_forbidden(backend: Backend) {
    let t = setting(backend).await;
    let hook = format!(
        "{OUTGOING}/{}",
        t.register("https://example.com/hook").await
    );
    let body = json!({"eventId": EVENT, "url": "https://example.com/other"});
    let test = json!({"url": "https://example.com/test"});
    let writing = [
        ("POST", OUTGOING, &body),
        ("PUT", &hook, &json!({"url": "https://example.com/new"})),
        ("POST", "/webhook/v1/outgoing-test", &test),
        ("DELETE", &hook, &Value::Null),
    ];
    let looking = [("GET", OUTGOING), ("GET", &hook)];
    let events = "/webhook/v1/events";
    // What is lacking, and whether one may look at hooks, change them, and look at the events.
    for (arguments, may_look, may_write, may_choose) in [
        (vec!["--permission", "read"], true, false, true),
        (vec!["--permission", "write"], false, true, false),
        (vec!["--account-status", "inactive"], false, false, true),
        (vec!["--member-status", "inactive"], true, false, true),
        (vec!["--verified", "false"], false, false, true),
    ] {
        let caller =
            Registrant::with(&t.postrider, &t.serving, "solapi", ACCOUNT, &arguments).await;
        for (method, path) in looking {
            let reply = caller.call(method, path, &Value::Null).await;
            match may_look {
                true => drop(answered(&reply)),
                false => refused(&reply, 403, "Forbidden"),
            }
        }
        let reply = caller.call("GET", events, &Value::Null).await;
        match may_choose {
            true => drop(answered(&reply)),
            false => refused(&reply, 403, "Forbidden"),
        }
        for (method, path, body) in writing {
            if may_write {
                continue;
            }
            let reply = caller.call(method, path, body).await;
            refused(&reply, 403, "Forbidden");
        }
        if may_write {
            answered(&caller.call("POST", OUTGOING, &body).await);
        }
    }
    // A change holds from the next request on.
    let caller = Registrant::of(&t.postrider, &t.serving, "solapi", ACCOUNT).await;
    answered(&caller.call("GET", OUTGOING, &Value::Null).await);
    let id = caller.part("id").to_owned();
    let suspend = ["key", "change", &id, "--account-status", "inactive"];
    t.postrider.json(&suspend).await;
    let reply = caller.call("GET", OUTGOING, &Value::Null).await;
    refused(&reply, 403, "Forbidden");
    t.postrider.json(&["key", "revoke", &id]).await;
    let reply = caller.call("GET", OUTGOING, &Value::Null).await;
    refused(&reply, 403, "InvalidAPIKey");
}

async fn what_cannot_be_is_refused_in_solapis_form(backend: Backend) {
    let t = setting(backend).await;
    let url = "https://example.com/hook";
    for (body, status, code) in [
        (json!({"url": url}), 400, "ValidationError"),
        (json!({"eventId": EVENT}), 400, "ValidationError"),
        (json!({"eventId": 7, "url": url}), 400, "ValidationError"),
        (
            json!({"eventId": EVENT, "url": "solapi.com"}),
            400,
            "ValidationError",
        ),
        (
            json!({"eventId": EVENT, "url": url, "secret": "x".repeat(256)}),
            400,
            "ValidationError",
        ),
        (
            json!({"eventId": "NO-REPORT", "url": url}),
            404,
            "ResourceNotFound",
        ),
        (json!([1]), 400, "ValidationError"),
        (
            json!({"eventId": EVENT, "url": url, "name": "x".repeat(70_000)}),
            413,
            "ValidationError",
        ),
    ] {
        let reply = t.caller.call("POST", OUTGOING, &body).await;
        refused(&reply, status, code);
    }
    // What real clients send beside it does no harm.
    let body = json!({"eventId": "SINGLE-REPORT", "url": url, "name": "n8n", "isTemporary": true});
    let made = answered(&t.caller.call("POST", OUTGOING, &body).await);
    assert_eq!(made["eventId"], "SINGLE-REPORT");
    let hook = format!("{OUTGOING}/{}", text(&made["webhookId"]));
    let reply = t.caller.call("PUT", &hook, &json!({"status": "ON"})).await;
    refused(&reply, 400, "ValidationError");

    for (method, path, status, code) in [
        (
            "GET",
            "/webhook/v1/outgoing/WH01WH1",
            404,
            "ResourceNotFound",
        ),
        ("GET", "/webhook/v2/outgoing", 404, "ResourceNotFound"),
        ("GET", "/webhook/%ff", 404, "ResourceNotFound"),
        ("PATCH", OUTGOING, 405, "MethodNotAllowed"),
    ] {
        refused(
            &t.caller.call(method, path, &Value::Null).await,
            status,
            code,
        );
    }
    let unsigned = t.caller.send("GET", OUTGOING, &[], "").await;
    refused(&unsigned, 401, "Unauthorized");
    let known = t.caller.authorization();
    let unknown = known.replace(t.caller.part("api_key"), "NCSNOSUCHKEY0001");
    let reply = t
        .caller
        .send("GET", OUTGOING, &[("authorization", &unknown)], "")
        .await;
    refused(&reply, 403, "InvalidAPIKey");
    let form = [
        ("authorization", t.caller.authorization()),
        ("content-type", "application/x-www-form-urlencoded".into()),
    ];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    refused(
        &t.caller.send("POST", OUTGOING, &form, "a=b").await,
        400,
        "ValidationError",
    );
}
