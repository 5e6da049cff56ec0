//! SOLAPI's API from outside: the printed exchanges of its documents, what its clients send, and
//! how they sign.

use crate::profile_vectors::{text, vector};
use postrider_store::Backend;
use postrider_tests::{
    Postrider, Process, Receiver, Registrant, Reply, TestDatabase, ended, now_outside, on_both,
    python,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::process::Command;

on_both!(
    the_exchanges_of_the_documents_are_answered_as_they_are_printed,
    the_printed_calls_register_hooks,
    a_page_of_another_origin_may_call_when_it_is_named,
    solapis_own_client_signs_and_is_understood,
    a_signature_is_taken_once_whatever_restarts,
    every_form_of_a_signed_date_is_taken,
);

pub const OUTGOING: &str = "/webhook/v1/outgoing";
pub const ACCOUNT: &str = "12925149";
pub const EVENT: &str = "WH01ET191031070016949wNmNpJhbTBo";

/// The events of the documents' samples beside those that are there by default.
const CONFIGURATION: &str = r#"
[solapi]
events = [
    "SINGLE-REPORT", "GROUP-REPORT", "FAX-RECEIVE",
    { id = "WH01ET191031070016949wNmNpJhbTBo", name = "MessageReport", event_type = "SINGLE-REPORT" },
    { id = "WH01ET191230002851190wQcCSqNEIMz", name = "CashReport", event_type = "CASH-REPORT" },
]
"#;

/// A server that knows the events of the documents' samples, and a caller.
pub struct Setting {
    // Dropped in this order: first who uses the database.
    pub caller: Registrant,
    pub serving: Process,
    pub postrider: Postrider,
    _database: TestDatabase,
}

pub async fn setting(backend: Backend) -> Setting {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let configuration = postrider.folder().join("postrider.toml");
    std::fs::write(configuration, CONFIGURATION).expect("write the configuration");
    let serving = postrider.serve().await;
    let caller = Registrant::of(&postrider, &serving, "solapi", ACCOUNT).await;
    Setting {
        caller,
        serving,
        postrider,
        _database: database,
    }
}

impl Setting {
    /// Registers a hook, and returns its id.
    pub async fn register(&self, url: &str) -> String {
        let body = json!({"eventId": EVENT, "url": url});
        let reply = self.caller.call("POST", OUTGOING, &body).await;
        text(&answered(&reply)["webhookId"]).to_owned()
    }
}

async fn the_exchanges_of_the_documents_are_answered_as_they_are_printed(backend: Backend) {
    let t = setting(backend).await;
    let created = vector("solapi-create-seed");
    let reply = t
        .caller
        .call("POST", OUTGOING, &created["request"]["json"])
        .await;
    let made = answered(&reply);
    has_keys_in_order(&reply, &created["response"]["key_order"]);
    for (name, value) in created["response"]["json"].as_object().expect("an object") {
        match name.as_str() {
            "webhookId" | "dateCreated" | "dateUpdated" => {}
            name => assert_eq!(made[name], *value, "{name}"),
        }
    }
    assert_eq!(made["dateUpdated"], made["dateCreated"]);
    is_date(&made["dateCreated"]);
    let id = text(&made["webhookId"]);
    is_id(id);
    // The id tells the moment, to the millisecond, that the hook was made.
    let told = format!("20{}", &id[6..18]);
    let date = text(&made["dateCreated"]).replace(['-', ':', 'T'], "");
    assert_eq!(told[..12], date[..12], "{id} {date}");

    let updated = vector("solapi-update");
    let path = format!("{OUTGOING}/{id}");
    let reply = t
        .caller
        .call("PUT", &path, &updated["request"]["json"])
        .await;
    has_keys_in_order(&reply, &updated["response"]["key_order"]);
    let changed = answered(&reply);
    for name in [
        "secret",
        "status",
        "failCount",
        "accountId",
        "eventId",
        "url",
    ] {
        assert_eq!(changed[name], updated["response"]["json"][name], "{name}");
    }
    assert_eq!(changed["dateCreated"], made["dateCreated"]);
    assert!(text(&changed["dateUpdated"]) >= text(&made["dateUpdated"]));
    for case in vector("solapi-secret-sha1")["cases"]
        .as_array()
        .expect("cases")
    {
        let reply = t
            .caller
            .call("PUT", &path, &json!({"secret": case["input"]}))
            .await;
        assert_eq!(answered(&reply)["secret"], case["output"]);
    }
    // What is left out stays, and null takes the secret away.
    let reply = t.caller.call("PUT", &path, &json!({"secret": null})).await;
    let shown = answered(&reply);
    assert_eq!(
        (&shown["secret"], &shown["status"]),
        (&Value::Null, &json!("INACTIVE"))
    );
    assert_eq!(
        answered(&t.caller.call("GET", &path, &Value::Null).await),
        shown
    );

    let reply = t.caller.call("DELETE", &path, &json!({})).await;
    has_keys_in_order(&reply, &updated["response"]["key_order"]);
    assert_eq!(answered(&reply), shown, "the hook as it was");
    let again = t.caller.call("DELETE", &path, &Value::Null).await;
    refused(&again, 404, "ResourceNotFound");

    let listed = vector("solapi-events-item");
    let reply = t
        .caller
        .call("GET", text(&listed["request"]["path"]), &Value::Null)
        .await;
    has_keys_in_order(&reply, &listed["response"]["keys"]);
    let events = answered(&reply);
    let events = events["eventList"].as_array().expect("a list");
    let names: Vec<_> = listed["response"]["item_keys"]
        .as_array()
        .expect("names")
        .iter()
        .map(text)
        .collect();
    for event in events {
        let keys: Vec<_> = event
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let (keys, names): (BTreeSet<_>, BTreeSet<_>) =
            (keys.into_iter().collect(), names.iter().copied().collect());
        assert_eq!(keys, names);
        is_date(&event["dateCreated"]);
    }
    let message = events
        .iter()
        .find(|event| event["eventId"] == EVENT)
        .expect("the sample's event");
    assert_eq!(
        (&message["name"], &message["description"]),
        (&json!("MessageReport"), &Value::Null)
    );
    assert_eq!(message["dateCreated"], "2019-10-31T07:00:16.949Z");
    let one = t
        .caller
        .call("GET", "/webhook/v1/events?name=CashReport", &Value::Null)
        .await;
    assert_eq!(
        answered(&one)["eventList"][0]["eventId"],
        "WH01ET191230002851190wQcCSqNEIMz"
    );

    let receiver = Receiver::accepting().await;
    let tested = vector("solapi-outgoing-test");
    let path = text(&tested["request"]["path"]);
    let body = json!({"url": receiver.url(), "secret": "secretKey"});
    let reply = t.caller.call("POST", path, &body).await;
    assert_eq!(answered(&reply), tested["response"]["json"]);
    let request = receiver.requests().remove(0);
    let header = |name| request.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("x-solapi-event-name"), "SINGLE-REPORT");
    assert_eq!(
        header("x-solapi-secret"),
        "ee1b507610b2d8c366ece22a8d89c6487c710db5"
    );
    let items: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(items.as_array().map(Vec::len), Some(1));
    let refusing = Receiver::answering([500]).await;
    let reply = t
        .caller
        .call("POST", path, &json!({"url": refusing.url()}))
        .await;
    refused(&reply, 400, "WebhookTestFailed");
}

