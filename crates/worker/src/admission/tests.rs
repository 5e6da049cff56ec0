mod shares;

use super::state::Sums;
use super::*;
use crate::testing::{self, backing_off_after, leased_for, now};
use postrider_core::{HookStatus, Phase, TestMonotonicClock};
use postrider_store::OwnershipAnswer;
use std::ops::Deref;
use std::time::Duration;
use uuid::Uuid;

fn hook(n: u128) -> HookId {
    HookId(Uuid::from_u128(n))
}

/// An admission on a clock that the test moves.
struct TestAdmission {
    admission: Admission,
    clock: Arc<TestMonotonicClock>,
}

impl TestAdmission {
    /// Without a concurrency limit, which depends on the machine.
    fn new(per_hook: u32, places: u32, back_off_after: u32) -> Self {
        let mut tuning = Tuning::default();
        tuning.concurrency.least_per_core = u32::MAX;
        Self::tuned(per_hook, places, back_off_after, tuning)
    }

    fn tuned(per_hook: u32, places: u32, back_off_after: u32, tuning: Tuning) -> Self {
        let clock = Arc::new(TestMonotonicClock::default());
        Self {
            admission: Admission::new(
                per_hook,
                places,
                backing_off_after(back_off_after),
                tuning,
                clock.clone(),
            ),
            clock,
        }
    }

    /// An attempt that took no time has ended.
    fn ended(&self, hook: HookId, end: AttemptEnd) {
        self.admission.ended(hook, end, self.clock.instant());
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Queues this many deliveries of a hook.
    fn fill(&self, hook: HookId, count: u32) {
        self.push((0..count).map(|_| leased_for(hook)).collect());
    }

    /// Starts whatever may start; the hooks of what was started, in their order.
    fn start(&self) -> Vec<HookId> {
        let started = std::iter::from_fn(|| self.try_next());
        started.map(|delivery| delivery.hook.id).collect()
    }

    fn sums(&self) -> Sums {
        self.lock().sums()
    }

    /// How many more deliveries of a hook may be leased.
    fn left(&self, hook: HookId) -> u32 {
        self.capacity(now()).left(hook)
    }
}

impl Deref for TestAdmission {
    type Target = Admission;

    fn deref(&self) -> &Admission {
        &self.admission
    }
}

/// The hook shows that it accepts deliveries.
fn accept_one(admission: &TestAdmission, hook: HookId) {
    admission.push(vec![leased_for(hook)]);
    assert!(admission.try_next().is_some());
    admission.ended(hook, AttemptEnd::Served);
}

#[test]
fn a_hook_that_has_shown_nothing_starts_no_more_than_what_backs_it_off() {
    let admission = TestAdmission::new(64, 256, 5);
    admission.fill(hook(1), 64);
    assert_eq!(admission.start().len(), 5);
    let Err(Blocked::Unproven { until: Some(until) }) = admission.may_start(hook(1)) else {
        panic!("{:?}", admission.may_start(hook(1)));
    };
    assert_eq!(
        until - admission.clock.instant(),
        Duration::from_millis(500)
    );
    admission.advance(500);
    admission.refresh();
    assert_eq!(admission.start(), []);
    admission.advance(1);
    admission.refresh();
    assert_eq!(admission.start().len(), 59, "it is slow rather than dead");

    let admission = TestAdmission::new(64, 256, 5);
    admission.fill(hook(1), 64);
    assert_eq!(admission.start().len(), 5);
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.start().len(), 59, "it accepts deliveries");
    admission.fill(hook(1), 2);
    assert_eq!(admission.start().len(), 1, "its cap");
    let fail = |count| {
        for _ in 0..count {
            admission.ended(hook(1), AttemptEnd::Failed);
        }
        admission.may_start(hook(1))
    };
    assert_eq!(fail(8), Err(Blocked::HookCap), "failures keep their places");
    assert_eq!(fail(1), Err(Blocked::FailuresUnrecorded), "nine of ten");
}

#[test]
fn what_a_hook_has_shown_is_remembered_for_a_while() {
    let admission = TestAdmission::new(64, 256, 5);
    accept_one(&admission, hook(1));
    admission.fill(hook(1), 64);
    assert_eq!(admission.start().len(), 64);
    for _ in 0..64 {
        admission.ended(hook(1), AttemptEnd::Served);
    }
    assert_eq!(admission.sums().hooks, 0, "only its answer is remembered");
    admission.fill(hook(1), 64);
    assert_eq!(admission.start().len(), 64);
    for _ in 0..64 {
        admission.ended(hook(1), AttemptEnd::Served);
    }
    admission.advance(600_001);
    admission.fill(hook(1), 64);
    assert_eq!(admission.start().len(), 5, "too long ago");
}

