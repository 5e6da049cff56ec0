//! Nobody sees, changes or deletes what is another account's, whatever API they know.

use crate::profile_vectors::text;
use postrider_store::Backend;
use postrider_tests::{Postrider, Registrant, TestDatabase, on_both};
use serde_json::{Value, json};

on_both!(
    another_accounts_hooks_are_not_there,
    a_credential_is_good_for_one_api_only,
    credentials_are_listed_and_kept_to_themselves,
);

const EVENT: &str = "SINGLE-REPORT";

/// Every route about a hook: the method, the path and the body, where `ID` stands for the hook.
const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("solapi", "GET", "/webhook/v1/outgoing/ID", ""),
    (
        "solapi",
        "PUT",
        "/webhook/v1/outgoing/ID",
        r#"{"url":"https://example.com/stolen"}"#,
    ),
    ("solapi", "DELETE", "/webhook/v1/outgoing/ID", ""),
    ("thulium", "GET", "/api/webhooks/ID", ""),
    (
        "thulium",
        "PUT",
        "/api/webhooks/ID",
        r#"{"subscription_url":"https://example.com/stolen"}"#,
    ),
    ("thulium", "DELETE", "/api/webhooks/ID", ""),
    (
        "misskey",
        "POST",
        "/api/i/webhooks/show",
        r#"{"webhookId":"ID"}"#,
    ),
    (
        "misskey",
        "POST",
        "/api/i/webhooks/update",
        r#"{"webhookId":"ID","name":"stolen"}"#,
    ),
    (
        "misskey",
        "POST",
        "/api/i/webhooks/test",
        r#"{"webhookId":"ID","type":"note"}"#,
    ),
    (
        "misskey",
        "POST",
        "/api/i/webhooks/delete",
        r#"{"webhookId":"ID"}"#,
    ),
];

/// Every listing, and where the list stands in the answer.
const LISTINGS: &[(&str, &str, &str, &str)] = &[
    ("solapi", "GET", "/webhook/v1/outgoing", "/webhookList"),
    ("thulium", "GET", "/api/webhooks", ""),
    ("misskey", "POST", "/api/i/webhooks/list", ""),
];

