//! What is held for hooks that are not active, and giving it up.

use postrider_core::{DeliveryId, HookId, Timestamp};
use postrider_store::{
    BulkCursor, BulkPage, BulkPageResult, DeliveryState, Discard, Error, HistoryFilter, HookChange,
};
use postrider_tests::{TestStore, conformance};
use std::collections::BTreeSet;
use uuid::Uuid;

#[conformance]
async fn the_oldest_that_is_held_is_told(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 3).await;
    assert_eq!(t.shown(hook).await.oldest_held_at, None, "it is active");
    change(t, hook, HookChange::Pause).await;
    let shown = t.shown(hook).await;
    assert_eq!(shown.held, 3);
    assert_eq!(shown.oldest_held_at, Some(ids[0].event_made_at()));
    let listed = t.store.hooks(postrider_store::HookFilter {
        limit: 10,
        ..Default::default()
    });
    let listed = listed.await.unwrap();
    assert_eq!(listed[0].oldest_held_at, Some(ids[0].event_made_at()));
}

#[conformance]
async fn held_deliveries_are_discarded_page_by_page(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("*").await);
    change(t, hook, HookChange::Pause).await;
    t.insert_many("work", 7).await;
    let done = t.fan_out_without_room().await;
    assert_eq!(done.deliveries, 14);
    let held = held(t, hook).await;
    assert_eq!(held.len(), 7);

    let mut counts = Vec::new();
    let mut page = BulkPage::first(3);
    loop {
        let done = discard(t, hook, None, page).await;
        counts.push(done.count);
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(counts, [3, 3, 1]);
    assert_eq!(t.shown(hook).await.held, 0);
    for id in held {
        let report = t.delivery(id).await;
        assert_eq!(report.state, DeliveryState::Cancelled);
        assert_eq!(report.reason.as_deref(), Some("discarded"));
    }
    assert_eq!(t.lease(&[other]).await.len(), 7, "others keep theirs");

    // One entry for all of it, with who did it.
    let filter = HistoryFilter {
        before: None,
        limit: 1,
    };
    let last = t.store.hook_history(hook, filter).await.unwrap().remove(0);
    assert_eq!(
        (last.action.as_str(), last.actor.as_str()),
        ("discarded", "cli")
    );
    assert_eq!(last.deliveries, Some(7));
}

#[conformance]
async fn only_what_is_old_enough_is_discarded(t: &TestStore) {
    let hook = t.hook("work").await;
    change(t, hook, HookChange::Pause).await;
    let ids = t.waiting(hook, 6).await;
    let bound = ids[4].event_made_at();
    // Each page looks at two; what is younger is looked at and left.
    let mut page = BulkPage::first(2);
    let mut counts = Vec::new();
    loop {
        let done = discard(t, hook, Some(bound), page).await;
        counts.push(done.count);
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(counts.iter().sum::<u32>(), 4, "{counts:?}");
    let left: BTreeSet<_> = held(t, hook).await.into_iter().collect();
    assert_eq!(left, BTreeSet::from([ids[4], ids[5]]));
}

#[conformance]
async fn nothing_is_discarded_of_an_active_hook(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 2).await;
    let which = all(hook, None);
    let error = t
        .store
        .discard_held(&which, BulkPage::first(10), t.now())
        .await;
    assert!(matches!(error, Err(Error::Conflict(_))), "{error:?}");
    assert_eq!(t.lease(&[hook]).await.len(), 2);

    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let unknown = HookId(Uuid::from_u128(7));
    for missing in [hook, unknown] {
        let which = all(missing, None);
        let error = t
            .store
            .discard_held(&which, BulkPage::first(10), t.now())
            .await;
        assert!(matches!(error, Err(Error::NotFound { .. })), "{error:?}");
    }
}

#[conformance]
async fn what_is_in_flight_is_not_discarded(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.settle(&[t.refused(&started[0], 0)]).await;
    let leased = t.lease(&[hook]).await;
    t.settle(&[t.refused(&started[1], 60)]).await;
    change(t, hook, HookChange::Pause).await;
    assert_eq!(discard(t, hook, None, BulkPage::first(10)).await.count, 1);
    let in_flight = [t.accepted(&leased[0]), t.accepted(&started[2])];
    assert_eq!(t.settle(&in_flight).await.settled, 2);
    assert_eq!(
        t.delivery(started[1].id).await.state,
        DeliveryState::Cancelled
    );
}

#[conformance]
async fn what_was_discarded_can_be_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    change(t, hook, HookChange::Disable).await;
    let id = t.waiting(hook, 1).await.remove(0);
    assert_eq!(discard(t, hook, None, BulkPage::first(10)).await.count, 1);
    let report = t.store.redeliver(id, t.now()).await.unwrap();
    assert_eq!(report.state, DeliveryState::Held);
    change(t, hook, HookChange::Enable).await;
    assert_eq!(t.lease(&[hook]).await.len(), 1);
}

#[conformance]
async fn of_two_that_discard_at_once_each_delivery_ends_once(t: &TestStore) {
    let hook = t.hook("work").await;
    change(t, hook, HookChange::Pause).await;
    t.waiting(hook, 300).await;
    let second = t.another().await;
    let mut callers = Vec::new();
    for store in [t.store.clone(), second] {
        let (now, which) = (t.now(), all(hook, None));
        callers.push(tokio::spawn(async move {
            let (mut count, mut page) = (0, BulkPage::first(20));
            loop {
                let done = store.discard_held(&which, page, now).await.unwrap();
                count += done.count;
                page.after = done.next;
                if page.after.is_none() {
                    return count;
                }
            }
        }));
    }
    let mut count = 0;
    for caller in callers {
        count += caller.await.unwrap();
    }
    // What the other is at is passed over, so a few may be left to neither.
    let left = t.shown(hook).await.held;
    assert_eq!(count + left, 300);
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap();
}

fn all(hook: HookId, made_before: Option<Timestamp>) -> Discard {
    Discard {
        hook,
        made_before,
        by: "cli".into(),
    }
}

async fn discard(
    t: &TestStore,
    hook: HookId,
    made_before: Option<Timestamp>,
    page: BulkPage,
) -> BulkPageResult {
    let which = all(hook, made_before);
    let done = t.store.discard_held(&which, page, t.now()).await;
    done.unwrap()
}

async fn held(t: &TestStore, hook: HookId) -> Vec<DeliveryId> {
    let filter = postrider_store::DeliveryFilter {
        hook: Some(hook),
        state: Some(DeliveryState::Held),
        limit: 1_000,
        ..Default::default()
    };
    let listed = t.store.deliveries(filter).await.unwrap();
    listed.into_iter().map(|delivery| delivery.id).collect()
}

#[conformance]
async fn a_mark_survives_being_written_out(t: &TestStore) {
    let hook = t.hook("work").await;
    change(t, hook, HookChange::Pause).await;
    t.waiting(hook, 5).await;
    let first = discard(t, hook, None, BulkPage::first(2)).await;
    let text = serde_json::to_string(&first.next).unwrap();
    let after: Option<BulkCursor> = serde_json::from_str(&text).unwrap();
    assert_eq!(after, first.next);
    let rest = BulkPage { after, limit: 100 };
    assert_eq!(discard(t, hook, None, rest).await.count, 3);
}
