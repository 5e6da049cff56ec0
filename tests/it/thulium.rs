//! Thulium's API from outside: the printed exchanges of its page, and Postrider's additions.

use crate::profile_vectors::{text, vector};
use postrider_store::Backend;
use postrider_tests::{
    Postrider, Process, Receiver, Registrant, Reply, TestDatabase, ended, on_both,
};
use serde_json::{Value, json};
use tokio::process::Command;

on_both!(
    the_exchanges_of_the_documents_are_answered_as_they_are_printed,
    the_printed_call_of_curl_adds_a_webhook,
    a_webhook_is_shown_changed_and_deleted_by_its_id,
    a_webhook_gets_what_it_asked_for_with_its_credentials,
    callers_without_permission_are_refused,
    all_faults_are_reported_at_once,
);

const WEBHOOKS: &str = "/api/webhooks";
const ACCOUNT: &str = "your-system-name";

struct Setting {
    // Dropped in this order: first who uses the database.
    caller: Registrant,
    serving: Process,
    postrider: Postrider,
    _database: TestDatabase,
}

/// A caller with the user and the password of the samples.
async fn setting(backend: Backend) -> Setting {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve().await;
    let known = ["--public-id", "api_user", "--secret", "api_pass"];
    let caller = Registrant::with(&postrider, &serving, "thulium", ACCOUNT, &known).await;
    Setting {
        caller,
        serving,
        postrider,
        _database: database,
    }
}

async fn the_exchanges_of_the_documents_are_answered_as_they_are_printed(backend: Backend) {
    let t = setting(backend).await;
    let credentials = vector("thulium-api-basic");
    let header = format!("Authorization: {}", t.caller.authorization());
    assert_eq!(header, text(&credentials["header"]));

    let created = vector("thulium-create-seed");
    let request = &created["request"];
    let headers: Vec<_> = request["headers"]
        .as_object()
        .expect("headers")
        .iter()
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    for id in 1..=5 {
        let path = text(&request["path"]);
        let reply = t
            .caller
            .send("POST", path, &headers, text(&request["raw"]))
            .await;
        let mut expected = created["response"]["json"].clone();
        expected["id"] = json!(id);
        assert_eq!(answered(&reply), expected);
        // Byte for byte but for blanks, in the order that is printed.
        assert_eq!(
            reply.body,
            format!(
                r#"{{"id":{id},"actions":["CHAT_CONVERSATION_CREATED"],"subscription_url":"https://example.pl","http_auth_user":"","http_auth_password":""}}"#
            )
        );
    }
    let listed = vector("thulium-list");
    let other = Registrant::of(&t.postrider, &t.serving, "thulium", "other-system").await;
    assert_eq!(
        answered(&other.call("GET", WEBHOOKS, &Value::Null).await),
        json!([])
    );
    let mut ids = Vec::new();
    for item in listed["response"]["json_prefix"]
        .as_array()
        .expect("a list")
    {
        let mut body = item.clone();
        body.as_object_mut().expect("an object").remove("id");
        let made = answered(&other.call("POST", WEBHOOKS, &body).await);
        ids.push(made["id"].clone());
    }
    let mut expected = listed["response"]["json_prefix"].clone();
    for (item, id) in expected
        .as_array_mut()
        .expect("a list")
        .iter_mut()
        .zip(&ids)
    {
        item["id"] = id.clone();
    }
    assert_eq!(
        answered(&other.call("GET", WEBHOOKS, &Value::Null).await),
        expected
    );
    let own = answered(&t.caller.call("GET", WEBHOOKS, &Value::Null).await);
    let own: Vec<_> = own
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["id"].clone())
        .collect();
    assert_eq!(json!(own), json!([1, 2, 3, 4, 5]));
}

async fn the_printed_call_of_curl_adds_a_webhook(backend: Backend) {
    let t = setting(backend).await;
    let body =
        r#"{"actions":["CHAT_CONVERSATION_CREATED"],"subscription_url":"https:\/\/example.pl"}"#;
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "-u",
        "api_user:api_pass",
        "-k",
        "-X",
        "POST",
    ])
    .args(["-H", "Content-type: application/json", "-d", body])
    .args(["--write-out", "\n%{http_code}"])
    .arg(t.caller.url(WEBHOOKS));
    let said = ended(&mut curl).await.succeeded().stdout;
    let (answer, status) = said.rsplit_once('\n').expect("a status");
    assert_eq!(status, "200");
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    let mut expected = vector("thulium-create-seed")["response"]["json"].clone();
    expected["id"] = json!(1);
    assert_eq!(answer, expected);
}

