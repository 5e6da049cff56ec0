//! How batches form: what goes together in one request.

use crate::batch_steps::{
    Of, WINDOW, events_of, fan_out, fan_out_with, insert, lease, lease_request, one,
};
use postrider_core::{EventId, LeaseToken, Ordered};
use postrider_store::{HookRequest, LeaseRequest};
use postrider_tests::{TestStore, conformance, event, new_hook};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[conformance]
async fn deliveries_wait_for_others_as_long_as_the_window(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("work").await);
    let only = Arc::new(Of {
        hook: Some(hook),
        most: 100,
    });
    let ids = t.insert_many("work", 2).await;
    let done = fan_out_with(t, only.clone()).await;
    assert!(done.started.iter().all(|leased| leased.hook.id == other));
    assert_eq!(done.started.len(), 2, "no other hook waits");
    let until = t.now() + Duration::from_secs(WINDOW);
    assert_eq!(done.batching, [(hook, until)]);
    assert_eq!(done.waiting, []);

    t.advance(3);
    let later = t.insert(&[event("work")]).await;
    fan_out_with(t, only).await;
    t.advance(1);
    assert!(lease(t, hook, 100, 10).await.is_empty(), "not yet");
    t.advance(1);
    // What came meanwhile goes too, though its own time has not come.
    let batch = one(lease(t, hook, 100, 10).await);
    assert_eq!(events_of(&batch), [ids, later].concat());
}

#[conformance]
async fn a_batch_has_one_type_and_a_limited_size_in_the_order_of_insertion(t: &TestStore) {
    let hook = t.hook("*").await;
    let mut events = vec![event("a"); 5];
    events.splice(1..1, vec![event("b"); 2]);
    let ids = insert(t, &events, 2).await;
    let batches = lease(t, hook, 2, 10).await;
    let found: Vec<_> = batches.iter().map(events_of).collect();
    let expected = [
        vec![ids[0], ids[3]],
        vec![ids[1], ids[2]],
        vec![ids[4], ids[5]],
        vec![ids[6]],
    ];
    assert_eq!(sorted(found), sorted(expected.to_vec()));
    for batch in &batches {
        assert!(
            batch
                .events()
                .all(|e| e.event_type == batch.first().event.event_type)
        );
    }
}

#[conformance]
async fn a_batch_counts_as_one(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = insert(t, &vec![event("work"); 7], 3).await;
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[..3]);
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[3..6]);
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[6..]);
    assert!(lease(t, hook, 3, 1).await.is_empty());
}

#[conformance]
async fn events_with_other_headers_go_in_another_batch(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut events = vec![event("work"); 3];
    events[1].headers = Some(r#"{"x-part":"1"}"#.into());
    let ids = insert(t, &events, 100).await;
    let found = lease(t, hook, 100, 10).await;
    let found: Vec<_> = found.iter().map(events_of).collect();
    assert_eq!(
        sorted(found),
        sorted(vec![vec![ids[0], ids[2]], vec![ids[1]]])
    );
}

#[conformance]
async fn large_payloads_make_small_batches(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut large = event("work");
    large.payload = serde_json::value::to_raw_value(&"x".repeat(500 * 1024)).unwrap();
    let ids = insert(t, &vec![large; 3], 100).await;
    let found = lease(t, hook, 100, 10).await;
    let found: Vec<_> = found.iter().map(events_of).collect();
    assert_eq!(found, [ids[..2].to_vec(), ids[2..].to_vec()]);
}

#[conformance]
async fn deliver_after_is_waited_for_by_each(t: &TestStore) {
    let hook = t.hook("work").await;
    let at = t.now() + Duration::from_secs(WINDOW + 2);
    let events = [event("work"), event("work").deliver_after(at)];
    let ids = insert(t, &events, 100).await;
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), ids[..1]);
    t.advance(2);
    assert!(lease(t, hook, 100, 10).await.is_empty());
    t.advance(WINDOW);
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), ids[1..]);
}

#[conformance]
async fn an_ordered_hook_gets_its_events_one_by_one(t: &TestStore) {
    let mut ordered = new_hook("default", &["work"]);
    ordered.settings.ordered = Some(Ordered::Key);
    let hook = t.register(ordered).await.id;
    t.insert_many("work", 2).await;
    fan_out(t, 100).await;
    let leased = lease(t, hook, 100, 10).await;
    assert_eq!(leased.len(), 2);
    assert!(
        leased
            .iter()
            .all(|leased| leased.deliveries.rest.is_empty())
    );
}

#[conformance]
async fn several_that_lease_at_once_cut_nothing_twice(t: &TestStore) {
    let hook = t.hook("work").await;
    insert(t, &vec![event("work"); 400], 10).await;
    let second = t.another().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for number in 0..6 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, request) = (store.clone(), lease_request(t, hook, 10, 3));
        let taken = taken.clone();
        callers.push(tokio::spawn(async move {
            let mut mine: Vec<HookRequest> = Vec::new();
            // Who finds another one cutting gets nothing, and asks again.
            while taken.load(Ordering::Relaxed) < 400 {
                let request = LeaseRequest {
                    token: LeaseToken::draw(request.now),
                    ..request.clone()
                };
                let leased = store.lease(request).await.unwrap();
                let count = leased.iter().flat_map(HookRequest::ids).count();
                taken.fetch_add(count, Ordering::Relaxed);
                mine.extend(leased);
            }
            mine
        }));
    }
    let mut batches = Vec::new();
    for caller in callers {
        batches.extend(caller.await.unwrap());
    }
    let all: Vec<_> = batches.iter().flat_map(HookRequest::ids).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (400, 400));
    for batch in &batches {
        let ids: Vec<_> = events_of(batch);
        assert!(ids.len() <= 10 && ids.is_sorted(), "{ids:?}");
    }

    assert_eq!(batches.len(), 40, "as full as can be");
}

fn sorted(mut all: Vec<Vec<EventId>>) -> Vec<Vec<EventId>> {
    all.sort_unstable();
    all
}
