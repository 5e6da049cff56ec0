//! What cannot be used is refused with a sentence that says what to do, and changes nothing.

use crate::folder::Folder;

const EXPECTED_EXIT: i32 = 2;

#[test]
fn arguments_that_cannot_be_used() {
    let large = format!("\"{}\"", "x".repeat(512 * 1024));
    let folder = Folder::new();
    let large = folder.write("large.json", &large);
    let large = format!("@{}", large.display());
    let add = ["hook", "add", "--url"];
    let send = ["event", "send", "--type"];
    let table: [(&[&str], &[&str], &str); 9] = [
        (
            &add,
            &["ftp://a", "--event", "a"],
            "only http:// and https:// are supported",
        ),
        (
            &add,
            &["https://a", "--event", "a*"],
            "is not an event pattern",
        ),
        (
            &add,
            &["https://a", "--event", "a", "--header", "x"],
            "takes NAME=VALUE",
        ),
        (
            &add,
            &["https://a", "--event", "a", "--header", "Host=x"],
            "Postrider sets it itself",
        ),
        (
            &add,
            &["https://a", "--event", "a", "--timeout", "5"],
            "write a number with a unit",
        ),
        (
            &send,
            &["a", "--payload", "{"],
            "the payload is not valid JSON",
        ),
        (
            &send,
            &["a", "--payload", &large],
            "send a reference to large data instead",
        ),
        (
            &send,
            &["postrider.x", "--payload", "1"],
            "choose another name",
        ),
        (
            &send,
            &["a", "--payload", "1", "--deliver-after", "soon"],
            "--deliver-after",
        ),
    ];
    for (command, args, expected) in table {
        let ran = folder.run(&[command, args].concat());
        assert_eq!(ran.code, EXPECTED_EXIT, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let table = [
        (
            "[worker]\nconcurency = 1",
            "did you mean \"worker.concurrency\"?",
        ),
        (
            "[worker]\nlease = \"15s\"",
            "raise worker.lease or lower worker.request_timeout",
        ),
        ("[worker", "postrider.toml, line 1: not valid TOML"),
        (
            "[database]\nurl = \"mysql://a\"",
            "must begin with sqlite:// or postgres://",
        ),
    ];
    for (text, expected) in table {
        let folder = Folder::new();
        folder.write("postrider.toml", text);
        for command in [&["serve"][..], &["hook", "list"], &["migrate"]] {
            let ran = folder.run(command);
            assert_eq!(ran.code, EXPECTED_EXIT, "{text}: {}", ran.stderr);
            assert!(ran.stderr.contains(expected), "{text}: {}", ran.stderr);
        }
        assert_eq!(folder.files(), ["postrider.toml"]);
        let checked = folder.run(&["check", "--json"]);
        assert_eq!(checked.code, 1);
        assert_eq!(checked.objects()[0]["status"], "problem");
    }
}

#[test]
fn an_unreachable_database() {
    let folder = Folder::new();
    // Port 1 of this machine: nothing listens there.
    let url = "postgres://postrider:hunter2@127.0.0.1:1/app";
    for command in [
        &["hook", "list"][..],
        &["migrate"],
        &["event", "send", "--type", "a", "--payload", "1"],
    ] {
        let ran = folder.run(&[command, &["--database", url]].concat());
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("127.0.0.1:1"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn secrets_on_postgres_without_a_key() {
    let folder = Folder::new().env("DATABASE_URL", "postgres://127.0.0.1:1/app");
    let id = "0193a5c8-7d2e-7c3a-9b1f-000000000000";
    for command in [
        &["hook", "add", "--url", "https://a.example", "--event", "a"][..],
        &["hook", "rotate-secret", id],
        &["hook", "test", id],
        &["serve"],
    ] {
        let ran = folder.run(command);
        assert_eq!(ran.code, EXPECTED_EXIT, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("POSTRIDER_SECRETS__KEY"),
            "{}",
            ran.stderr
        );
    }
}