async fn a_webhook_is_shown_changed_and_deleted_by_its_id(backend: Backend) {
    let t = setting(backend).await;
    let body = json!({
        "actions": ["TICKET_CREATED", "AGENT_RINGING", "TICKET_CREATED"],
        "subscription_url": "HTTP://Example.PL:80/Hook?a=%2f",
        "http_auth_user": "ü",
        "http_auth_password": null,
    });
    let made = answered(&t.caller.call("POST", WEBHOOKS, &body).await);
    let expected = json!({
        "id": 1,
        "actions": ["TICKET_CREATED", "AGENT_RINGING"],
        "subscription_url": "HTTP://Example.PL:80/Hook?a=%2f",
        "http_auth_user": "ü",
        "http_auth_password": "",
    });
    assert_eq!(made, expected);
    let one = format!("{WEBHOOKS}/1");
    assert_eq!(
        answered(&t.caller.call("GET", &one, &Value::Null).await),
        expected
    );
    let changed = t
        .caller
        .call("PUT", &one, &json!({"http_auth_password": "p:q"}))
        .await;
    let mut expected = expected;
    expected["http_auth_password"] = json!("p:q");
    assert_eq!(answered(&changed), expected);
    let body = json!({"actions": ["RECORDING_READY"], "subscription_url": "https://example.com",
                      "http_auth_user": "", "http_auth_password": ""});
    let changed = answered(&t.caller.call("PUT", &one, &body).await);
    assert_eq!(changed["actions"], json!(["RECORDING_READY"]));
    assert_eq!(
        (&changed["http_auth_user"], &changed["http_auth_password"]),
        (&json!(""), &json!(""))
    );

    let deleted = t.caller.call("DELETE", &one, &Value::Null).await;
    assert_eq!((deleted.status, deleted.body.as_str()), (200, ""));
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", json!({})),
        ("DELETE", Value::Null),
    ] {
        refused(&t.caller.call(method, &one, &body).await, 404, &[404_001]);
    }
    // A number is never given twice.
    let body = json!({"actions": ["A"], "subscription_url": "https://example.com"});
    assert_eq!(
        answered(&t.caller.call("POST", WEBHOOKS, &body).await)["id"],
        2
    );
}

async fn a_webhook_gets_what_it_asked_for_with_its_credentials(backend: Backend) {
    let t = setting(backend).await;
    let receiver = Receiver::accepting().await;
    let sent = vector("thulium-delivery-basic");
    let body = json!({
        "actions": ["CUSTOMER_UPDATED"],
        "subscription_url": receiver.url(),
        "http_auth_user": sent["user"],
        "http_auth_password": sent["password"],
    });
    answered(&t.caller.call("POST", WEBHOOKS, &body).await);
    for action in ["CUSTOMER_CREATED", "CUSTOMER_UPDATED"] {
        let send = ["event", "send", "--account", ACCOUNT, "--type", action];
        let payload = r#"{"customer_id":682,"company_id":null}"#;
        t.postrider
            .json(&[&send[..], &["--payload", payload]].concat())
            .await;
    }
    receiver.wait_for(1).await;
    let requests = receiver.requests();
    let [request] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert_eq!(
        request.body,
        "action=CUSTOMER_UPDATED&customer_id=682&company_id=null"
    );
    let header = format!("Authorization: {}", request.header("authorization"));
    assert_eq!(header, text(&sent["header"]));
}

