//! What a worker does for each delivery before the request leaves: sign it, and build it.
//!
//! `cargo bench -p postrider-worker --bench delivery`; with `-- --test` each runs once.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider_core::{
    Event, EventId, EventPattern, Hook, HookCredentials, HookId, HookSettings, HookStatus, Payload,
    SigningSecret, Timestamp,
};
use postrider_worker::{Prepared, Profiles, Sending};
use std::hint::black_box;
use std::time::Duration;
use uuid::Uuid;

const PAYLOAD_BYTES: usize = 1_024;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn hook() -> Hook {
    Hook {
        id: HookId(Uuid::from_u128(2)),
        alias: None,
        account: "default".into(),
        url: "https://example.com/webhooks/inbox".into(),
        events: vec![EventPattern::Any],
        profile: "standard".into(),
        status: HookStatus::Active,
        disabled: None,
        phase: None,
        settings: HookSettings::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        locked: false,
        created_at: NOW,
        updated_at: NOW,
        version: 1,
    }
}

fn event() -> Event {
    let fill = "x".repeat(PAYLOAD_BYTES - r#"{"fill":""}"#.len());
    Event {
        id: EventId(Uuid::from_u128(1)),
        account: "default".into(),
        event_type: "invoice.paid".into(),
        payload: Payload::from_checked(format!(r#"{{"fill":"{fill}"}}"#)),
        ordering_key: None,
        headers: None,
        occurred_at: NOW,
    }
}

fn sign(bench: &mut Criterion) {
    let signer = hook().credentials.signer(NOW);
    let (id, body) = (event().id.to_string(), event().payload);
    let mut group = bench.benchmark_group("sign");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES as u64));
    group.bench_function("hmac_1_kib", |bench| {
        bench.iter(|| signer.sign(black_box(&id), 0, black_box(body.as_str().as_bytes())));
    });
    group.finish();
}

fn request(bench: &mut Criterion) {
    let (hook, event) = (hook(), event());
    let (longest, profiles) = (Duration::from_secs(15), Profiles::default());
    let prepare = || Prepared::new(black_box(&hook), longest, &profiles, NOW);
    bench.bench_function("prepare_hook", |bench| bench.iter(prepare));
    let prepared = prepare().expect("the hook can be sent to");
    let mut group = bench.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    group.bench_function("standard_1_kib", |bench| {
        bench.iter(|| {
            prepared.request(&Sending {
                others: &[],
                hook: &hook,
                event: black_box(&event),
                number: 1,
                now: NOW,
            })
        });
    });
    group.finish();
}

criterion_group!(delivery, sign, request);
criterion_main!(delivery);