#[test]
fn hooks_take_turns_and_keep_their_cap() {
    let admission = TestAdmission::new(2, 256, 5);
    admission.fill(hook(1), 5);
    admission.fill(hook(2), 2);
    assert_eq!(admission.start(), [hook(1), hook(2), hook(1), hook(2)]);
    assert_eq!(admission.may_start(hook(1)), Err(Blocked::HookCap));
    assert_eq!(admission.may_start(hook(2)), Err(Blocked::NothingQueued));
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.start(), [hook(1)]);
    assert_eq!(admission.counts(), (2, 4));
}

#[test]
fn a_full_hook_has_no_capacity_and_leaves_the_others_theirs() {
    let admission = TestAdmission::new(2, 256, 5);
    admission.fill(hook(1), 4);
    let capacity = admission.capacity(now());
    assert_eq!((capacity.left(hook(1)), capacity.left(hook(2))), (0, 4));
}

#[test]
fn a_window_doubles_when_half_of_a_full_one_is_gone_and_falls_back_when_throttled() {
    let admission = TestAdmission::new(1, 256, 5);
    let fill = |count| admission.fill(hook(1), count);
    fill(1);
    assert!(admission.try_next().is_some());
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.left(hook(1)), 2, "it was not full");
    fill(2);
    assert!(admission.try_next().is_some());
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.left(hook(1)), 3);
    fill(1);
    fail(&admission, 1, AttemptEnd::Failed);
    assert_eq!(admission.left(hook(1)), 3, "one failure is no outage");
    admission.recorded(&failures(1), &[]);
    fail(&admission, 1, AttemptEnd::Throttled);
    assert_eq!(admission.left(hook(1)), 2);
}

#[test]
fn a_window_that_is_emptied_slowly_does_not_grow() {
    let admission = TestAdmission::new(1, 256, 5);
    admission.fill(hook(1), 2);
    assert!(admission.try_next().is_some());
    admission.advance(251);
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.left(hook(1)), 1);
}

#[test]
fn a_hook_that_answers_nothing_earns_no_window_and_delays_no_other() {
    let admission = TestAdmission::new(2, 256, 5);
    for _ in 0..10 {
        admission.fill(hook(1), admission.left(hook(1)).min(1));
        admission.try_next();
    }
    assert_eq!(admission.left(hook(1)), 0);
    assert_eq!(admission.counts(), (0, 2), "nothing is leased ahead");
    // What others queue counts: a stalled hook's does not.
    admission.fill(hook(1), 6);
    admission.fill(hook(2), 2);
    assert_eq!(admission.left(hook(2)), 2);
    assert_eq!(admission.sums().stalled, 0);
    assert!(!admission.is_low(), "more than half of both windows");
    admission.advance(101);
    assert_eq!(admission.left(hook(2)), 2);
    assert_eq!(admission.sums().stalled, 6);
    assert!(admission.is_low(), "only what hook 2 has queued counts");
}

#[test]
fn what_is_queued_follows_the_hooks() {
    let admission = TestAdmission::new(1, 256, 5);
    for n in 1..=3 {
        admission.fill(hook(n), 2);
    }
    assert_eq!(admission.try_next().map(|d| d.hook.id), Some(hook(1)));
    let mut changed = testing::hook(hook(2), "http://127.0.0.1:2/");
    changed.version = 7;
    let mut paused = testing::hook(hook(3), "http://127.0.0.1:3/");
    paused.status = HookStatus::Paused;
    // Hook 1 was deleted.
    let unsendable = admission
        .follow(&HookCache::of([changed, paused]), now())
        .deliveries;
    let hooks: Vec<_> = unsendable.iter().map(|d| d.hook.id).collect();
    assert_eq!(hooks.len(), 3);
    assert!(!hooks.contains(&hook(2)));
    assert_eq!(admission.counts(), (2, 1));
    let next = admission.try_next().map(|d| (d.hook.id, d.hook.version));
    assert_eq!(next, Some((hook(2), 7)));
    assert!(admission.try_next().is_none());
    admission.ended(hook(1), AttemptEnd::Served);
    admission.ended(hook(2), AttemptEnd::Served);
    assert_eq!(admission.try_next().map(|d| d.hook.id), Some(hook(2)));
    assert_eq!(admission.counts(), (0, 1));
}

