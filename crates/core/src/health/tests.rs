use super::*;
use chrono::{TimeZone, Utc};
use proptest::prelude::*;
use uuid::Uuid;

const POLICY: HealthPolicy = HealthPolicy {
    back_off_after: 5,
    back_off_max: Duration::from_secs(900),
    disable_after_failures: 3,
    disable_after: Duration::from_secs(60),
    disable_when_exhausted: false,
};

const HOOK: HookId = HookId(Uuid::from_u128(0));

fn at(second: i64) -> Timestamp {
    Utc.timestamp_opt(second, 0).unwrap()
}

/// An attempt that started and ended within this second.
fn seen(second: i64, status: u16) -> Observation {
    let outcome = match status {
        200..300 => Outcome::Accepted { status },
        _ => Outcome::refused(status, None),
    };
    Observation {
        started_at: at(second),
        at: at(second),
        outcome,
        retry_at: Some(at(second + 7_200)),
        exhausted: false,
    }
}

/// The receiver throttles and asks for a pause of `seconds`.
fn throttled(second: i64, seconds: u64) -> Observation {
    Observation {
        outcome: Outcome::refused(429, Some(Duration::from_secs(seconds))),
        ..seen(second, 429)
    }
}

fn after(health: &Health, seen: &[Observation]) -> Health {
    health.after(HOOK, seen, &POLICY).0
}

/// A hook that was backed off at this second and may be probed from then on.
fn backed_off(second: i64) -> Health {
    Health {
        fail_count: 5,
        first_failure_at: Some(at(second)),
        last_failure_at: Some(at(second)),
        phase: Some(Phase::BackedOff),
        not_before: Some(at(second + 1)),
        ..Health::default()
    }
}

#[test]
fn the_attempts_decide_count_and_action() {
    let failures = HealthAction::Disable(DisabledReason::Failures);
    let gone = HealthAction::Disable(DisabledReason::Gone);
    let table: [(&str, Vec<Observation>, u32, HealthAction); 8] = [
        (
            "a success changes nothing",
            vec![seen(0, 200)],
            0,
            HealthAction::Nothing,
        ),
        (
            "failures count",
            vec![seen(0, 500), seen(1, 404)],
            2,
            HealthAction::Nothing,
        ),
        (
            "a success resets",
            vec![seen(0, 500), seen(99, 200), seen(100, 500)],
            1,
            HealthAction::Nothing,
        ),
        (
            "count without span",
            vec![seen(0, 500); 50],
            50,
            HealthAction::Nothing,
        ),
        (
            "span without count",
            vec![seen(0, 500), seen(99, 500)],
            2,
            HealthAction::Warn,
        ),
        (
            "count and span",
            vec![seen(0, 500), seen(30, 500), seen(60, 500)],
            3,
            failures,
        ),
        (
            "a later success spares it",
            vec![seen(0, 500), seen(30, 500), seen(60, 500), seen(61, 200)],
            0,
            HealthAction::Nothing,
        ),
        ("410 at once", vec![seen(0, 410)], 1, gone),
    ];
    for (name, observations, count, action) in table {
        let (health, got) = Health::default().after(HOOK, &observations, &POLICY);
        assert_eq!((health.fail_count, got), (count, action), "{name}");
    }
}

#[test]
fn half_of_the_failure_limit_causes_one_warning_per_run_of_failures() {
    let policy = HealthPolicy {
        disable_after_failures: 5,
        ..POLICY
    };
    let judged = |seen: &[Observation]| Health::default().after(HOOK, seen, &policy);
    let half = [seen(0, 500), seen(1, 500), seen(30, 500)];
    for few in [&half[..2], &[seen(0, 500), seen(0, 500), seen(29, 500)]] {
        assert_eq!(judged(few).1, HealthAction::Nothing);
    }
    let (warned, action) = judged(&half);
    assert_eq!(
        (action, warned.warned_at),
        (HealthAction::Warn, Some(at(30)))
    );

    let (again, action) = warned.after(HOOK, &[seen(31, 500)], &policy);
    assert_eq!(
        (action, again.warned_at),
        (HealthAction::Nothing, Some(at(30)))
    );
    let (_, action) = again.after(HOOK, &[seen(60, 500)], &policy);
    assert_eq!(action, HealthAction::Disable(DisabledReason::Failures));

    // A success ends the row: the next row has a warning of its own.
    let (healthy, action) = warned.after(HOOK, &[seen(32, 200)], &policy);
    assert_eq!((action, healthy.warned_at), (HealthAction::Nothing, None));
    let next = [seen(40, 500), seen(41, 500), seen(70, 500)];
    assert_eq!(healthy.after(HOOK, &next, &policy).1, HealthAction::Warn);

    // No warning beside disabling, and none after a success.
    let whole = [half.to_vec(), vec![seen(59, 500), seen(60, 500)]].concat();
    let disabled = HealthAction::Disable(DisabledReason::Failures);
    assert_eq!(judged(&whole).1, disabled);
    let spared = [half.to_vec(), vec![seen(31, 200)]].concat();
    assert_eq!(judged(&spared).1, HealthAction::Nothing);
}

