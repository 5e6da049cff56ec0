//! A hook that receives only some payloads, from the command line to the receiver.

use postrider_store::Backend;
use postrider_tests::{Postrider, Receiver, TestDatabase, on_both, value_of};

on_both!(
    a_hook_gets_only_what_its_filter_lets_through,
    a_filter_that_cannot_be_read_is_refused_with_its_position,
);

const FILTER: &str = r#"data.amount >= 100 && data.currency == "EUR" && !exists(data.test)"#;

async fn a_hook_gets_only_what_its_filter_lets_through(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    let hook = postrider
        .json(&[&add[..], &["--filter", FILTER]].concat())
        .await;
    assert_eq!(hook["filter"], FILTER);
    let hook = hook["id"].as_str().expect("an id");
    let worker = postrider.serve().await;
    let send = async |payload: &str| {
        let send = ["event", "send", "--type", "invoice.paid", "--payload"];
        let sent = postrider.json(&[&send[..], &[payload]].concat()).await;
        sent["id"].as_str().expect("an id").to_owned()
    };
    // What must not come goes before what must: once that has come, the rest is decided.
    send(r#"{"data": {"amount": 99.99, "currency": "EUR"}}"#).await;
    send(r#"{"data": {"amount": "250", "currency": "EUR"}}"#).await;
    send(r#"{"data": {"amount": 250, "currency": "EUR", "test": true}}"#).await;
    send(r#"{"amount": 250, "currency": "EUR"}"#).await;
    let fits = send(r#"{"data": {"amount": 250, "currency": "EUR"}}"#).await;
    receiver.wait_for(1).await;
    let came = || -> Vec<_> {
        let requests = receiver.requests();
        requests
            .iter()
            .map(|request| request.id().to_owned())
            .collect()
    };
    assert_eq!(came(), [fits.as_str()]);

    let change = ["hook", "change", hook, "--filter", "[0]==7"];
    let changed = postrider.json(&change).await;
    assert_eq!(changed["filter"], "[0] == 7");
    let told = postrider.run(&["hook", "show", hook]).await.succeeded();
    assert!(told.stdout.contains("[0] == 7"), "{}", told.stdout);
    send(r#"{"data": {"amount": 250, "currency": "EUR"}}"#).await;
    let sevens = send("[7, 8]").await;
    receiver.wait_for(2).await;
    assert_eq!(came(), [fits.as_str(), &sevens]);

    let change = ["hook", "change", hook, "--no-filter"];
    assert!(postrider.json(&change).await["filter"].is_null());
    let anything = send("null").await;
    receiver.wait_for(3).await;
    assert_eq!(came(), [fits, sevens, anything]);
    let (_, metrics) = worker.get("/metrics").await;
    assert_eq!(value_of(&metrics, "postrider_filter_problems_total"), 0.0);
}

async fn a_filter_that_cannot_be_read_is_refused_with_its_position(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let add = [
        "hook",
        "add",
        "--url",
        "https://example.com",
        "--event",
        "*",
    ];
    for (filter, told) in [
        ("amount >= ", "at character 11: expected a number"),
        ("amount >= \"5\"", "at character 11"),
        ("amount > 5 &", "at character 12"),
        (&"x".repeat(2049), "2049 bytes long; at most 2048"),
    ] {
        let problem = postrider
            .run(&[&add[..], &["--filter", filter]].concat())
            .await
            .refused();
        assert!(problem.contains(told), "{filter}: {problem}");
    }
    assert_eq!(postrider.listing(&["hook", "list"]).await.len(), 0);

    let hook = postrider.json(&add).await;
    assert!(hook["filter"].is_null());
    let change = ["hook", "change", hook["id"].as_str().expect("an id")];
    let problem = postrider.run(&change).await.refused();
    assert!(problem.contains("--no-filter"), "{problem}");
    let both = [&change[..], &["--no-filter", "--filter", "a == 1"]].concat();
    let problem = postrider.run(&both).await.refused();
    assert!(problem.contains("cannot be used with"), "{problem}");
}
