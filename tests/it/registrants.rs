//! The credentials of registrants: each is valid for its own system only, and is not revealed.

use crate::profile_vectors::text;
use postrider_store::Backend;
use postrider_tests::{Postrider, Registrant, TestDatabase, on_both};
use serde_json::json;

on_both!(
    a_credential_is_good_for_one_api_only,
    credentials_are_listed_and_kept_to_themselves,
);

/// A listing of each system.
const LISTINGS: &[(&str, &str, &str)] = &[
    ("solapi", "GET", "/webhook/v1/outgoing"),
    ("thulium", "GET", "/api/webhooks"),
    ("misskey", "POST", "/api/i/webhooks/list"),
];

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
    for (number, (_, method, path)) in LISTINGS.iter().enumerate() {
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
