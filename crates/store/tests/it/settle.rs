//! The attempt and the delivery's next step, in one transaction, while the lease still holds.

use postrider_core::{LeaseToken, Outcome, Reason, RetrySchedule};
use postrider_store::{
    AttemptReport, Backend, DeliveryReport, DeliveryState, SettleResult, Settlement, Step,
};
use postrider_tests::{TestStore, conformance, refusal};
use std::time::Duration;

#[conformance]
async fn a_delivered_one_is_over_and_its_attempt_tells(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let settlement = t.accepted(&leased);
    let settled = t.settle(std::slice::from_ref(&settlement)).await;
    assert_eq!(settled, took_effect(1));

    let report = t.delivery(leased.first().id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
    assert_eq!((report.attempts, report.next_attempt_at), (1, None));
    assert_eq!(report.event_id, leased.first().event.id);
    let attempts = t.attempts(leased.first().id).await;
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!(attempt.id, settlement.attempts.first.id);
    assert_eq!((attempt.number, attempt.at), (1, t.now()));
    assert_eq!(attempt.outcome, "accepted");
    assert_eq!((attempt.status, attempt.duration_ms), (Some(200), 20));
    assert_eq!(attempt.response.as_deref(), Some("the response"));
    assert_eq!((attempt.error.as_deref(), attempt.late), (None, false));
    t.outlive_leases();
    assert!(t.lease(&[hook]).await.is_empty());
}

#[conformance]
async fn a_retry_waits_for_its_time(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    assert_eq!(effect(t, &[t.refused(&leased, 300)]).await, took_effect(1));
    let report = t.delivery(leased.first().id).await;
    assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 1));
    let due = t.now() + Duration::from_secs(300);
    assert_eq!(report.next_attempt_at, Some(due));

    t.advance(299);
    assert!(t.lease(&[hook]).await.is_empty());
    t.advance(1);
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!((again.first().id, again.attempts), (leased.first().id, 1));
    t.settle(&[t.accepted(&again)]).await;
    let attempts = t.attempts(leased.first().id).await;
    let told: Vec<_> = attempts.iter().map(|a| (a.number, a.status)).collect();
    assert_eq!(told, [(1, Some(500)), (2, Some(200))]);
    assert_eq!(attempts[0].error.as_deref(), Some("answered 500"));
}

#[conformance]
async fn a_failed_delivery_keeps_its_reason(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let step = Step::Failed(Reason::Exhausted);
    let settlement = t.settlement(&leased, Outcome::TimedOut, step);
    assert_eq!(effect(t, &[settlement]).await, took_effect(1));
    let report = t.delivery(leased.first().id).await;
    assert_eq!((report.state, report.attempts), (DeliveryState::Failed, 1));
    assert_eq!(report.reason.as_deref(), Some("exhausted"));
    assert_eq!(report.next_attempt_at, None);
    let attempts = t.attempts(leased.first().id).await;
    assert_eq!(attempts[0].outcome, "timed_out");
    assert_eq!(attempts[0].status, None);
}

#[conformance]
async fn a_stale_token_changes_nothing(t: &TestStore) {
    let hook = t.hook("work").await;
    let stale = t.started(hook, 1).await.remove(0);
    t.outlive_leases();
    recover(t).await;
    let current = t.lease(&[hook]).await.remove(0);

    for settlement in [
        t.accepted(&stale),
        t.refused(&stale, 5),
        t.settlement(&stale, refusal(410), Step::Failed(Reason::Gone)),
    ] {
        let settled = t.settle(&[settlement]).await;
        assert_eq!((settled.settled, settled.replayed), (0, 0));
        assert_eq!(settled.late, [stale.first().id]);
        assert_eq!(settled.disabled, []);
    }
    assert_eq!(
        t.delivery(stale.first().id).await.state,
        DeliveryState::InFlight
    );
    let shown = t.shown(hook).await;
    assert_eq!((shown.fail_count, shown.status.as_str()), (0, "active"));
    let attempts = t.attempts(stale.first().id).await;
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| attempt.late));

    assert_eq!(effect(t, &[t.accepted(&current)]).await, took_effect(1));
    let report = t.delivery(stale.first().id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
    assert_eq!(report.attempts, 1, "late attempts are not counted");
}

