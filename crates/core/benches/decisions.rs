//! What each decision costs that is made for every attempt.
//!
//! `cargo bench -p postrider-core --bench decisions`; with `-- --test` each runs once.

use criterion::{Criterion, criterion_group, criterion_main};
use postrider_core::{
    DeliveryId, EventId, EventPattern, Health, HealthPolicy, HookId, Observation, Outcome,
    RetrySchedule, Timestamp, next_step,
};
use std::hint::black_box;
use std::time::Duration;
use uuid::Uuid;

/// Attempts of one hook in one batch of settlements, at most.
const BATCH: usize = 64;

fn delivery() -> DeliveryId {
    DeliveryId::of(EventId(Uuid::from_u128(1)), HookId(Uuid::from_u128(2)))
}

fn refused() -> Outcome {
    Outcome::refused(503, Some(Duration::from_secs(30)))
}

fn attempts(bench: &mut Criterion) {
    let (delivery, schedule) = (delivery(), RetrySchedule::default());
    let outcomes = [
        ("accepted", Outcome::Accepted { status: 200 }),
        ("refused", refused()),
    ];
    for (name, outcome) in outcomes {
        bench.bench_function(&format!("next_step/{name}"), |bench| {
            bench.iter(|| next_step(black_box(&outcome), delivery, black_box(1), &schedule));
        });
    }
    bench.bench_function("retry_schedule/delay_after", |bench| {
        bench.iter(|| schedule.delay_after(black_box(delivery), black_box(3)));
    });
    bench.bench_function("delivery_id/of", |bench| {
        let (event, hook) = (EventId(Uuid::from_u128(1)), HookId(Uuid::from_u128(2)));
        bench.iter(|| DeliveryId::of(black_box(event), black_box(hook)));
    });
}

fn health(bench: &mut Criterion) {
    let policy = HealthPolicy {
        back_off_after: 5,
        back_off_max: Duration::from_secs(900),
        disable_after_failures: 20,
        disable_after: Duration::from_secs(24 * 3_600),
        disable_when_exhausted: false,
    };
    let hook = HookId(Uuid::from_u128(2));
    let seen = |outcome: Outcome| Observation {
        started_at: Timestamp::UNIX_EPOCH,
        at: Timestamp::UNIX_EPOCH,
        outcome,
        retry_at: None,
        exhausted: false,
    };
    let batches = [
        (
            "accepted",
            vec![seen(Outcome::Accepted { status: 200 }); BATCH],
        ),
        ("refused", vec![seen(refused()); BATCH]),
    ];
    for (name, batch) in batches {
        let health = Health::default();
        bench.bench_function(&format!("health/after_{BATCH}_{name}"), |bench| {
            bench.iter(|| health.after(hook, black_box(&batch), &policy));
        });
    }
}

fn patterns(bench: &mut Criterion) {
    let patterns = [
        ("any", EventPattern::Any),
        ("below", EventPattern::Below("invoice".into())),
        (
            "exactly",
            EventPattern::Exactly("invoice.payment.settled".into()),
        ),
    ];
    for (name, pattern) in patterns {
        bench.bench_function(&format!("pattern/{name}"), |bench| {
            bench.iter(|| pattern.matches(black_box("invoice.payment.settled")));
        });
    }
}

criterion_group!(decisions, attempts, health, patterns);
criterion_main!(decisions);