#[test]
fn a_lost_worker_is_not_the_hooks_failure() {
    let lost = Observation {
        outcome: Outcome::WorkerLost,
        ..seen(0, 500)
    };
    assert_eq!(after(&Health::default(), &[lost]), Health::default());
}

#[test]
fn a_clock_that_jumps_back_disables_nothing() {
    let observations = [seen(1_000, 500), seen(10, 500), seen(5, 500)];
    let (health, action) = Health::default().after(HOOK, &observations, &POLICY);
    assert_eq!((health.fail_count, action), (3, HealthAction::Nothing));
    assert_eq!(after(&health, &[seen(11, 200)]).fail_count, 0);
}

#[test]
fn failures_in_a_row_back_the_hook_off_and_a_success_lets_it_ramp_up() {
    let four = after(&Health::default(), &vec![seen(0, 500); 4]);
    assert_eq!((four.phase, four.not_before), (None, None));
    let five = after(&four, &[seen(10, 500)]);
    assert_eq!(five.phase, Some(Phase::BackedOff));
    assert_eq!(five.not_before, Some(at(11)));
    let recovered = after(&five, &[seen(12, 200)]);
    assert_eq!(recovered.phase, Some(Phase::Ramping));
    assert_eq!((recovered.fail_count, recovered.not_before), (0, None));
    // A single failure does not back the hook off again.
    let one = after(&recovered, &[seen(13, 500)]);
    assert_eq!((one.phase, one.fail_count), (Some(Phase::Ramping), 1));
    // Nine of ten since the success do.
    let nine = after(&one, &vec![seen(14, 500); 7]);
    assert_eq!((nine.phase, nine.fail_count), (Some(Phase::Ramping), 8));
    let again = after(&nine, &[seen(14, 500)]);
    assert_eq!((again.phase, again.probes), (Some(Phase::BackedOff), 0));
}

/// `count` attempts, one each 10 ms, of which those fail with `status` that `fails` names.
fn attempts(count: u64, status: u16, fails: impl Fn(u64) -> bool) -> Vec<Observation> {
    let numbered = (0..count).map(|n| {
        let moment = at(0) + Duration::from_millis(10 * n);
        Observation {
            started_at: moment,
            at: moment,
            ..seen(0, if fails(n) { status } else { 200 })
        }
    });
    numbered.collect()
}

