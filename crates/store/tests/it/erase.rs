//! What events said goes when it is asked for, and is never sent again.

use postrider_core::{DeliveryId, EventId, RetrySchedule};
use postrider_store::{DeliveryState, Erased, Error};
use postrider_tests::{TestStore, conformance, event};

#[conformance]
async fn what_an_event_said_goes_and_what_waits_is_cancelled(t: &TestStore) {
    let (taken, refused) = (t.hook("work").await, t.hook("work").await);
    let mut said = event("work");
    said.headers = Some(r#"{"x-name":"Ada"}"#.into());
    let id = t.insert(&[said]).await[0];
    let started = t.fan_out().await.started;
    assert_eq!(started.len(), 2);
    let of = |hook| {
        started
            .iter()
            .find(|leased| leased.hook.id == hook)
            .unwrap()
    };
    t.settle(&[t.accepted(of(taken)), t.refused(of(refused), 60)])
        .await;
    let erased = erase(t, id).await;
    assert_eq!(
        erased,
        Erased {
            events: 1,
            cancelled: 1,
            responses: 2,
            ..Erased::default()
        }
    );
    let report = t.store.event(id).await.unwrap();
    assert_eq!(report.payload.unwrap().get(), "null");
    assert_eq!(report.erased_at, Some(t.now()));
    assert_eq!(report.event_type, "work");
    let cancelled = t.delivery(of(refused).id).await;
    assert_eq!(cancelled.state, DeliveryState::Cancelled);
    assert_eq!(cancelled.reason.as_deref(), Some("erased"));
    assert_eq!(
        t.delivery(of(taken).id).await.state,
        DeliveryState::Delivered
    );
    for leased in &started {
        let attempts = t.attempts(leased.id).await;
        assert!(attempts.iter().all(|attempt| attempt.response.is_none()));
        let again = t.store.redeliver(leased.id, t.now()).await;
        assert!(
            matches!(&again, Err(Error::Conflict(why)) if why.contains("was erased")),
            "{again:?}"
        );
    }
    let mut sql = t.sql().await;
    let headers = sql
        .number("SELECT count(*) FROM postrider_events WHERE headers IS NOT NULL")
        .await;
    assert_eq!(headers, 0);
    assert_eq!(erase(t, id).await, Erased::default(), "once is enough");
}

#[conformance]
async fn what_is_being_attempted_is_erased_afterwards(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    let waiting = t.waiting(hook, 1).await;
    let leased = t.lease(&[hook]).await;
    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].id, waiting[0]);
    for leased in [&started[0], &leased[0]] {
        let erased = erase(t, leased.event.id).await;
        assert_eq!(erased.in_flight, [leased.event.id]);
        assert_eq!(erased.events, 0);
        let report = t.store.event(leased.event.id).await.unwrap();
        assert_ne!(report.payload.unwrap().get(), "null");
    }
    t.settle(&[t.refused(&started[0], 60), t.accepted(&leased[0])])
        .await;
    for (leased, cancelled) in [(&started[0], 1), (&leased[0], 0)] {
        let erased = erase(t, leased.event.id).await;
        assert_eq!((erased.events, erased.cancelled), (1, cancelled));
    }
    t.advance(60);
    assert!(t.lease(&[hook]).await.is_empty());
}

#[conformance]
async fn an_erased_event_is_not_leased(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    let mut sql = t.sql().await;
    sql.run("UPDATE postrider_events SET payload = 'null', erased_at = fanned_out_at")
        .await;
    t.outlive_leases();
    let recovered = t
        .store
        .recover(t.slot, t.now(), 10, &RetrySchedule::default())
        .await
        .unwrap();
    assert_eq!(recovered.recovered, 1);
    assert!(t.lease(&[hook]).await.is_empty());
    let erased = erase(t, started[0].event.id).await;
    assert_eq!(erased.cancelled, 1);
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::Cancelled
    );
}

#[conformance]
async fn an_event_in_the_outbox_is_taken_out_of_it(t: &TestStore) {
    t.hook("work").await;
    let ids = t.insert_many("work", 2).await;
    assert_eq!(erase(t, ids[0]).await.queued, 1);
    assert_eq!(t.fan_out().await.events, 1);
    let gone = t.store.event(ids[0]).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    assert!(t.store.event(ids[1]).await.is_ok());
}

#[conformance]
async fn what_rejected_rows_said_goes_by_event_and_by_account(t: &TestStore) {
    let ids = t.insert_many("postrider.ours", 3).await;
    t.fan_out().await;
    assert_eq!(t.store.rejected(10).await.unwrap().len(), 3);
    assert_eq!(erase(t, ids[0]).await.rejected, 1);
    assert!(t.store.event(ids[0]).await.unwrap().payload.is_none());
    assert_eq!(t.store.erase_rejected("another", 10).await.unwrap(), 0);
    assert_eq!(t.store.erase_rejected("default", 1).await.unwrap(), 1);
    assert_eq!(t.store.erase_rejected("default", 10).await.unwrap(), 1);
    assert_eq!(t.store.erase_rejected("default", 10).await.unwrap(), 0);
    for id in ids {
        assert!(t.store.event(id).await.unwrap().payload.is_none());
    }
}

#[conformance]
async fn many_are_erased_in_one_call(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 20).await;
    let settled: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    t.settle(&settled).await;
    t.waiting(hook, 20).await;
    let kept = t.waiting(hook, 1).await;
    let mut ids: Vec<_> = started.iter().map(|leased| leased.event.id).collect();
    let others = t.store.deliveries(postrider_store::DeliveryFilter {
        state: Some(DeliveryState::Pending),
        limit: 100,
        ..Default::default()
    });
    let others = others.await.unwrap();
    ids.extend(
        others
            .iter()
            .filter(|d| d.id != kept[0])
            .map(|d| d.event_id),
    );
    ids.push(t.next_id());
    let erased = t.store.erase(&ids, t.now()).await.unwrap();
    assert_eq!(
        (erased.events, erased.cancelled, erased.responses),
        (40, 20, 20)
    );
    assert_eq!(t.delivery(kept[0]).await.state, DeliveryState::Pending);
    let kept = t.delivery(kept[0]).await.event_id;
    assert_eq!(t.store.event(kept).await.unwrap().erased_at, None);
    assert_eq!(t.delivery(DeliveryId::of(ids[0], hook)).await.attempts, 1);
}

async fn erase(t: &TestStore, id: EventId) -> Erased {
    t.store.erase(&[id], t.now()).await.unwrap()
}
