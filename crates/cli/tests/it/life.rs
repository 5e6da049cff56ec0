//! Hooks, events and deliveries by command line, on SQLite.

use crate::folder::Folder;
use std::os::unix::fs::PermissionsExt;

const URL: &str = "https://hooks.example.com/a";

fn add(folder: &Folder, more: &[&str]) -> serde_json::Value {
    folder.object(&[&["hook", "add", "--url", URL, "--event", "invoice.*"], more].concat())
}

#[test]
fn the_first_hook_makes_the_database_and_its_key() {
    let folder = Folder::new();
    let first = folder.run(&[
        "hook",
        "add",
        "--url",
        URL,
        "--event",
        "invoice.*",
        "--json",
    ]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(
        first.stderr.contains("Created postrider.db."),
        "{}",
        first.stderr
    );
    assert!(
        first.stderr.contains("Created postrider.db.key"),
        "{}",
        first.stderr
    );
    let mode = std::fs::metadata(folder.path().join("postrider.db.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = folder.run(&["hook", "add", "--url", URL, "--event", "*", "--json"]);
    assert_eq!(second.stderr, "");
    assert_ne!(first.objects()[0]["secret"], second.objects()[0]["secret"]);
}

#[test]
fn a_hook_is_shown_without_its_secret() {
    let folder = Folder::new();
    let added = add(
        &folder,
        &[
            "--account",
            "acme",
            "--header",
            "X-Token=hunter2",
            "--retry-schedule",
            "1s,2m",
        ],
    );
    let secret = added["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let id = added["id"].as_str().unwrap();
    let mut shown = folder.object(&["hook", "show", id]);
    let history = shown.as_object_mut().unwrap().remove("history").unwrap();
    assert_eq!(history[0]["action"], "created");
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["fail_count"], 0);
    assert_eq!(shown["events"], serde_json::json!(["invoice.*"]));
    assert_eq!(shown.get("secret"), None);
    assert_eq!(folder.json(&["hook", "list", "--account", "acme"]), [shown]);
    assert!(
        folder
            .json(&["hook", "list", "--account", "other"])
            .is_empty()
    );
    let text = folder.run(&["hook", "show", id]).stdout;
    assert!(text.contains("retry_schedule  1s, 2m"), "{text}");
    assert!(
        !text.contains(secret) && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_hook_goes_through_its_states() {
    let folder = Folder::new();
    let hook = add(&folder, &[]);
    let id = hook["id"].as_str().unwrap();
    for (command, status) in [
        ("pause", "paused"),
        ("enable", "active"),
        ("disable", "disabled"),
    ] {
        let changed = folder.object(&["hook", command, id]);
        assert_eq!(changed["status"], status);
    }
    let disabled = folder.object(&["hook", "show", id]);
    assert_eq!(disabled["disabled_reason"], "manual");
    assert_eq!(disabled["disabled_by"], "cli");
    let rotated = folder.object(&["hook", "rotate-secret", id]);
    assert_ne!(rotated["secret"], hook["secret"]);
    assert_eq!(folder.object(&["hook", "remove", id])["id"], id);
    let gone = folder.run(&["hook", "show", id]);
    assert_eq!(gone.code, 1);
    assert_eq!(gone.stderr, format!("error: there is no hook {id}\n"));
}

#[test]
fn an_event_is_kept_byte_for_byte() {
    let folder = Folder::new();
    let payload = "{\"n\": 1.0,\"n\":2, \"s\":\"\\u00e4\"}";
    let path = folder.write("payload.json", payload);
    let from_file = format!("@{}", path.display());
    for argument in [payload, from_file.as_str(), "@-"] {
        let args = [
            "event",
            "send",
            "--type",
            "a",
            "--payload",
            argument,
            "--json",
        ];
        let sent = folder.run_with(&args, payload);
        let id = sent.objects()[0]["id"].as_str().unwrap().to_owned();
        let shown = folder.run(&["event", "show", &id, "--json"]).stdout;
        assert!(shown.contains(payload), "{shown}");
    }
    assert_eq!(folder.json(&["event", "list", "--type", "a"]).len(), 3);
    assert_eq!(folder.json(&["event", "list", "--limit", "2"]).len(), 2);
}

#[test]
fn a_file_of_events_stops_at_a_bad_line_and_goes_on_from_there() {
    let folder = Folder::new();
    let good = "{\"event_type\":\"a\",\"payload\":1}\n";
    let bad = "{\"event_type\":\"a\",\"payload\":}\n";
    folder.write(
        "events.ndjson",
        &[&good.repeat(700), bad, &good.repeat(3)].concat(),
    );
    let file = ["event", "send", "--file", "events.ndjson", "--json"];
    let stopped = folder.run(&file);
    assert_eq!(stopped.code, 1);
    assert_eq!(stopped.stdout, "");
    for expected in [
        "events.ndjson, line 701: not valid JSON",
        "700 events were sent before it",
        "--from-line 701",
    ] {
        assert!(stopped.stderr.contains(expected), "{}", stopped.stderr);
    }
    folder.write("events.ndjson", &good.repeat(704));
    let went_on = folder.run(&[&file[..], &["--from-line", "701"]].concat());
    assert_eq!(went_on.objects(), [serde_json::json!({ "sent": 4 })]);
    assert_eq!(folder.json(&["event", "list"]).len(), 704);
}

#[test]
fn events_come_from_standard_input_too() {
    let folder = Folder::new();
    let line = "{\"event_type\":\"a\",\"payload\":1,\"account\":\"acme\"}\n";
    let sent = folder.run_with(&["event", "send", "--file", "-"], &line.repeat(2));
    assert_eq!(sent.stdout, "Sent 2 events.\n");
    assert_eq!(
        folder.json(&["event", "list", "--account", "acme"]).len(),
        2
    );
}

#[test]
fn a_check_says_what_is_well_and_changes_nothing() {
    let folder = Folder::new();
    let before = folder.json(&["check"]);
    assert!(
        before.iter().all(|line| line["status"] == "ok"),
        "{before:?}"
    );
    assert!(folder.files().is_empty());
    add(&folder, &[]);
    let after = folder.json(&["check"]);
    assert!(after.iter().all(|line| line["status"] == "ok"), "{after:?}");
    let checks: Vec<_> = after
        .iter()
        .filter_map(|line| line["check"].as_str())
        .collect();
    for check in [
        "configuration",
        "database",
        "clock",
        "migrations",
        "secrets",
        "outbox",
    ] {
        assert!(checks.contains(&check), "{checks:?}");
    }
}

#[test]
fn a_check_finds_a_lost_key() {
    let folder = Folder::new();
    add(&folder, &[]);
    std::fs::remove_file(folder.path().join("postrider.db.key")).unwrap();
    let checked = folder.run(&["check", "--json"]);
    assert_eq!(checked.code, 1);
    let lines = checked.objects();
    let secrets = lines
        .iter()
        .find(|line| line["check"] == "secrets")
        .unwrap();
    assert_eq!(secrets["status"], "problem", "{secrets}");
}

#[test]
fn listings_are_text_for_people() {
    let folder = Folder::new();
    let none = folder.run(&["hook", "list"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert!(
        none.stderr.contains("postrider hook add"),
        "{}",
        none.stderr
    );
    add(&folder, &[]);
    let listed = folder.run(&["hook", "list"]).stdout;
    let mut lines = listed.lines();
    assert!(lines.next().unwrap().starts_with("ID "), "{listed}");
    assert!(lines.next().unwrap().ends_with(URL), "{listed}");
}
