//! Members that leave a batch, and batches that are held.

use crate::batch_steps::{DAY, WINDOW, events_of, fan_out, insert, lease, one};
use crate::support::ids_of;
use postrider_core::{DeliveryId, EventId, HookId};
use postrider_store::{
    BulkPage, DeliveryState, Discard, HookChange, Redelivery, Retention, Settlement,
};
use postrider_tests::{TestStore, conformance, event};
use std::collections::BTreeSet;
use std::time::Duration;

#[conformance]
async fn a_redelivered_batch_member_leaves_the_others(t: &TestStore) {
    for place in [1, 0] {
        let hook = t.hook("work").await;
        let ids = retried(t, hook, 3).await;
        let id = DeliveryId::of(ids[place], hook);
        t.store.redeliver(id, t.now()).await.unwrap();
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), [ids[place]]);
        t.advance(60);
        let mut rest = ids.clone();
        rest.remove(place);
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), rest);
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn a_discarded_batch_member_leaves_the_others(t: &TestStore) {
    for place in [2, 0] {
        let hook = t.hook("work").await;
        let ids = retried(t, hook, 3).await;
        let id = DeliveryId::of(ids[place], hook);
        t.store.discard(id, t.now()).await.unwrap();
        t.advance(60);
        let mut rest = ids.clone();
        rest.remove(place);
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), rest);
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn a_batch_member_whose_event_is_erased_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 4).await;
    let erased = t.store.erase(&[ids[0], ids[2]], t.now()).await.unwrap();
    assert_eq!((erased.events, erased.cancelled), (2, 2));
    t.advance(60);
    let batch = one(lease(t, hook, 9, 10).await);
    assert_eq!(events_of(&batch), [ids[1], ids[3]]);
    // While the rest is in flight, nothing of it is erased.
    let erased = t.store.erase(&[ids[3]], t.now()).await.unwrap();
    assert_eq!(erased.in_flight, [ids[3]]);
}

#[conformance]
async fn a_batch_member_whose_event_is_gone_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 3).await;
    let gone = format!("DELETE FROM postrider_events WHERE id = {}", t.id(ids[0].0));
    t.sql().await.run(&gone).await;
    t.advance(60);
    let batch = one(lease(t, hook, 9, 10).await);
    assert_eq!(events_of(&batch), ids[1..]);
    t.settle(&[t.refused(&batch, 60)]).await;
    t.advance(60);
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids[1..]);
}

#[conformance]
async fn a_batch_whose_leader_cannot_be_opened_keeps_its_other_members(t: &TestStore) {
    let hook = t.hook("work").await;
    let (ids, leader) = keeping_target(t, hook).await;
    let mut sql = t.sql().await;
    let of_leader = format!("WHERE id = {}", t.id(leader.0));
    let select = format!("SELECT target FROM postrider_deliveries {of_leader}");
    let target = sql.text(select).await;
    let set_target =
        |target: &str| format!("UPDATE postrider_deliveries SET target = '{target}' {of_leader}");
    sql.run(set_target("damaged")).await;
    for _ in 0..2 {
        let batch = one(lease(t, hook, 9, 10).await);
        assert_eq!(events_of(&batch), ids[1..]);
        t.settle(&[t.refused(&batch, 60)]).await;
        t.advance(3_600);
    }
    sql.run(set_target(&target)).await;
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids);
}

#[conformance]
async fn a_batch_that_cannot_be_opened_stays_together(t: &TestStore) {
    let hook = t.hook("work").await;
    let (ids, _) = keeping_target(t, hook).await;
    let mut sql = t.sql().await;
    let leader = "SELECT target FROM postrider_deliveries LIMIT 1";
    let target = sql.text(leader.to_owned()).await;
    let all = |target: &str| format!("UPDATE postrider_deliveries SET target = '{target}'");
    sql.run(all("damaged")).await;
    assert!(lease(t, hook, 9, 10).await.is_empty());
    sql.run(all(&target)).await;
    assert!(
        lease(t, hook, 9, 10).await.is_empty(),
        "left alone for an hour"
    );
    t.advance(3_600);
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids);
}