async fn the_printed_calls_register_hooks(backend: Backend) {
    let t = setting(backend).await;
    let authorization = t.caller.signature("2019-07-01T00:41:48Z");
    let call = async |authorization: &str, event: &str| {
        let body = format!(r#"{{"eventId":"{event}","url":"https://solapi.com/report"}}"#);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "-X", "POST", "-H"])
            .arg(format!("Authorization: {authorization}"))
            .args(["-H", "Content-Type: application/json", "-d", &body])
            .arg(t.caller.url(OUTGOING));
        let output = ended(&mut curl).await.succeeded().stdout;
        serde_json::from_str::<Value>(&output).expect("JSON")
    };
    // As it is printed, its date is long past, and its event's id is cut short.
    let answer = call(&authorization, "WH01ET191031070016949wNmNpJ...").await;
    assert_eq!(answer["errorCode"], "RequestTimeTooSkewed");
    let answer = call(&t.caller.authorization(), "WH01ET191031070016949wNmNpJ...").await;
    assert_eq!(answer["errorCode"], "ResourceNotFound");
    let answer = call(&t.caller.authorization(), EVENT).await;
    assert_eq!(answer["status"], "ACTIVE", "{answer}");

    let mut sample = python("solapi_sample.py");
    sample.args([&t.caller.authorization(), &t.caller.url(""), EVENT]);
    let said = ended(&mut sample).await.succeeded().stdout;
    let (status, answer) = said.split_once('\n').expect("two lines");
    assert_eq!(status, "200", "{answer}");
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    is_id(text(&answer["webhookId"]));
}

/// The sample for the browser calls from a page.
async fn a_page_of_another_origin_may_call_when_it_is_named(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let origin = "https://pages.example";
    let named = Postrider::on(&database).with("POSTRIDER_API__CORS_ORIGINS", origin);
    for (postrider, allowed) in [(Postrider::on(&database), ""), (named, origin)] {
        let serving = postrider.serve_as("api").await;
        let caller = Registrant::of(&postrider, &serving, "solapi", ACCOUNT).await;
        let asking = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ];
        let reply = caller.send("OPTIONS", OUTGOING, &asking, "").await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        let authorization = caller.authorization();
        let from_there = [
            ("origin", origin),
            ("authorization", authorization.as_str()),
        ];
        let reply = caller.send("GET", OUTGOING, &from_there, "").await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        answered(&reply);
    }
}