/// A number without a pattern that a test could lean on.
fn scrambled(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

#[test]
fn a_receiver_that_serves_some_requests_is_not_backed_off() {
    for (percent, status) in [(5, 500), (20, 503), (50, 500), (50, 502), (80, 408)] {
        let fails = |n| n > 0 && scrambled(n) % 100 < percent;
        let mut health = Health::default();
        let mut backed_off = 0;
        for attempt in attempts(10_000, status, fails) {
            let before = health.phase;
            health = after(&health, &[attempt]);
            backed_off += u32::from(before.is_none() && health.phase.is_some());
            health.phase = None;
        }
        // Four of five failures come close to nine of ten by chance.
        let most = if percent < 80 { 0 } else { 200 };
        assert!(
            backed_off <= most,
            "{percent} % of {status}: {backed_off} times"
        );
    }
}

#[test]
fn refusals_of_single_events_back_no_hook_off_but_count() {
    for status in [400, 401, 404, 409, 422] {
        let refused = attempts(1_000, status, |_| true);
        let (health, action) = Health::default().after(HOOK, &refused, &POLICY);
        assert_eq!((health.phase, health.fail_count), (None, 1_000), "{status}");
        assert_eq!(action, HealthAction::Nothing, "the span is not reached");
    }
    for status in [408, 425] {
        let failed = attempts(5, status, |_| true);
        let phase = after(&Health::default(), &failed).phase;
        assert_eq!(phase, Some(Phase::BackedOff), "{status}");
    }
}

#[test]
fn a_probe_that_is_served_ends_the_back_off_although_the_event_is_refused() {
    let refused = after(&backed_off(0), &[seen(2, 404)]);
    assert_eq!(refused.phase, Some(Phase::Ramping));
    assert_eq!((refused.fail_count, refused.not_before), (6, None));
    let mut in_flight = seen(2, 404);
    in_flight.started_at = at(0);
    let unchanged = after(&backed_off(0), &[in_flight]);
    assert_eq!(unchanged.phase, Some(Phase::BackedOff), "it was no probe");
}

#[test]
fn a_receiver_that_dies_is_backed_off_however_long_it_half_failed() {
    let half = after(&Health::default(), &attempts(1_000, 500, |n| n % 2 == 0));
    assert_eq!(half.phase, None);
    let dead: Vec<_> = (11..).take(60).map(|second| seen(second, 500)).collect();
    assert_eq!(after(&half, &dead).phase, Some(Phase::BackedOff));
    // What it served long ago does not count: five failures are enough.
    let later: Vec<_> = (700..).take(5).map(|second| seen(second, 500)).collect();
    let rested = after(&half, &[seen(12, 200)]);
    assert_eq!(after(&rested, &later[..4]).phase, None);
    assert_eq!(after(&rested, &later).phase, Some(Phase::BackedOff));
}

#[test]
fn each_probe_that_fails_doubles_the_wait() {
    let mut health = backed_off(0);
    let mut waits = Vec::new();
    for _ in 0..11 {
        let probed = health.not_before.unwrap();
        let probe = Observation {
            started_at: probed,
            at: probed,
            ..seen(0, 500)
        };
        health = after(&health, &[probe]);
        waits.push((health.not_before.unwrap() - probed).as_seconds_f64());
    }
    let plain = [
        2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0,
    ];
    for (wait, plain) in waits.into_iter().zip(plain) {
        assert!((plain * 0.8..=plain).contains(&wait), "{wait} of {plain}");
    }
}

#[test]
fn a_request_already_in_flight_is_no_probe() {
    let mut late = vec![seen(3, 500); 60];
    for seen in &mut late {
        seen.started_at = at(0);
    }
    let health = after(&backed_off(0), &late);
    assert_eq!((health.fail_count, health.probes), (65, 0));
    assert_eq!(health.not_before, Some(at(1)));
}

#[test]
fn a_throttling_receiver_decides_how_long_the_hook_waits() {
    let wait = |seen: Observation| {
        let health = after(&Health::default(), &[seen]);
        assert_eq!(health.phase, Some(Phase::BackedOff));
        assert_eq!(health.fail_count, 1);
        (health.not_before.unwrap() - at(0)).as_seconds_f64()
    };
    assert_eq!(wait(throttled(0, 30)), 30.0);
    assert_eq!(wait(throttled(0, 86_400)), 3_600.0);
    assert_eq!(
        wait(throttled(0, 0)),
        1.0,
        "not one request after the other"
    );
    assert_eq!(wait(seen(0, 429)), 1.0);
    for status in [502, 503, 504] {
        let asks = Observation {
            outcome: Outcome::refused(status, Some(Duration::from_secs(20))),
            ..seen(0, status)
        };
        assert_eq!(wait(asks), 20.0);
        let asks_nothing = after(&Health::default(), &[seen(0, status)]);
        assert_eq!(asks_nothing.phase, None, "{status}");
    }
    let soon = Observation {
        retry_at: Some(at(0) + Duration::from_millis(10)),
        ..seen(0, 429)
    };
    assert_eq!(wait(soon), 0.01, "the delivery itself waits no longer");
    let other = after(&Health::default(), &[seen(0, 500)]);
    assert_eq!(other.phase, None);
}

#[test]
fn the_longest_wait_that_a_receiver_asks_for_holds() {
    let health = after(&Health::default(), &[throttled(0, 60), throttled(1, 5)]);
    assert_eq!(health.not_before, Some(at(60)));
    assert_eq!(health.probes, 0);
}

#[test]
fn after_enabling_a_probe_that_is_taken_lets_the_hook_ramp_up() {
    let enabled = Health {
        phase: Some(Phase::BackedOff),
        not_before: Some(at(0)),
        ..Health::default()
    };
    assert_eq!(after(&enabled, &[seen(0, 200)]).phase, Some(Phase::Ramping));
    let failed = after(&enabled, &[seen(0, 500)]);
    assert_eq!((failed.phase, failed.probes), (Some(Phase::BackedOff), 1));
}

#[test]
fn an_attempt_that_ended_earlier_undoes_nothing() {
    let recovered = after(&backed_off(0), &[seen(10, 200)]);
    assert_eq!(after(&recovered, &[seen(9, 500)]), recovered);
    let failing = after(&Health::default(), &[seen(10, 500), seen(20, 500)]);
    assert_eq!(after(&failing, &[seen(5, 200)]), failing);
    let between = after(&failing, &[seen(15, 200)]);
    assert_eq!(between.fail_count, 1);
    assert_eq!(between.first_failure_at, Some(at(20)));
}

proptest! {
    #[test]
    fn splitting_the_attempts_into_batches_changes_nothing(
        statuses in prop::collection::vec(prop::sample::select(vec![200u16, 404, 429, 500]), 0..40),
        cut in 0usize..40,
    ) {
        let seen: Vec<_> = statuses.iter().enumerate().map(|(n, s)| seen(n as i64, *s)).collect();
        let cut = cut.min(seen.len());
        let whole = after(&Health::default(), &seen);
        let split = after(&after(&Health::default(), &seen[..cut]), &seen[cut..]);
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn no_order_of_settling_hides_that_the_latest_attempt_failed(
        statuses in prop::collection::vec(prop::sample::select(vec![200u16, 500]), 0..30),
        seed in any::<u64>(),
    ) {
        let mut seen: Vec<_> = statuses.iter().enumerate().map(|(n, s)| seen(n as i64, *s)).collect();
        seen.push(self::seen(seen.len() as i64, 500));
        seen.sort_by_key(|seen| seed.rotate_left(seen.at.timestamp() as u32 * 7) ^ seed);
        let health = after(&Health::default(), &seen);
        let failures = statuses.iter().filter(|status| **status == 500).count() + 1;
        prop_assert!((1..=failures).contains(&(health.fail_count as usize)));
    }

    #[test]
    fn a_hook_that_is_backed_off_has_a_time_and_others_have_none(
        statuses in prop::collection::vec(prop::sample::select(vec![200u16, 404, 429, 503]), 0..60),
    ) {
        let seen: Vec<_> = statuses.iter().enumerate().map(|(n, s)| seen(n as i64, *s)).collect();
        let health = after(&Health::default(), &seen);
        let held = health.phase == Some(Phase::BackedOff);
        prop_assert_eq!(health.not_before.is_some(), held);
    }

    #[test]
    fn a_hook_that_serves_nothing_is_backed_off_by_as_many_failures_as_the_policy_says(
        statuses in prop::collection::vec(prop::sample::select(vec![301u16, 408, 500, 503]), 0..20),
    ) {
        let seen: Vec<_> = statuses.iter().enumerate().map(|(n, s)| seen(n as i64, *s)).collect();
        let health = after(&Health::default(), &seen);
        let held = health.phase == Some(Phase::BackedOff);
        prop_assert_eq!(held, statuses.len() >= POLICY.back_off_after as usize);
    }

    #[test]
    fn back_off_grows_to_its_bound(probes in 0u32..200, id in any::<u128>()) {
        let wait = back_off(HookId(Uuid::from_u128(id)), probes, &POLICY);
        prop_assert!(wait <= POLICY.back_off_max);
        prop_assert!(wait >= Duration::from_millis(799));
    }
}

/// The policy of a profile without back-off: each delivery waits by its own schedule.
const BY_SCHEDULE: HealthPolicy = HealthPolicy {
    back_off_after: HealthPolicy::NEVER,
    disable_after_failures: HealthPolicy::NEVER,
    disable_when_exhausted: true,
    ..POLICY
};

#[test]
fn a_hook_that_is_never_backed_off_only_begins_with_a_probe() {
    let failing: Vec<_> = (1..100).map(|second| seen(second, 500)).collect();
    let (health, action) = Health::default().after(HOOK, &failing, &BY_SCHEDULE);
    assert_eq!((health.fail_count, health.phase), (99, None));
    assert_eq!(action, HealthAction::Nothing);
    let enabled = backed_off(0);
    let (health, _) = enabled.after(HOOK, &[seen(2, 500)], &BY_SCHEDULE);
    assert_eq!((health.phase, health.not_before), (None, None));
    let (health, _) = enabled.after(HOOK, &[seen(2, 200)], &BY_SCHEDULE);
    assert_eq!(health.phase, Some(Phase::Ramping));
}

#[test]
fn a_delivery_that_used_up_its_attempts_disables_where_the_policy_says_so() {
    let last = Observation {
        exhausted: true,
        retry_at: None,
        ..seen(9, 500)
    };
    let action =
        |policy, attempts: &[Observation]| Health::default().after(HOOK, attempts, policy).1;
    let disabled = HealthAction::Disable(DisabledReason::Failures);
    assert_eq!(action(&BY_SCHEDULE, std::slice::from_ref(&last)), disabled);
    assert_eq!(
        action(&POLICY, std::slice::from_ref(&last)),
        HealthAction::Nothing
    );
    assert_eq!(
        action(&BY_SCHEDULE, &[last, seen(10, 200)]),
        HealthAction::Nothing
    );
}