#[conformance]
async fn a_batch_member_whose_event_is_past_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let first = t.insert(&[event("work")]).await;
    fan_out(t, 100).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    t.advance(2 * DAY);
    t.store.upkeep(t.now(), 100).await.unwrap();
    let rest = t.insert_many("work", 2).await;
    fan_out(t, 100).await;
    t.advance(WINDOW);
    t.store
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    let batch = one(lease(t, hook, 100, 1).await);
    assert_eq!(events_of(&batch), [first, rest.clone()].concat());
    t.settle(&[t.refused(&batch, 60)]).await;
    let keep = Retention {
        events: Duration::from_secs(DAY),
        attempts: Duration::from_secs(DAY),
    };
    let pruned = t.store.prune(&keep, t.now(), 100).await.unwrap();
    assert_eq!(pruned.expired, 1);
    t.advance(60);
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), rest);
}

#[conformance]
async fn held_batches_are_given_up_whatever_the_pages(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 7).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    let which = Discard {
        hook,
        made_before: None,
        by: "cli".into(),
    };
    let mut page = BulkPage::first(2);
    let mut discarded = 0;
    loop {
        let done = t.store.discard_held(&which, page, t.now()).await.unwrap();
        discarded += done.count;
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(discarded, 7);
    for id in ids {
        let report = t.delivery(DeliveryId::of(id, hook)).await;
        assert_eq!(report.state, DeliveryState::Cancelled);
    }
}

#[conformance]
async fn held_batches_are_sent_again_whatever_the_pages(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 7).await;
    let change = |change| t.store.change_hook(hook, change, "test", t.now());
    change(HookChange::Pause).await.unwrap();
    t.advance(1);
    let which = Redelivery {
        state: DeliveryState::Held,
        ..redelivery(hook)
    };
    let mut page = BulkPage::first(2);
    let mut counted = 0;
    loop {
        let done = t.store.redeliver_many(&which, page, t.now()).await.unwrap();
        counted += done.count;
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(counted, 7);
    change(HookChange::Enable).await.unwrap();
    let leased = lease(t, hook, 9, 10).await;
    assert_eq!(
        leased.len(),
        7,
        "each by itself: their schedules began anew"
    );
    let leased: BTreeSet<_> = ids_of(&leased).into_iter().collect();
    assert_eq!(leased, ids.into_iter().collect());
}

#[conformance]
async fn batches_of_a_deleted_hook_are_cancelled(t: &TestStore) {
    let hook = t.hook("work").await;
    retried(t, hook, 5).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let mut cancelled = 0;
    while cancelled < 5 {
        let upkeep = t.store.upkeep(t.now(), 2).await.unwrap();
        assert!(upkeep.cancelled > 0);
        cancelled += upkeep.cancelled;
    }
    assert!(t.store.slots().await.unwrap().is_empty());
}

/// `count` deliveries that were refused together and are tried again in a minute.
async fn retried(t: &TestStore, hook: HookId, count: usize) -> Vec<EventId> {
    let ids = insert(t, &vec![event("work"); count], 9).await;
    let batch = one(lease(t, hook, 9, 1).await);
    assert_eq!(events_of(&batch), ids);
    t.settle(&[t.refused(&batch, 60)]).await;
    ids
}

/// Three deliveries that were refused together, keep their target, and are due again; with their
/// leader.
async fn keeping_target(t: &TestStore, hook: HookId) -> (Vec<EventId>, DeliveryId) {
    let ids = insert(t, &vec![event("work"); 3], 9).await;
    let batch = one(lease(t, hook, 9, 1).await);
    let settlement = Settlement {
        keeps_target: true,
        ..t.refused(&batch, 60)
    };
    t.settle(&[settlement]).await;
    t.advance(60);
    let leader = DeliveryId::of(ids[0], hook);
    (ids, leader)
}

fn redelivery(hook: HookId) -> Redelivery {
    Redelivery {
        hook,
        state: DeliveryState::Failed,
        since: None,
        until: None,
        event_type: None,
    }
}
