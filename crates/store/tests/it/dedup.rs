//! A second event with a deduplication key is dropped and counted.

use crate::support::ids_of;
use postrider_core::LeaseToken;
use postrider_store::{Error, FanOutRequest};
use postrider_tests::{TestStore, conformance, event};

#[conformance]
async fn a_repeat_in_the_same_batch_is_dropped(t: &TestStore) {
    t.hook("*").await;
    let keyed = || event("a").dedup_key("k");
    let ids = t.insert(&[keyed(), event("b"), keyed(), keyed()]).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.duplicates), (2, 2));
    assert_eq!(ids_of(&done.started), [ids[0], ids[1]], "the first counts");
    assert!(matches!(
        t.store.event(ids[2]).await,
        Err(Error::NotFound { .. })
    ));
}

#[conformance]
async fn a_repeat_in_a_later_batch_is_dropped(t: &TestStore) {
    t.hook("*").await;
    t.insert(&[event("a").dedup_key("k")]).await;
    assert_eq!(t.fan_out().await.events, 1);
    t.advance(3_600);
    t.insert(&[event("a").dedup_key("k"), event("a").dedup_key("l")])
        .await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.duplicates), (1, 1));
    assert_eq!(done.started.len(), 1);
}

#[conformance]
async fn accounts_do_not_share_keys(t: &TestStore) {
    t.hook("*").await;
    t.hook_of("acme", "*").await;
    t.hook_of("later", "*").await;
    let keyed = |account: &str| event("a").account(account).dedup_key("k");
    t.insert(&[keyed("default"), keyed("acme")]).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.duplicates), (2, 0));
    t.insert(&[keyed("later")]).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.duplicates), (1, 0));
}

#[conformance]
async fn events_without_a_key_are_never_repeats(t: &TestStore) {
    t.insert_many("a", 2).await;
    t.fan_out().await;
    t.insert_many("a", 2).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.duplicates), (2, 0));
}

#[conformance]
async fn what_is_left_for_the_next_batch_is_judged_there(t: &TestStore) {
    for _ in 0..4 {
        t.hook("*").await;
    }
    let keyed = |number: usize| event("a").dedup_key(format!("k{number}"));
    let bad = event("postrider.x").dedup_key("k3");
    t.insert(&[keyed(0), keyed(1), keyed(0), bad, keyed(2), keyed(3)])
        .await;
    let request = FanOutRequest {
        max_deliveries: 4,
        ..t.request()
    };
    let first = t.store.fan_out(request).await.unwrap();
    assert_eq!((first.events, first.duplicates, first.rejected), (1, 0, 0));
    assert!(first.more);
    let rest = t.fan_out().await;
    assert_eq!((rest.events, rest.duplicates, rest.rejected), (3, 1, 1));
    assert_eq!(t.store.rejected(10).await.unwrap().len(), 1);
}

#[conformance]
async fn of_two_workers_with_the_same_key_one_delivers(t: &TestStore) {
    t.hook("*").await;
    let events: Vec<_> = (0..100)
        .map(|number| event("a").dedup_key(format!("k{}", number % 10)))
        .collect();
    t.insert(&events).await;
    let second = t.another().await;
    let mut callers = Vec::new();
    for store in [t.store.clone(), second.clone(), t.store.clone(), second] {
        let request = t.request();
        callers.push(tokio::spawn(async move {
            let mut counts = (0, 0, 0);
            loop {
                let request = FanOutRequest {
                    token: LeaseToken::draw(request.now),
                    max_events: 7,
                    ..request.clone()
                };
                let done = store.fan_out(request).await.unwrap();
                counts.0 += done.events;
                counts.1 += done.duplicates;
                counts.2 += done.rejected;
                if !done.more {
                    return counts;
                }
            }
        }));
    }
    let mut counts = (0, 0, 0);
    for caller in callers {
        let (events, duplicates, rejected) = caller.await.unwrap();
        counts.0 += events;
        counts.1 += duplicates;
        counts.2 += rejected;
    }
    let rest = t.fan_out().await;
    counts.0 += rest.events;
    counts.1 += rest.duplicates;
    counts.2 += rest.rejected;
    assert_eq!(counts, (10, 90, 0));
}