#[conformance]
async fn a_settlement_of_an_ended_delivery_is_late(t: &TestStore) {
    let hook = t.hook("work").await;
    let stale = t.started(hook, 1).await.remove(0);
    t.outlive_leases();
    recover(t).await;
    let current = t.lease(&[hook]).await.remove(0);
    let step = Step::Failed(Reason::Exhausted);
    t.settle(&[t.settlement(&current, refusal(500), step)])
        .await;

    let settled = t.settle(&[t.accepted(&stale)]).await;
    assert_eq!((settled.settled, settled.late), (0, vec![stale.first().id]));
    assert_eq!(
        t.delivery(stale.first().id).await.state,
        DeliveryState::Failed
    );
    assert_eq!(t.shown(hook).await.fail_count, 1);
}

#[conformance]
async fn a_settlement_made_before_changes_nothing_at_all(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let settlements = [
        t.accepted(&started[0]),
        t.refused(&started[1], 0),
        t.settlement(&started[2], refusal(500), Step::Failed(Reason::Exhausted)),
    ];
    assert_eq!(effect(t, &settlements).await, took_effect(3));
    let counted = t.shown(hook).await.fail_count;
    // The one that is retried is in flight again when the call is repeated.
    let again = t.lease(&[hook]).await.remove(0);
    let settled = t.settle(&settlements).await;
    let replayed = SettleResult {
        replayed: 3,
        ..SettleResult::default()
    };
    assert_eq!(settled, replayed);
    assert_eq!(t.shown(hook).await.fail_count, counted);
    for leased in &started {
        assert_eq!(t.attempts(leased.first().id).await.len(), 1);
    }
    assert_eq!(
        t.delivery(again.first().id).await.state,
        DeliveryState::InFlight
    );
    assert_eq!(effect(t, &[t.accepted(&again)]).await, took_effect(1));
}

#[conformance]
async fn a_batch_may_mix_new_late_and_repeated_settlements(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let (first, second) = (t.accepted(&started[0]), t.accepted(&started[1]));
    let mut late = t.refused(&started[2], 0);
    late.request.lease.token = LeaseToken::draw(t.now());
    t.settle(std::slice::from_ref(&first)).await;
    let settled = t.settle(&[late, first, second]).await;
    assert_eq!((settled.settled, settled.replayed), (1, 1));
    assert_eq!(settled.late, [started[2].first().id]);
}

#[conformance]
async fn a_late_attempt_is_recorded_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.accepted(&leased)]).await;
    let late = t.accepted(&leased);
    let late = std::slice::from_ref(&late);
    assert_eq!(t.settle(late).await.late, [leased.first().id]);
    assert_eq!(t.settle(late).await.replayed, 1);
    assert_eq!(t.attempts(leased.first().id).await.len(), 2);
}

#[conformance]
async fn a_response_is_stored_whatever_bytes_it_has(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let responses: [&[u8]; 3] = [b"a\0b", b"\xff\xfe\x80", b""];
    let settlements: Vec<_> = started
        .iter()
        .zip(responses)
        .map(|(leased, response)| {
            let mut settlement = t.accepted(leased);
            settlement.attempts.first.response = response.to_vec();
            settlement
        })
        .collect();
    assert_eq!(effect(t, &settlements).await, took_effect(3));
    let mut sql = t.sql().await;
    for (settlement, response) in settlements.iter().zip(responses).take(2) {
        let id = t.id(settlement.attempts.first.id.0);
        let hex = match t.backend() {
            Backend::Postgres => "encode(response, 'hex')",
            Backend::Sqlite => "lower(hex(response))",
        };
        let query = format!("SELECT {hex} FROM postrider_attempts WHERE id = {id}");
        let expected: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sql.text(query).await, expected);
    }
    let shown = |attempts: Vec<AttemptReport>| attempts[0].response.clone();
    let first = shown(t.attempts(started[0].first().id).await).unwrap();
    assert!(first.starts_with('a') && first.ends_with('b'), "{first:?}");
    let second = shown(t.attempts(started[1].first().id).await).unwrap();
    assert!(second.contains('\u{fffd}'), "{second:?}");
    let third = shown(t.attempts(started[2].first().id).await);
    assert_eq!(third.unwrap_or_default(), "");
}

