//! A URL that no request can be sent to is refused when a hook is registered, and fails visibly if
//! it is stored already (R36).

use postrider_store::{Backend, DeliveryState};
use postrider_tests::{Caller, Postrider, Registrant, TestApp, TestDatabase, hook_to, on_both};
use serde_json::{Value, json};

on_both!(
    a_url_that_nothing_can_be_sent_to_is_refused_everywhere,
    a_url_that_was_accepted_once_fails_visibly,
);

const REFUSED: [&str; 5] = [
    "https://{{host}}/hook",
    "http://a{b}.example.com/",
    "http://{}/",
    "http://a\"b.example/",
    "http://a`b.example/",
];

async fn a_url_that_nothing_can_be_sent_to_is_refused_everywhere(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let solapi = Registrant::of(&postrider, &serving, "solapi", "a").await;
    let thulium = Registrant::of(&postrider, &serving, "thulium", "a").await;
    let misskey = Registrant::of(&postrider, &serving, "misskey", "a").await;
    for url in REFUSED {
        let add = ["hook", "add", "--url", url, "--event", "*"];
        let told = postrider.run(&add).await.refused();
        assert!(told.contains("which no host has"), "{told}");
        let body = json!({"url": url, "events": ["*"]});
        let reply = caller.call_with("POST", "/v1/hooks", &body).await;
        reply.refused(422, "invalid", "which no host has");
        for (registrant, path, body) in [
            (
                &solapi,
                "/webhook/v1/outgoing",
                json!({"eventId": "SINGLE-REPORT", "url": url}),
            ),
            (
                &thulium,
                "/api/webhooks",
                json!({"actions": ["RECORDING_READY"], "subscription_url": url}),
            ),
            (
                &misskey,
                "/api/i/webhooks/create",
                json!({"name": "n", "url": url, "on": []}),
            ),
        ] {
            let reply = registrant.call("POST", path, &body).await;
            assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        }
    }
    assert_eq!(
        postrider.listing(&["hook", "list"]).await,
        Vec::<Value>::new()
    );
}

async fn a_url_that_was_accepted_once_fails_visibly(backend: Backend) {
    let app = TestApp::on(backend).await;
    let hook = app.register(hook_to("https://example.com/hook")).await.id;
    let stored = format!(
        "UPDATE postrider_hooks SET url = 'https://{{{{host}}}}/hook' WHERE id = {}",
        app.id(hook.0)
    );
    app.sql().await.run(stored).await;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let attempts = app.attempts(event, hook).await;
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(attempts[0].outcome, "unreachable");
    let error = attempts[0].error.as_deref().unwrap_or_default();
    assert!(error.contains("which no host has"), "{error}");
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Pending
    );
    let shown = app.shown(hook).await;
    assert_eq!(shown.fail_count, 1);
    let error = shown.last_error.as_deref().unwrap_or_default();
    assert!(error.contains("which no host has"), "{error}");

    let checked = Postrider::on(&app.database).run(&["check"]).await;
    let line = format!("nothing can be delivered to hook {hook}");
    assert!(checked.stdout.contains(&line), "{checked}");
}
