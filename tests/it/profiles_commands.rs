//! Hooks of the profiles on the command line, served by the program.

use postrider_store::Backend;
use postrider_tests::{Postrider, Receiver, TestDatabase, eventually, on_both};
use serde_json::{Value, json};

on_both!(
    hooks_of_every_profile_are_registered_shown_and_served,
    what_a_profile_does_not_know_is_refused,
);

async fn hooks_of_every_profile_are_registered_shown_and_served(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_MISSKEY__SERVER_URL", "https://mi.example")
        .with("POSTRIDER_SOLAPI__BATCH_WINDOW", "1s");
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = async |profile: &str, rest: &[&str]| {
        let add = [
            "hook",
            "add",
            "--url",
            &url,
            "--event",
            "note",
            "--profile",
            profile,
        ];
        postrider.json(&[&add[..], rest].concat()).await
    };
    let solapi = add(
        "solapi",
        &["--secret", "secretKey", "--set", "format=envelope"],
    )
    .await;
    let first = add("thulium", &["--basic", "hook_user:hook_pass"]).await;
    let second = add("thulium", &["--set", "format=json"]).await;
    let misskey = add("misskey", &["--secret", "s3cr3t", "--set", "name=mine"]).await;
    assert!(alias(&solapi).starts_with("WH01WH") && alias(&solapi).len() == 32);
    assert_eq!((alias(&first), alias(&second)), ("1", "2"));
    assert_eq!(alias(&misskey).len(), 16);
    for hook in [&solapi, &first, &second, &misskey] {
        assert_eq!(hook["secret"], Value::Null, "there is nothing to show once");
    }
    let shown = postrider
        .json(&["hook", "show", text(&misskey["id"])])
        .await;
    assert_eq!(alias(&shown), alias(&misskey));
    assert_eq!(shown["settings"]["profile"], json!({"name": "mine"}));

    let _serving = postrider.serve().await;
    let send = [
        "event",
        "send",
        "--type",
        "note",
        "--payload",
        r#"{"id":7}"#,
    ];
    postrider.json(&send).await;
    receiver.wait_for_answers(4).await;
    let requests = receiver.requests();
    let with = |header: &str, value: &str| {
        let fits = |request: &&_| header_is(request, header, value);
        let found: Vec<_> = requests.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{header}: {value}");
        found[0]
    };
    let report = with(
        "x-solapi-secret",
        "ee1b507610b2d8c366ece22a8d89c6487c710db5",
    );
    assert_eq!(report.json()[0]["data"], json!({"id": 7}));
    let form = with("authorization", "Basic aG9va191c2VyOmhvb2tfcGFzcw==");
    assert_eq!(form.body, "action=note&id=7");
    let note = with("x-misskey-hook-secret", "s3cr3t");
    assert_eq!(note.header("x-misskey-host"), "mi.example");
    assert_eq!(note.header("user-agent"), "Misskey-Hooks");
    assert_eq!(note.json()["hookId"], misskey["alias"]);

    eventually(async || {
        let shown = postrider
            .json(&["hook", "show", text(&misskey["id"])])
            .await;
        match &shown["latest_status"] {
            status if *status == 200 => Ok(()),
            status => Err(format!("the latest status is {status}")),
        }
    })
    .await;
}

async fn what_a_profile_does_not_know_is_refused(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let add = [
        "hook",
        "add",
        "--url",
        "https://receiver.example",
        "--event",
        "*",
        "--profile",
    ];
    for (rest, told) in [
        (
            &["fax"][..],
            "possible values: standard, solapi, thulium, misskey",
        ),
        (&["thulium", "--secret", "x"], "have no secret"),
        (
            &["misskey", "--set", "format=json"],
            "the settings of the profile misskey are name",
        ),
        (&["solapi", "--set", "format=xml"], "flat or envelope"),
        (&["thulium", "--basic", "hunter2"], "USER:PASSWORD"),
        (&["misskey", "--secret", "a\tb\u{7}"], "control character"),
    ] {
        let ended = postrider.run(&[&add[..], rest].concat()).await;
        let problem = ended.refused();
        assert!(problem.contains(told), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let hooks = postrider.run(&["hook", "list", "--json"]).await.succeeded();
    assert_eq!(hooks.stdout, "");
}

fn header_is(request: &postrider_tests::Received, name: &str, value: &str) -> bool {
    let sent = request.headers.get(name);
    sent.is_some_and(|sent| sent == value)
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn alias(hook: &Value) -> &str {
    text(&hook["alias"])
}