#[test]
fn a_hook_that_cannot_be_sent_to_has_no_capacity_until_it_changes() {
    let admission = TestAdmission::new(1, 256, 5);
    let mut shut_out = testing::hook(hook(1), "http://127.0.0.1:1/");
    admission.shut_out(&shut_out);
    assert!(
        admission
            .follow(&HookCache::of([shut_out.clone()]), now())
            .deliveries
            .is_empty()
    );
    assert_eq!(admission.left(hook(1)), 0);
    shut_out.version += 1;
    assert!(
        admission
            .follow(&HookCache::of([shut_out]), now())
            .deliveries
            .is_empty()
    );
    assert_eq!(admission.left(hook(1)), 2);
}

#[tokio::test]
async fn closing_ends_every_wait_and_hands_back_what_was_not_started() {
    let admission = Arc::new(TestAdmission::new(1, 256, 5));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let admission = admission.clone();
                async move { admission.next().await.is_none() }
            })
        })
        .collect();
    yield_now().await;
    assert!(admission.close().is_empty());
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    let admission = TestAdmission::new(1, 256, 5);
    admission.fill(hook(1), 3);
    assert!(admission.try_next().is_some());
    assert_eq!(admission.close().len(), 2);
    admission.ended(hook(1), AttemptEnd::Served);
    assert!(admission.next().await.is_none());
}

/// A hook that is held back, or was changed, as of this version.
fn known(id: HookId, phase: Option<Phase>, version: i64) -> Hook {
    let mut hook = testing::hook(id, "http://127.0.0.1:1/");
    hook.phase = phase;
    hook.version = version;
    hook
}

fn held_back(hook: HookId, phase: Option<Phase>, version: Option<i64>) -> HookPhase {
    HookPhase {
        hook,
        phase,
        not_before: phase.map(|_| now() + Duration::from_secs(1)),
        version,
    }
}

fn failures(count: u32) -> HashMap<HookId, RecordedAttempts> {
    let recorded = RecordedAttempts {
        attempts: count,
        unserved: count,
    };
    HashMap::from([(hook(1), recorded)])
}

fn fail(admission: &TestAdmission, count: usize, end: AttemptEnd) {
    for _ in 0..count {
        assert!(admission.try_next().is_some());
        admission.ended(hook(1), end);
    }
}

#[test]
fn a_hook_that_fails_waits_until_its_failures_are_recorded() {
    let admission = TestAdmission::new(8, 256, 5);
    admission.fill(hook(1), 20);
    fail(&admission, 5, AttemptEnd::Failed);
    assert!(admission.try_next().is_none());
    // They were not in a row: another worker's deliveries were accepted.
    let recorded = failures(5);
    admission.recorded(&recorded, &[held_back(hook(1), None, None)]);
    fail(&admission, 1, AttemptEnd::Throttled);
    assert!(admission.try_next().is_none());
    let backed_off = held_back(hook(1), Some(Phase::BackedOff), Some(7));
    admission.recorded(&failures(1), &[backed_off]);
    assert!(admission.try_next().is_none());
    let older = HookCache::of([known(hook(1), None, 6)]);
    assert_eq!(admission.follow(&older, now()).deliveries.len(), 14);
    admission.push(vec![leased_for(hook(1))]);
    assert!(
        admission.try_next().is_none(),
        "it is known to be backed off"
    );
    let cache = HookCache::of([known(hook(1), Some(Phase::BackedOff), 7)]);
    assert_eq!(admission.follow(&cache, now()).deliveries.len(), 1);
    assert_eq!(admission.counts(), (0, 0));
}

#[test]
fn what_has_failed_keeps_its_place_until_it_is_recorded() {
    let admission = TestAdmission::new(3, 256, 5);
    admission.fill(hook(1), 9);
    let start = || admission.start().len();
    assert_eq!(start(), 3);
    admission.ended(hook(1), AttemptEnd::Failed);
    admission.ended(hook(1), AttemptEnd::Silent);
    assert_eq!(start(), 0);
    admission.recorded(&failures(2), &[]);
    assert_eq!(start(), 2);
    admission.ended(hook(1), AttemptEnd::Failed);
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(start(), 2);
}

#[test]
fn an_owner_probes_a_hook_that_it_did_not_own_before() {
    let admission = TestAdmission::new(2, 256, 5);
    admission.push(vec![leased_for(hook(1))]);
    let backed_off = known(hook(1), Some(Phase::BackedOff), 7);
    assert!(admission.try_next().is_some());
    // Another worker's attempts backed it off, and that is known already.
    let cache = HookCache::of([backed_off.clone()]);
    assert!(admission.follow(&cache, now()).deliveries.is_empty());
    admission.ended(hook(1), AttemptEnd::Failed);
    let still = held_back(hook(1), Some(Phase::BackedOff), None);
    admission.recorded(&failures(1), &[still]);
    let answer = OwnershipAnswer {
        hook: hook(1),
        owned: true,
        not_before: Some(now()),
    };
    admission.own(&backed_off, answer, now() + Duration::from_secs(8), now());
    assert_eq!(admission.left(hook(1)), 1);
    admission.push(vec![leased_for(hook(1))]);
    assert!(admission.try_next().is_some());
}

