//! What it costs to find the hooks that an event is for.
//!
//! `cargo bench -p postrider-store --bench book`; with `-- --test` each runs once.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use postrider_core::{EventPattern, Hook, HookId};
use postrider_store::HookCache;
use postrider_tests::stored_hook;
use std::hint::black_box;
use uuid::Uuid;

/// The `number`-th hook of the account; of every ten hooks one asks for `invoice.*`.
fn hook(number: u32) -> Hook {
    let events = match number % 10 {
        0 => EventPattern::Below("invoice".into()),
        other => EventPattern::Exactly(format!("order.{other}")),
    };
    Hook {
        events: vec![events],
        ..stored_hook(HookId(Uuid::from_u128(number.into())))
    }
}

fn matching(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("cache/matching");
    for hooks in [1, 10, 1_000] {
        let cache = HookCache::of((0..hooks).map(hook));
        group.bench_with_input(
            BenchmarkId::from_parameter(hooks),
            &cache,
            |bench, cache| {
                bench.iter(|| {
                    cache
                        .matching(black_box("default"), black_box("invoice.paid"))
                        .count()
                });
            },
        );
    }
    group.finish();
}

criterion_group!(cache, matching);
criterion_main!(cache);
