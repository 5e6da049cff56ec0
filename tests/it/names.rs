//! Hooks whose names get no answer fail like any other; failing name servers count against no
//! hook (R07).

use postrider_core::Phase;
use postrider_store::{Backend, DeliveryState, HookReport};
use postrider_tests::{
    Answer, NameReply, NameServer, Postrider, Receiver, TestApp, event, eventually, hook_defaults,
    hook_to, on_both, value_of,
};
use postrider_worker::WorkerSettings;

on_both!(
    domains_that_get_no_answer_fail_like_any_other_hook,
    name_servers_that_fail_count_against_no_hook,
    a_worker_told_to_end_does_not_wait_for_names,
);

const RESOLVER: &str = "postrider_own_faults_total{kind=\"resolver\"}";
const ALLOWED: &str = "127.0.0.0/8,::1/128";

async fn domains_that_get_no_answer_fail_like_any_other_hook(backend: Backend) {
    let server = NameServer::answering(&[
        ("one.test", NameReply::ServFail),
        ("two.test", NameReply::ServFail),
        ("three.test", NameReply::ServFail),
        ("silent.test", NameReply::Silence),
        ("good.test", NameReply::Local),
    ])
    .await;
    let settings = WorkerSettings {
        allow_addresses: ALLOWED.split(',').map(|net| net.parse().unwrap()).collect(),
        name_servers: vec![server.address().into()],
        ..WorkerSettings::default()
    };
    let app = TestApp::with(backend, hook_defaults(), settings).await;
    let receiver = Receiver::accepting().await;
    let port = receiver.address().port();
    let mut broken = Vec::new();
    for host in ["a.one.test", "a.two.test", "a.three.test", "a.silent.test"] {
        let hook = app
            .register(hook_to(&format!("http://{host}:{port}/")))
            .await;
        broken.push(hook.id);
    }
    let by_name = hook_to(&format!("http://a.good.test:{port}/name"));
    let by_address = hook_to(&receiver.url());
    let good = [
        app.register(by_name).await.id,
        app.register(by_address).await.id,
    ];
    let events = app.enqueue_all(&vec![event("invoice.paid"); 20]).await;
    app.tick().await;
    assert_eq!(receiver.count(), 2 * 20);
    for hook in good {
        assert_eq!(app.shown(hook).await.fail_count, 0);
    }
    for hook in broken {
        let shown: HookReport = app.shown(hook).await;
        assert!(shown.fail_count >= 5, "{shown:?}");
        assert_eq!(shown.phase, Some(Phase::BackedOff), "{shown:?}");
        let tried = app.attempts(events[0], hook).await;
        assert_eq!(tried[0].outcome, "unreachable", "{tried:?}");
    }
    assert_eq!(app.metric(RESOLVER), 0.0);
}

async fn name_servers_that_fail_count_against_no_hook(backend: Backend) {
    let domains = ["one.test", "two.test", "three.test"];
    let server = NameServer::answering(&domains.map(|name| (name, NameReply::Local))).await;
    let app = TestApp::on(backend).await;
    // No connection is kept, so that each delivery has to resolve the name.
    let receiver = Receiver::deciding(|_, _| Answer::from(200).header("connection", "close")).await;
    let port = receiver.address().port();
    let mut hooks = Vec::new();
    for domain in domains {
        let hook = hook_to(&format!("http://a.{domain}:{port}/"));
        hooks.push(app.register(hook).await.id);
    }
    let worker = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__ALLOW_ADDRESSES", ALLOWED)
        .with(
            "POSTRIDER_WORKER__NAME_SERVERS",
            server.address().to_string(),
        )
        .serve()
        .await;
    app.enqueue("invoice.paid").await;
    receiver.wait_for(3).await;
    app.wait_until_nothing_is_left().await;

    for domain in domains {
        server.reply(domain, NameReply::ServFail);
    }
    let event = app.enqueue("invoice.paid").await;
    worker
        .wait_for_log("name servers of this machine do not answer")
        .await;
    for hook in &hooks {
        assert_eq!(app.attempts(event, *hook).await.len(), 0);
        assert_eq!(app.shown(*hook).await.fail_count, 0);
    }

    for domain in domains {
        server.reply(domain, NameReply::Local);
    }
    for hook in hooks {
        eventually(async || match app.delivery(event, hook).await.state {
            DeliveryState::Delivered => Ok(()),
            state => Err(format!("the delivery is {state:?}")),
        })
        .await;
        let attempts = app.attempts(event, hook).await;
        let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [1], "{attempts:?}");
        assert_eq!(app.shown(hook).await.fail_count, 0);
    }
    let (_, metrics) = worker.get("/metrics").await;
    assert!(value_of(&metrics, RESOLVER) >= 3.0);
}

async fn a_worker_told_to_end_does_not_wait_for_names(backend: Backend) {
    let server = NameServer::answering(&[("silent.test", NameReply::Silence)]).await;
    let app = TestApp::on(backend).await;
    for number in 0..40 {
        app.register(hook_to(&format!("http://h{number}.silent.test/")))
            .await;
    }
    let mut worker = Postrider::on(&app.database)
        .with(
            "POSTRIDER_WORKER__NAME_SERVERS",
            server.address().to_string(),
        )
        .serve()
        .await;
    app.enqueue("invoice.paid").await;
    eventually(async || match server.asked("silent.test") {
        asked if asked >= 2 * 40 => Ok(()),
        asked => Err(format!("{asked} questions")),
    })
    .await;
    worker.terminate().await;
    worker.wait_for_log("Draining").await;
    worker.terminate().await;
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(1), "lookups were cut: {worker}");
    assert_eq!(app.left().await, 40);
}