#[test]
fn what_is_queued_is_given_back_when_the_hook_becomes_gated() {
    let admission = TestAdmission::new(2, 256, 5);
    admission.fill(hook(1), 4);
    assert!(admission.try_next().is_some());
    let mut limited = known(hook(1), None, 2);
    limited.settings.in_flight = Some(1);
    let cache = HookCache::of([limited.clone()]);
    assert_eq!(admission.follow(&cache, now()).deliveries.len(), 3);
    assert_eq!(admission.counts(), (0, 1));

    // As its owner this worker starts one at a time, and what is in flight counts.
    let until = now() + Duration::from_secs(8);
    let answer = OwnershipAnswer {
        hook: hook(1),
        owned: true,
        not_before: None,
    };
    admission.own(&limited, answer, until, now());
    assert!(admission.owns(hook(1), now()) && !admission.owns(hook(1), until));
    admission.push(vec![leased_for(hook(1))]);
    assert!(admission.try_next().is_none());
    admission.ended(hook(1), AttemptEnd::Served);
    assert!(admission.try_next().is_some());
    admission.ended(hook(1), AttemptEnd::Served);

    limited.version = 3;
    limited.settings.in_flight = None;
    let revoked = admission.follow(&HookCache::of([limited]), now());
    assert_eq!(revoked.gates, [hook(1)]);
    assert!(!admission.owns(hook(1), now()));
}

#[test]
fn hooks_that_do_not_answer_hold_half_of_the_places() {
    let admission = TestAdmission::new(4, 16, 5);
    for n in 1..=9 {
        admission.fill(hook(n), 9);
    }
    assert_eq!(admission.start(), [1, 2, 3, 4, 5, 6, 7, 8].map(hook));
    assert_eq!(admission.sums().slow, 8);
    assert_eq!(admission.may_start(hook(3)), Err(Blocked::SlowShare));
    // One that answers leaves its place to another, and has places beside the slow share.
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.start(), [9, 1, 1, 1].map(hook));
    assert_eq!((admission.sums().slow, admission.counts().1), (8, 11));
    assert_eq!(admission.may_start(hook(3)), Err(Blocked::SlowShare));
    // When it stops answering its places count again: one that becomes free is not enough.
    admission.advance(2_000);
    admission.capacity(now());
    assert_eq!(admission.sums().slow, 11, "the three of hook 1, too");
    admission.ended(hook(2), AttemptEnd::Silent);
    assert_eq!(admission.sums().slow, 10);
    assert_eq!(admission.start(), []);
    assert_eq!(admission.may_start(hook(3)), Err(Blocked::SlowShare));
}

#[test]
fn requests_that_wait_remotely_do_not_count_against_the_concurrency_limit() {
    let admission = TestAdmission::tuned(10_000, 20_000, 5, Tuning::default());
    accept_one(&admission, hook(1));
    accept_one(&admission, hook(2));
    for n in 1..=2 {
        admission.fill(hook(n), 5_000);
    }
    let limit = admission.start().len();
    assert_eq!(admission.may_start(hook(1)), Err(Blocked::ConcurrencyLimit));
    // Hook 2 answers, hook 1 does not.
    admission.advance(26);
    admission.ended(hook(2), AttemptEnd::Served);
    admission.capacity(now());
    let half = limit / 2;
    assert_eq!(admission.start().len(), half + 1);
    assert_eq!(admission.start(), []);
}

/// Turns must not be given twice to a hook that answers while it is parked.
#[test]
fn a_parked_hook_that_answers_has_one_turn() {
    let admission = TestAdmission::new(4, 8, 5);
    admission.fill(hook(1), 9);
    admission.fill(hook(2), 9);
    assert_eq!(admission.start(), [1, 2, 1, 2].map(hook));
    assert_eq!(admission.sums().parked, [1, 2].map(hook));
    for _ in 0..3 {
        admission.ended(hook(1), AttemptEnd::Failed);
        admission.recorded(&failures(1), &[]);
        admission.start();
        let mut parked = admission.sums().parked;
        let count = parked.len();
        parked.sort();
        parked.dedup();
        assert_eq!(parked.len(), count, "a hook is parked twice");
    }
    assert_eq!(admission.counts(), (7, 8), "each has its cap in flight");
}
