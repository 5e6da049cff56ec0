//! Real payloads end to end: from a file through the database to a receiver that verifies every
//! signature with a third-party library.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::SigningSecret;
use postrider_store::Backend;
use postrider_tests::{Postrider, Process, TestDatabase, on_both, python};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

on_both!(
    real_payloads_arrive_byte_for_byte_and_verify_with_an_independent_library,
    events_from_standard_input_arrive,
);

/// 329 payloads as GitHub sends them, one event a line.
const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/github.ndjson.gz");

/// How many there are.
const COUNT: usize = 329;

async fn real_payloads_arrive_byte_for_byte_and_verify_with_an_independent_library(
    backend: Backend,
) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let secrets = [
        ("/envelope", SigningSecret::generate().reveal()),
        ("/payload", SigningSecret::generate().reveal()),
    ];
    let arguments = secrets.iter().map(|(path, key)| format!("{path}={key}"));
    let receiver = Process::start("receiver.py", python("receiver.py").args(arguments));
    let port = receiver.wait_for_lines(1).await.remove(0);
    for (path, secret) in &secrets {
        let url = format!("http://127.0.0.1:{port}{path}");
        let body = &path[1..];
        let add = ["hook", "add", "--url", &url, "--event", "*", "--body", body];
        let hook = postrider
            .json(&[&add[..], &["--secret", secret]].concat())
            .await;
        assert_eq!(hook["secret"], secret.as_str());
    }

    let file = postrider.folder().join("events.ndjson");
    unpack(&file);
    let sent = postrider
        .json(&["event", "send", "--file", file.to_str().expect("a path")])
        .await;
    assert_eq!(sent["sent"], COUNT);
    let worker = postrider.serve().await;
    let lines = receiver.wait_for_lines(1 + 2 * COUNT).await;
    drop(worker);

    let arrivals: Vec<Arrival> = lines[1..].iter().map(|line| parse(line)).collect();
    let problems: BTreeSet<_> = arrivals.iter().filter_map(|a| a.problem.as_ref()).collect();
    assert_eq!(problems, BTreeSet::new());
    assert!(arrivals.iter().all(|arrival| arrival.verified));
    assert_eq!(arrivals.len(), 2 * COUNT);

    // Byte for byte, as often as it stands in the file, in both forms.
    let text = std::fs::read_to_string(&file).expect("read the events");
    let mut expected = BTreeMap::<_, usize>::new();
    for line in text.lines() {
        let line: Line = parse(line);
        *expected
            .entry((line.event_type, line.payload.get().to_owned()))
            .or_default() += 1;
    }
    let mut types = BTreeMap::new();
    let mut enveloped = BTreeMap::<_, usize>::new();
    for arrival in arrivals
        .iter()
        .filter(|arrival| arrival.path == "/envelope")
    {
        let body = arrival.body();
        let envelope: Envelope = parse(&body);
        assert!(body.starts_with("{\"type\":\""), "{body}");
        types.insert(arrival.id.clone(), envelope.event_type.clone());
        let event = (envelope.event_type, envelope.data.get().to_owned());
        *enveloped.entry(event).or_default() += 1;
    }
    let mut bare = BTreeMap::<_, usize>::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.path == "/payload") {
        let event = (types[&arrival.id].clone(), arrival.body());
        *bare.entry(event).or_default() += 1;
    }
    assert!(enveloped == expected, "the data of the envelopes differs");
    assert!(bare == expected, "the bare payloads differ");
}

async fn events_from_standard_input_arrive(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = postrider_tests::Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "order.*"])
        .await;
    let line = r#"{"event_type":"order.made","payload":{"n":1}}"#;
    let lines = format!("{line}\n\n{line}\n");
    let sent = postrider
        .run_with_input(&["event", "send", "--file", "-", "--json"], &lines)
        .await
        .succeeded();
    assert_eq!(sent.stdout, "{\"sent\":2}\n");
    let _worker = postrider.serve().await;
    receiver.wait_for(2).await;
}

#[derive(Deserialize)]
struct Line {
    event_type: String,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    event_type: String,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct Arrival {
    path: String,
    id: String,
    verified: bool,
    problem: Option<String>,
    body: String,
}

impl Arrival {
    fn body(&self) -> String {
        let bytes = BASE64.decode(&self.body).expect("base64");
        String::from_utf8(bytes).expect("text")
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn unpack(to: &Path) {
    let file = std::fs::File::create(to).expect("make a file");
    let gzip = Command::new("gzip")
        .args(["-dc", EVENTS])
        .stdout(file)
        .status();
    assert!(gzip.expect("run gzip").success());
}
