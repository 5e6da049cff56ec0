//! A batch of outbox rows is bounded by its deliveries and by the bytes of its payloads.

use crate::support::ids_of;
use postrider_core::NewEvent;
use postrider_store::{EventState, FanOutRequest};
use postrider_tests::{TestStore, conformance, event};

#[conformance]
async fn a_full_batch_says_that_there_may_be_more(t: &TestStore) {
    t.insert_many("a", 5).await;
    let request = || FanOutRequest {
        max_events: 3,
        ..t.request()
    };
    let first = t.store.fan_out(request()).await.unwrap();
    assert_eq!((first.events, first.more), (3, true));
    let second = t.store.fan_out(request()).await.unwrap();
    assert_eq!((second.events, second.more), (2, false));
}

#[conformance]
async fn a_batch_is_bounded_by_its_deliveries(t: &TestStore) {
    for _ in 0..4 {
        t.hook("*").await;
    }
    let ids = t.insert_many("a", 5).await;
    let request = || FanOutRequest {
        max_deliveries: 10,
        ..t.request()
    };
    let first = t.store.fan_out(request()).await.unwrap();
    assert_eq!((first.events, first.deliveries), (2, 8));
    assert!(first.more);
    let states = [EventState::FannedOut, EventState::Queued];
    assert_eq!(t.store.event(ids[1]).await.unwrap().state, states[0]);
    assert_eq!(t.store.event(ids[2]).await.unwrap().state, states[1]);
    let tiny = FanOutRequest {
        max_deliveries: 1,
        ..t.request()
    };
    let single = t.store.fan_out(tiny).await.unwrap();
    assert_eq!(
        (single.events, single.deliveries),
        (1, 4),
        "one always fits"
    );
}

#[conformance]
async fn a_batch_is_bounded_by_the_bytes_of_its_payloads(t: &TestStore) {
    const MAX_BYTES: usize = 250_000;
    t.hook("*").await;
    // Among small ones: large ones that compress to almost nothing, and ones that do not.
    let events: Vec<_> = (0..40)
        .map(|number| match number % 4 {
            0 => NewEvent::new("work", &"x".repeat(90_000)),
            1 => NewEvent::new("work", &noise(60_000)),
            2 => NewEvent::new("work", &"y".repeat(2_500)),
            _ => NewEvent::new("work", &number),
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let ids = t.insert(&events).await;
    let mut batches = Vec::new();
    loop {
        let request = FanOutRequest {
            max_bytes: MAX_BYTES as u64,
            ..t.request()
        };
        let done = t.store.fan_out(request).await.unwrap();
        assert_eq!(done.events as usize, done.started.len());
        let bytes = done
            .started
            .iter()
            .map(|d| d.first().event.payload.as_str().len());
        assert!(bytes.sum::<usize>() <= MAX_BYTES);
        batches.push(done.started);
        if !done.more {
            break;
        }
    }
    assert!((7..=20).contains(&batches.len()), "{}", batches.len());
    let taken = batches.concat();
    assert_eq!(ids_of(&taken), ids, "each once, in order");
    for (leased, event) in taken.iter().zip(&events) {
        assert_eq!(leased.first().event.payload.as_str(), event.payload.get());
    }
}

#[conformance]
async fn a_payload_larger_than_the_bound_is_taken_alone(t: &TestStore) {
    t.hook("*").await;
    let large = NewEvent::new("work", &noise(300_000)).unwrap();
    let ids = t.insert(&[large.clone(), event("work"), large]).await;
    for (id, more) in ids.iter().zip([true, true, false]) {
        let request = FanOutRequest {
            max_bytes: 10,
            ..t.request()
        };
        let done = t.store.fan_out(request).await.unwrap();
        assert_eq!(ids_of(&done.started), [*id]);
        assert_eq!(done.more, more);
    }
}

/// Text that hardly compresses.
fn noise(length: usize) -> String {
    let mut state = 1_u32;
    let letters = std::iter::from_fn(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(char::from(b'0' + (state >> 24) as u8 % 64))
    });
    letters
        .filter(char::is_ascii_alphanumeric)
        .take(length)
        .collect()
}
