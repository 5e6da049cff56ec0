//! Limits of API callers, and access from browsers.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, TestDatabase, on_both};

on_both!(
    a_rate_limited_key_gets_a_retry_after,
    only_pages_of_the_origins_given_may_call,
    a_head_is_answered_without_a_body,
);

const EVENT: &str = r#"{"event_type":"a","payload":1}"#;

async fn a_rate_limited_key_gets_a_retry_after(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_API__RATE_LIMIT", "1/h")
        .with("POSTRIDER_API__PUBLISH_LIMIT", "1/m");
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    caller.get("/v1/hooks").await;
    let reply = caller.call("GET", "/v1/hooks").await;
    reply.refused(429, "rate-limited", "1/h");
    assert_eq!(reply.header("retry-after"), "3600");
    caller.publish(EVENT).await.accepted();
    let reply = caller.publish(EVENT).await;
    reply.refused(429, "rate-limited", "1/m");
    assert_eq!(reply.header("retry-after"), "60");
    let other = Caller::with_scope(&postrider, &serving, "admin", None).await;
    other.get("/v1/hooks").await;
    other.publish(EVENT).await.accepted();
}

async fn only_pages_of_the_origins_given_may_call(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let origins = "https://app.example.com,http://localhost:3000";
    let open = Postrider::on(&database).with("POSTRIDER_API__CORS_ORIGINS", origins);
    let closed = Postrider::on(&database);
    let (open_serving, closed_serving) = (open.serve_as("api").await, closed.serve_as("api").await);
    for (serving, origin, allowed) in [
        (&open_serving, "https://app.example.com", true),
        (&open_serving, "http://localhost:3000", true),
        (&open_serving, "https://evil.example.com", false),
        (&closed_serving, "https://app.example.com", false),
    ] {
        let caller = Caller::with_scope(&open, serving, "admin", None).await;
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ];
        let preflight = caller.send("OPTIONS", "/v1/events", &asked, "").await;
        let preflight = preflight.expect("an answer");
        let reply = caller.exchange("GET", "/v1/hooks", &asked[..1], None).await;
        let expected = if allowed { origin } else { "" };
        for answer in [&preflight, &reply] {
            let told = answer.header("access-control-allow-origin");
            assert_eq!(told, expected, "{answer:?}");
        }
        let headers = preflight.header("access-control-allow-headers");
        assert!(
            !allowed || headers.contains("idempotency-key"),
            "{preflight:?}"
        );
        assert_eq!(reply.status, 200, "who is no browser is not concerned");
    }
    for bad in ["*", "https://app.example.com/"] {
        let postrider = Postrider::on(&database).with("POSTRIDER_API__CORS_ORIGINS", bad);
        let refused = postrider.run(&["serve", "--role", "api"]).await.refused();
        assert!(refused.contains("api.cors_origins"), "{refused}");
    }
}

async fn a_head_is_answered_without_a_body(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let whole = caller.call("GET", "/v1/hooks").await;
    let head = caller.call("HEAD", "/v1/hooks").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
    let nobody = Caller::of(&serving, "none").await;
    assert_eq!(nobody.call("HEAD", "/v1/hooks").await.status, 401);
}
