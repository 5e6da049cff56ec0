//! `serve`, `listen` and `demo` as processes.

use crate::folder::{Folder, get};

fn serving() -> Folder {
    Folder::new()
        .env("POSTRIDER_API__LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.0/8")
}

#[test]
fn an_event_goes_from_the_command_line_to_a_verifying_receiver() {
    let folder = serving();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut receiver = folder.start_listening(&["--secret", secret, "--count", "1", "--json"]);
    let url = receiver.url.clone();
    let add = [
        "hook", "add", "--url", &url, "--event", "*", "--secret", secret,
    ];
    let hook = folder.object(&add);
    let mut serve = folder.start(&["serve", "--json"]);
    assert_eq!(serve.object()["ready"], true);
    let sent = folder.object(&["event", "send", "--type", "a.b", "--payload", "{\"n\":1.0}"]);
    let arrival = receiver.running.object();
    assert_eq!(arrival["id"], sent["id"]);
    assert_eq!(arrival["verified"], true);
    assert_eq!(arrival["repeat"], 0);
    assert!(
        arrival["body"]
            .as_str()
            .unwrap()
            .contains("\"data\":{\"n\":1.0}")
    );
    assert_eq!(receiver.running.ended(), 0);
    assert_eq!(serve.terminate(), 0);
    let deliveries = folder.json(&["delivery", "list", "--hook", hook["id"].as_str().unwrap()]);
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0]["state"], "delivered");
    let shown = folder.object(&["delivery", "show", deliveries[0]["id"].as_str().unwrap()]);
    assert_eq!(shown["history"][0]["status"], 200);
}

#[test]
fn serve_says_where_it_listens_and_how_it_is() {
    let folder = serving();
    let mut serve = folder.start(&["serve", "--json"]);
    let started = serve.object();
    let metrics = started["metrics"].as_str().unwrap();
    let api = started["api"].as_str().unwrap();
    for url in [metrics, api] {
        assert!(get(url, "/livez").starts_with("HTTP/1.1 200"), "{url}");
        assert!(get(url, "/readyz").starts_with("HTTP/1.1 200"), "{url}");
    }
    assert!(get(metrics, "/metrics").contains("# TYPE postrider_"));
    let missing = get(api, "/v1/nothing");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains("application/problem+json"), "{missing}");
    assert_eq!(serve.terminate(), 0);
}

#[test]
fn a_second_worker_on_the_same_file_is_refused() {
    let folder = serving();
    let mut serve = folder.start(&["serve", "--json"]);
    serve.object();
    let second = folder.run(&["serve"]);
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("stop that one first"),
        "{}",
        second.stderr
    );
    assert_eq!(serve.terminate(), 0);
}

#[test]
fn an_address_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new().env("POSTRIDER_METRICS__LISTEN", &address);
    let ran = folder.run(&["serve"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("POSTRIDER_METRICS__LISTEN"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_hook_is_tested_at_once() {
    let folder = serving();
    let receiver = folder.start_listening(&["--fail-first", "1", "--status", "503"]);
    let hook = folder.object(&["hook", "add", "--url", &receiver.url, "--event", "a"]);
    let id = hook["id"].as_str().unwrap();
    let failed = folder.run(&["hook", "test", id, "--json"]);
    assert_eq!(failed.code, 1);
    assert_eq!(failed.objects()[0]["status"], 503);
    let accepted = folder.object(&["hook", "test", id]);
    assert_eq!(accepted["outcome"], "accepted");
    assert_eq!(folder.object(&["hook", "show", id])["fail_count"], 0);
}

#[test]
fn the_demo_passes_and_leaves_nothing() {
    let folder = Folder::new();
    let told = folder.json(&["demo"]);
    let done = told.iter().filter(|said| said["kind"] == "done").count();
    assert_eq!(done, 6, "{told:?}");
    assert!(folder.files().is_empty());
}