async fn registered(caller: &Registrant) -> String {
    let url = "https://example.com/hook";
    let (path, body, id) = match caller.part("for") {
        "solapi" => (
            "/webhook/v1/outgoing",
            json!({"eventId": EVENT, "url": url}),
            "webhookId",
        ),
        "thulium" => (
            "/api/webhooks",
            json!({"actions": ["A"], "subscription_url": url}),
            "id",
        ),
        _ => (
            "/api/i/webhooks/create",
            json!({"name": "n", "url": url, "on": ["note"]}),
            "id",
        ),
    };
    let reply = caller.call("POST", path, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    match &reply.json()[id] {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    }
}

async fn another_accounts_hooks_are_not_there(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    for (system, method, path, list) in LISTINGS {
        let owner = Registrant::of(&postrider, &serving, system, "owner").await;
        let other = Registrant::of(&postrider, &serving, system, "other").await;
        let id = registered(&owner).await;
        let listed = async |caller: &Registrant| {
            let reply = caller.call(method, path, &Value::Null).await;
            reply.json().pointer(list).expect("a list").clone()
        };
        let before = listed(&owner).await;
        assert_eq!(before.as_array().map(Vec::len), Some(1));
        assert_eq!(listed(&other).await, json!([]));
        let routes: Vec<_> = ROUTES.iter().filter(|route| route.0 == *system).collect();
        assert!(routes.len() >= 3, "{system}");
        for (_, method, path, body) in &routes {
            let body = match body.replace("ID", &id).as_str() {
                "" => Value::Null,
                body => serde_json::from_str(body).expect("JSON"),
            };
            let path = path.replace("ID", &id);
            let reply = other.call(method, &path, &body).await;
            let not_there = match *system {
                "misskey" => (400, "NO_SUCH_WEBHOOK"),
                "solapi" => (404, "ResourceNotFound"),
                _ => (404, "404001"),
            };
            assert_eq!(reply.status, not_there.0, "{method} {path} {reply:?}");
            assert!(
                reply.body.contains(not_there.1),
                "{method} {path} {reply:?}"
            );
        }
        assert_eq!(listed(&owner).await, before);
        // Another user of the same account shares its hooks.
        let colleague = Registrant::of(&postrider, &serving, system, "owner").await;
        assert_eq!(listed(&colleague).await, before);
    }
}

async fn a_credential_is_good_for_one_api_only(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let key = postrider.json(&["key", "create", "--scope", "admin"]).await;
    let admin = format!("Bearer {}", text(&key["token"]));
    let mut headers = vec![admin];
    let mut callers = Vec::new();
    for (system, ..) in LISTINGS {
        let caller = Registrant::of(&postrider, &serving, system, "acme").await;
        callers.push(caller);
    }
    for caller in &callers {
        headers.push(caller.authorization());
    }
    for (number, (_, method, path, _)) in LISTINGS.iter().enumerate() {
        for (other, header) in headers.iter().enumerate() {
            let headers = [("authorization", header.as_str())];
            let reply = callers[0].send(method, path, &headers, "").await;
            match other == number + 1 {
                true => assert_eq!(reply.status, 200, "{path} {header} {reply:?}"),
                false => assert!(
                    (401..=403).contains(&reply.status),
                    "{path} {header} {reply:?}"
                ),
            }
        }
    }
    for header in &headers[1..] {
        let headers = [("authorization", header.as_str())];
        let reply = callers[0].send("GET", "/v1/hooks", &headers, "").await;
        assert_eq!(reply.status, 401, "{header} {reply:?}");
    }
}

async fn credentials_are_listed_and_kept_to_themselves(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let mut secrets = Vec::new();
    for (system, secret) in [
        ("solapi", "api_secret"),
        ("thulium", "password"),
        ("misskey", "token"),
    ] {
        let caller = Registrant::of(&postrider, &serving, system, "acme").await;
        secrets.push(caller.part(secret).to_owned());
        let again = [
            "key",
            "create",
            "--for",
            system,
            "--account",
            "acme",
            "--secret",
            &secrets[secrets.len() - 1],
        ];
        let id = match system {
            "solapi" => vec!["--public-id", caller.part("api_key")],
            "thulium" => vec!["--public-id", caller.part("user")],
            _ => Vec::new(),
        };
        let told = postrider.run(&[&again[..], &id].concat()).await.refused();
        assert!(told.contains("already"), "{told}");
    }
    let listed = postrider.listing(&["key", "list"]).await;
    let systems: Vec<_> = listed
        .iter()
        .map(|key| text(&key["for"]).to_owned())
        .collect();
    assert_eq!(systems, ["solapi", "thulium", "misskey"]);
    for key in &listed {
        assert_eq!(key["scope"], "register");
        assert_eq!(key["permission"], json!(["read", "write"]));
        assert_eq!(
            (&key["account_status"], &key["member_status"]),
            (&json!("active"), &json!("active"))
        );
    }
    let shown = postrider.run(&["key", "list"]).await.succeeded().stdout;
    assert!(shown.contains("register thulium (api_"), "{shown}");
    let mut sql = database.connect().await;
    for secret in secrets {
        assert!(
            !shown.contains(&secret) && !listed.iter().any(|key| key.to_string().contains(&secret))
        );
        let stored = format!(
            "SELECT count(*) FROM postrider_keys WHERE coalesce(proof, '') LIKE '%{secret}%'"
        );
        assert_eq!(sql.number(&stored).await, 0);
    }
    let id = text(&listed[0]["id"]);
    let told = postrider.run(&["key", "change", id]).await.refused();
    assert!(told.contains("nothing to change"), "{told}");
    let told = postrider
        .run(&["key", "create", "--scope", "admin", "--permission", "read"])
        .await
        .refused();
    assert!(told.contains("--for"), "{told}");
    let told = postrider
        .run(&["key", "create", "--for", "unknown", "--account", "a"])
        .await
        .refused();
    assert!(told.contains("solapi"), "{told}");
    let told = postrider
        .run(&[
            "key",
            "create",
            "--for",
            "thulium",
            "--account",
            "a",
            "--secret",
            "short",
        ])
        .await
        .refused();
    assert!(told.contains("password must be"), "{told}");
}