async fn callers_without_permission_are_refused(backend: Backend) {
    let t = setting(backend).await;
    let list = async |headers: &[(&str, &str)]| t.caller.send("GET", WEBHOOKS, headers, "").await;
    let reply = list(&[]).await;
    refused(&reply, 401, &[401_001]);
    assert_eq!(
        reply.header("www-authenticate"),
        "Basic realm=\"Thulium API\""
    );
    for header in ["Bearer abc", "Basic !", "Basic"] {
        refused(&list(&[("authorization", header)]).await, 401, &[401_001]);
    }
    // api_user:wrong and nobody:api_pass, in base 64.
    for header in ["Basic YXBpX3VzZXI6d3Jvbmc=", "Basic bm9ib2R5OmFwaV9wYXNz"] {
        refused(&list(&[("authorization", header)]).await, 401, &[401_002]);
    }
    let body = json!({"actions": ["A"], "subscription_url": "https://example.com"});
    answered(&t.caller.call("POST", WEBHOOKS, &body).await);
    let one = format!("{WEBHOOKS}/1");
    let reading = ["--permission", "read"];
    let reader = Registrant::with(&t.postrider, &t.serving, "thulium", ACCOUNT, &reading).await;
    answered(&reader.call("GET", WEBHOOKS, &Value::Null).await);
    for (method, path) in [("POST", WEBHOOKS), ("PUT", &one), ("DELETE", &one)] {
        refused(&reader.call(method, path, &body).await, 403, &[403_001]);
    }
    let suspended = ["--account-status", "inactive"];
    let other = Registrant::with(&t.postrider, &t.serving, "thulium", ACCOUNT, &suspended).await;
    refused(
        &other.call("GET", WEBHOOKS, &Value::Null).await,
        403,
        &[403_001],
    );
    let id = t.caller.part("id").to_owned();
    answered(&t.caller.call("GET", WEBHOOKS, &Value::Null).await);
    t.postrider.json(&["key", "revoke", &id]).await;
    refused(
        &t.caller.call("GET", WEBHOOKS, &Value::Null).await,
        401,
        &[401_002],
    );
}

async fn all_faults_are_reported_at_once(backend: Backend) {
    let t = setting(backend).await;
    let url = "https://example.com";
    for (body, status, codes) in [
        (json!({}), 400, vec![400_101, 400_103]),
        (
            json!({"actions": ["a"], "subscription_url": url}),
            400,
            vec![400_102],
        ),
        (
            json!({"actions": [], "subscription_url": "example.com", "http_auth_user": 1}),
            400,
            vec![400_101, 400_103, 400_104],
        ),
        (json!("A"), 400, vec![400_001]),
        (
            json!({"actions": ["A"], "subscription_url": format!("{url}/{}", "x".repeat(70_000))}),
            413,
            vec![413_001],
        ),
    ] {
        refused(
            &t.caller.call("POST", WEBHOOKS, &body).await,
            status,
            &codes,
        );
    }
    let authorization = t.caller.authorization();
    let form = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    refused(
        &t.caller.send("POST", WEBHOOKS, &form, "a=b").await,
        415,
        &[415_001],
    );
    for (method, path, status, code) in [
        ("GET", "/api/webhooks/x", 404, 404_001),
        ("GET", "/api/webhooks/1/attempts", 404, 404_002),
        ("PATCH", WEBHOOKS, 405, 405_001),
        ("POST", "/api/webhooks/1", 405, 405_001),
    ] {
        refused(
            &t.caller.call(method, path, &Value::Null).await,
            status,
            &[code],
        );
    }
    let polish = [("accept-language", "pl,en;q=0.5")];
    let reply = t.caller.send("GET", WEBHOOKS, &polish, "").await;
    assert!(
        reply.body.contains("Wymagane uwierzytelnienie"),
        "{reply:?}"
    );
}

/// The body of a success.
fn answered(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Checks that it is a refusal for these reasons, in the form that is documented.
fn refused(reply: &Reply, status: u16, codes: &[u64]) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = reply.json();
    let shape = vector("thulium-error-shape")["json"].clone();
    let names = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&body), names(&shape));
    let id = text(&body["request_id"]);
    assert_eq!(id.len(), text(&shape["request_id"]).len());
    assert_eq!(reply.header("x-request-id"), id);
    let errors = body["errors"].as_array().expect("a list");
    for error in errors {
        assert_eq!(names(error), names(&shape["errors"][0]));
        assert!(!text(&error["message"]).is_empty(), "{body}");
    }
    let told: Vec<_> = errors
        .iter()
        .map(|error| error["code"].as_u64().expect("a number"))
        .collect();
    assert_eq!(told, codes, "{body}");
}