async fn solapis_own_client_signs_and_is_understood(backend: Backend) {
    let t = setting(backend).await;
    let mut client = python("solapi_client.py");
    client.args([
        t.caller.part("api_key"),
        t.caller.part("api_secret"),
        &t.caller.url(""),
        EVENT,
    ]);
    let said = ended(&mut client).await.succeeded().stdout;
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [made, listed, refused, deleted] = lines.as_slice() else {
        panic!("{said}");
    };
    assert_eq!(made["status"], "ACTIVE");
    assert_eq!(listed["webhookList"][0]["webhookId"], made["webhookId"]);
    assert_eq!(refused[0], "ResourceNotFound", "as the client reads it");
    assert!(!text(&refused[1]).is_empty());
    assert_eq!(deleted["webhookId"], made["webhookId"]);
}

async fn a_signature_is_taken_once_whatever_restarts(backend: Backend) {
    let mut t = setting(backend).await;
    let authorization = t.caller.authorization();
    let headers = [("authorization", authorization.as_str())];
    let list = async |caller: &Registrant, headers: &[(&str, &str)]| {
        caller.send("GET", OUTGOING, headers, "").await
    };
    let wrong = format!("{}0", &authorization[..authorization.len() - 1]);
    let wrong = match wrong == authorization {
        true => format!("{}1", &authorization[..authorization.len() - 1]),
        false => wrong,
    };
    let reply = list(&t.caller, &[("authorization", &wrong)]).await;
    refused(&reply, 403, "SignatureDoesNotMatch");
    answered(&list(&t.caller, &headers).await);
    refused(&list(&t.caller, &headers).await, 403, "DuplicatedSignature");
    // In other letters it is the same signature.
    let (head, signature) = authorization.rsplit_once('=').expect("a signature");
    let shouted = format!("{head}={}", signature.to_uppercase());
    let reply = list(&t.caller, &[("authorization", &shouted)]).await;
    refused(&reply, 403, "DuplicatedSignature");

    t.serving.kill().await;
    let serving = t.postrider.serve().await;
    let caller = t.caller.at(&serving).await;
    refused(&list(&caller, &headers).await, 403, "DuplicatedSignature");
    answered(&caller.call("GET", OUTGOING, &Value::Null).await);
    t.serving = serving;
}

async fn every_form_of_a_signed_date_is_taken(backend: Backend) {
    let t = setting(backend).await;
    let now = now_outside();
    let seoul = now.with_timezone(&chrono::FixedOffset::east_opt(9 * 3600).expect("an offset"));
    for date in [
        now.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        seoul.format("%Y-%m-%dT%H:%M:%S+09:00").to_string(),
        seoul.format("%Y-%m-%dT%H:%M:%S%.6f+09:00").to_string(),
        seoul.format("%Y-%m-%dT%H:%M:%S%.3f+0900").to_string(),
        seoul.format("%Y-%m-%dT%H:%M:%S.32400Z").to_string(),
    ] {
        // Some clients write no blanks, and other names.
        let compact = t.caller.signature(&date).replace(", ", ",");
        let compact = compact
            .replace("apiKey", "ApiKey")
            .replace("date=", "Date=");
        for form in [t.caller.signature(&date), compact] {
            let headers = [("authorization", form.as_str())];
            answered(&t.caller.send("GET", OUTGOING, &headers, "").await);
        }
    }
    for minutes in [-16, 16] {
        let date = now + chrono::TimeDelta::minutes(minutes);
        let authorization = t.caller.signature(&date.to_rfc3339());
        let headers = [("authorization", authorization.as_str())];
        let reply = t.caller.send("GET", OUTGOING, &headers, "").await;
        refused(&reply, 403, "RequestTimeTooSkewed");
    }
}

/// The body of a success.
pub fn answered(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    reply.json()
}

/// Checks that it is this refusal, in the form that SOLAPI's clients read.
pub fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    let keys = vector("solapi-error-shape")["keys"].clone();
    has_keys_in_order(reply, &keys);
    let body = reply.json();
    assert_eq!(body["errorCode"], code);
    assert!(!text(&body["errorMessage"]).is_empty(), "{body}");
}

/// Checks which members the body has, and in which order they are written.
pub fn has_keys_in_order(reply: &Reply, keys: &Value) {
    let keys = keys.as_array().expect("names");
    let body = reply.json();
    assert_eq!(
        body.as_object().map(serde_json::Map::len),
        Some(keys.len()),
        "{body}"
    );
    let places: Vec<_> = keys
        .iter()
        .map(|key| {
            reply
                .body
                .find(&format!("{key}:"))
                .unwrap_or_else(|| panic!("no {key} in {body}"))
        })
        .collect();
    assert!(places.is_sorted(), "{}", reply.body);
}

fn is_id(id: &str) {
    assert_eq!(id.len(), 32, "{id}");
    assert!(id.starts_with("WH01WH"), "{id}");
    assert!(id[6..21].bytes().all(|b| b.is_ascii_digit()), "{id}");
    assert!(id[21..].bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
}

/// Checks that it is a moment to the millisecond, in UTC.
fn is_date(date: &Value) {
    let date = text(date);
    let at = chrono::DateTime::parse_from_rfc3339(date)
        .expect("a date")
        .to_utc();
    assert_eq!(
        at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        date
    );
}
