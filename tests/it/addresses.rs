//! A hook's URL comes from a third party: it must not reach the operator's own network.

use postrider_core::RetrySchedule;
use postrider_store::Backend;
use postrider_tests::{Postrider, Receiver, TestApp, event, hook_to, on_both};
use postrider_worker::{HookDefaults, WorkerSettings};
use std::time::Duration;
use tokio::net::TcpListener;

on_both!(
    a_private_address_in_any_spelling_is_never_connected_to,
    an_allowed_address_in_any_spelling_is_called,
    a_proxy_in_the_environment_is_not_used,
);

/// 127.0.0.1 as a stranger may write it.
const SPELLINGS: &[&str] = &[
    "127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "127.1",
    "0177.0.0.01",
    "localhost",
    "LocalHost",
];

async fn a_private_address_in_any_spelling_is_never_connected_to(backend: Backend) {
    let hooks = HookDefaults {
        retry_schedule: RetrySchedule::new(Vec::new()),
        ..HookDefaults::default()
    };
    let app = TestApp::with(backend, hooks, WorkerSettings::default()).await;
    let receiver = Receiver::accepting().await;
    let mut ids = Vec::new();
    for host in SPELLINGS.iter().chain(&["[::1]", "0.0.0.0", "[::]"]) {
        let url = format!("http://{host}:{}/", receiver.address().port());
        ids.push((url.clone(), app.register(hook_to(&url)).await.id));
    }
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;

    for (url, hook) in ids {
        let attempts = app.attempts(event, hook).await;
        let outcomes: Vec<_> = attempts.iter().map(|a| a.outcome.as_str()).collect();
        assert_eq!(outcomes, ["blocked"], "{url}: {attempts:?}");
        let error = attempts[0].error.as_deref().unwrap_or_default();
        assert!(error.contains("worker.allow_addresses"), "{url}: {error}");
        assert_eq!(app.shown(hook).await.fail_count, 1, "{url}");
    }
    assert_eq!(receiver.connections(), 0);
}

async fn an_allowed_address_in_any_spelling_is_called(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    for host in SPELLINGS {
        let url = format!("http://{host}:{}/", receiver.address().port());
        app.register(hook_to(&url)).await;
    }
    app.enqueue("invoice.paid").await;
    app.tick().await;
    assert_eq!(receiver.count(), SPELLINGS.len());
}

async fn a_proxy_in_the_environment_is_not_used(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", proxy.local_addr().expect("the port"));
    let mut postrider = Postrider::on(&app.database);
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        postrider = postrider.with(name, &url);
    }
    let _worker = postrider.serve().await;
    app.enqueue_all(&vec![event("invoice.paid"); 20]).await;
    receiver.wait_for(20).await;
    let nobody = tokio::time::timeout(Duration::ZERO, proxy.accept()).await;
    assert!(nobody.is_err(), "the proxy was connected to");
}