#[conformance]
async fn an_error_text_loses_its_nul(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let outcome = Outcome::Unreachable {
        reason: "broken\0pipe".into(),
    };
    let settlement = t.settlement(&leased, outcome, Step::Retry(t.now()));
    let settled = t.settle(&[settlement]).await;
    assert_eq!((settled.settled, settled.scrubbed), (1, 0));
    let told = "unreachable: brokenpipe";
    assert_eq!(
        t.attempts(leased.first().id).await[0].error.as_deref(),
        Some(told)
    );
    assert_eq!(t.shown(hook).await.last_error.as_deref(), Some(told));
}

#[conformance]
async fn a_refused_response_is_scrubbed_while_the_others_settle(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 40).await;
    let cursed = format!("NEW.response = {}", t.bytes(b"cursed"));
    t.refuse("postrider_attempts", &cursed).await;
    let mut settlements: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    settlements[23].attempts.first.response = b"cursed".to_vec();
    settlements[31] = t.refused(&started[31], 60);
    settlements[31].attempts.first.response = b"cursed".to_vec();
    let settled = t.settle(&settlements).await;
    assert_eq!((settled.settled, settled.scrubbed), (40, 2));
    assert_eq!(settled.late, []);

    let delivered = t.attempts(started[23].first().id).await;
    assert_eq!(delivered[0].outcome, "accepted");
    assert_eq!(delivered[0].response.clone().unwrap_or_default(), "");
    let state = |report: DeliveryReport| (report.state, report.attempts);
    let expected = (DeliveryState::Delivered, 1);
    assert_eq!(state(t.delivery(started[23].first().id).await), expected);
    let expected = (DeliveryState::Pending, 1);
    assert_eq!(state(t.delivery(started[31].first().id).await), expected);
    let retried = t.attempts(started[31].first().id).await;
    assert_eq!(retried[0].status, Some(500));
    assert!(retried[0].error.is_some());
    let other = t.attempts(started[0].first().id).await;
    assert_eq!(other[0].response.as_deref(), Some("the response"));
}

#[conformance]
async fn a_thousand_settle_in_one_call(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1_000).await;
    let settlements: Vec<_> = started
        .iter()
        .enumerate()
        .map(|(number, leased)| match number % 3 {
            0 => t.accepted(leased),
            1 => t.refused(leased, 60),
            _ => t.settlement(leased, refusal(500), Step::Failed(Reason::Exhausted)),
        })
        .collect();
    assert_eq!(effect(t, &settlements).await, took_effect(1_000));
    let mut sql = t.sql().await;
    for (table, expected) in [
        ("postrider_attempts", 1_000),
        ("postrider_deliveries", 333),
        ("postrider_ended", 333),
    ] {
        let count = sql.number(format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, expected, "{table}");
    }
}

#[conformance]
async fn nothing_to_settle_is_no_work(t: &TestStore) {
    assert_eq!(t.settle(&[]).await, SettleResult::default());
}

#[conformance]
async fn settling_does_not_depend_on_the_hook_still_being_there(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let settlements = [t.accepted(&started[0]), t.refused(&started[1], 60)];
    assert_eq!(effect(t, &settlements).await, took_effect(2));
    let report = t.delivery(started[0].first().id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
}

/// Settles, and tells all that it did but how the hooks then stand.
async fn effect(t: &TestStore, settlements: &[Settlement]) -> SettleResult {
    SettleResult {
        phases: Vec::new(),
        ..t.settle(settlements).await
    }
}

fn took_effect(count: u32) -> SettleResult {
    SettleResult {
        settled: count,
        ..SettleResult::default()
    }
}

async fn recover(t: &TestStore) {
    let schedule = RetrySchedule::default();
    t.store
        .recover(t.slot, t.now(), 100, &schedule)
        .await
        .unwrap();
}
