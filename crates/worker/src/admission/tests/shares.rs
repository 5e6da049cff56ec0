//! What accounts and slow hooks share.

use super::*;

impl TestAdmission {
    /// Queues this many deliveries of a hook of this account.
    fn fill_for(&self, account: &str, hook: HookId, count: u32) {
        let mut known = testing::hook(hook, "http://127.0.0.1:1/");
        known.account = account.into();
        let known = Arc::new(known);
        let leased = (0..count).map(|_| {
            let mut leased = leased_for(hook);
            leased.hook = known.clone();
            leased
        });
        self.push(leased.collect());
    }

    /// A request that began `ms` ago is answered.
    fn answered_after(&self, hook: HookId, ms: u64) {
        let began = self.clock.instant();
        self.advance(ms);
        self.admission.ended(hook, AttemptEnd::Served, began);
    }
}

#[test]
fn accounts_take_turns_whatever_number_of_hooks_they_have() {
    let admission = TestAdmission::new(64, 256, 5);
    for n in 1..=4 {
        admission.fill_for("many", hook(n), 1);
    }
    admission.fill_for("one", hook(9), 4);
    assert_eq!(admission.start(), [1, 9, 2, 9, 3, 9, 4, 9].map(hook));
}

#[test]
fn an_account_with_half_of_the_places_waits_while_another_has_a_turn() {
    let admission = TestAdmission::new(64, 16, 5);
    for n in [1, 2, 9] {
        let account = if n == 9 { "one" } else { "many" };
        admission.fill_for(account, hook(n), 1);
        assert_eq!(admission.start(), [hook(n)]);
        admission.ended(hook(n), AttemptEnd::Served);
    }
    admission.fill_for("many", hook(1), 20);
    for _ in 0..10 {
        assert_eq!(admission.try_next().map(|d| d.hook.id), Some(hook(1)));
    }
    admission.fill_for("one", hook(9), 4);
    let next = std::iter::from_fn(|| admission.try_next().map(|d| d.hook.id));
    let next: Vec<_> = next.take(5).collect();
    assert_eq!(next, [9, 9, 9, 9, 1].map(hook), "then nobody else waits");
}

#[test]
fn a_hook_that_answers_slowly_is_slow_until_it_answers_quickly() {
    let admission = TestAdmission::new(8, 64, 5);
    for n in 1..=2 {
        accept_one(&admission, hook(n));
    }
    for n in 1..=2 {
        admission.fill(hook(n), 16);
    }
    assert_eq!(admission.start().len(), 16);
    for _ in 0..2 {
        admission.answered_after(hook(1), 14_000);
    }
    admission.answered_after(hook(2), 20);
    assert_eq!(admission.sums().slow, 6, "what hook 1 has in flight");
    assert_eq!(admission.start(), [1, 2, 1].map(hook));
    assert_eq!(admission.sums().slow, 8);
    assert_eq!(admission.left(hook(1)), 0, "nothing is leased ahead");
    for _ in 0..20 {
        admission.answered_after(hook(1), 20);
        admission.start();
        if admission.sums().slow == 0 {
            return;
        }
    }
    panic!("it is slow for ever");
}

#[test]
fn nothing_is_leased_ahead_for_a_hook_whose_last_answer_was_slow() {
    let admission = TestAdmission::new(8, 64, 5);
    accept_one(&admission, hook(1));
    admission.fill(hook(1), 1);
    assert_eq!(admission.start(), [hook(1)]);
    admission.answered_after(hook(1), 14_000);
    admission.fill(hook(1), 1);
    assert_eq!(admission.left(hook(1)), 7, "its cap, not its window");
}

#[test]
fn a_place_of_the_slow_share_goes_to_the_account_with_the_fewest() {
    let admission = TestAdmission::new(2, 8, 5);
    for n in 1..=4 {
        admission.fill_for("many", hook(n), 9);
    }
    admission.fill_for("one", hook(9), 2);
    // Three of four, and the last one for a hook that was never tried.
    assert_eq!(admission.start(), [1, 9, 2, 3].map(hook));
    assert_eq!(admission.may_start(hook(9)), Err(Blocked::SlowShare));
    admission.ended(hook(1), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(4)], "it was never tried");
    // The hooks that had the places have more to send.
    admission.ended(hook(2), AttemptEnd::Silent);
    admission.ended(hook(3), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(9)]);
}

#[test]
fn hooks_that_were_never_tried_have_places_of_their_own() {
    let admission = TestAdmission::new(2, 8, 5);
    for n in 1..=3 {
        admission.fill(hook(n), 5);
    }
    assert_eq!(admission.start(), [1, 2, 3].map(hook));
    admission.fill(hook(4), 1);
    assert_eq!(admission.start(), [hook(4)]);
    admission.fill(hook(5), 1);
    assert_eq!(admission.start(), []);
    admission.ended(hook(1), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(5)]);
}

#[test]
fn nothing_is_leased_for_a_hook_that_waits_for_the_slow_share() {
    let admission = TestAdmission::new(2, 4, 1);
    for n in 1..=3 {
        admission.fill(hook(n), 1);
    }
    assert_eq!(admission.start(), [1, 2].map(hook));
    assert_eq!(admission.left(hook(3)), 0, "it is parked");
    assert_eq!(admission.left(hook(1)), 1, "as many as may be in flight");
    assert_eq!(
        admission.left(hook(4)),
        4,
        "nothing of it is here: what is leased for it says how much may follow"
    );
}

#[test]
fn little_is_leased_ahead_for_a_hook_that_has_served_nothing_yet() {
    let admission = TestAdmission::new(64, 256, 5);
    admission.fill(hook(1), 1);
    assert_eq!(admission.left(hook(1)), 9, "twice what may start");
    assert!(admission.try_next().is_some());
    admission.ended(hook(1), AttemptEnd::Served);
    admission.fill(hook(1), 1);
    assert_eq!(admission.left(hook(1)), 127);
}

#[test]
fn doubtful_hooks_share_half_of_the_queue() {
    let mut tuning = Tuning::default();
    tuning.admission.queue_max = 40;
    let admission = TestAdmission::tuned(4, 64, 5, tuning);
    accept_one(&admission, hook(1));
    for n in 2..=4 {
        admission.fill(hook(n), 6);
    }
    assert_eq!(admission.left(hook(5)), 2);
    assert_eq!(admission.left(hook(1)), 8, "it was quick");
    admission.fill(hook(5), 2);
    let mut capacity = admission.capacity(now());
    assert_eq!((capacity.left(hook(6)), capacity.total()), (0, 20));
    assert_eq!(capacity.take(hook(1), 9), 8);
    assert_eq!(admission.take_surplus().len(), 6, "beyond their caps");
    assert_eq!(admission.left(hook(6)), 6);
}

#[test]
fn what_waits_for_the_slow_share_does_not_keep_the_queue_from_being_low() {
    let admission = TestAdmission::new(4, 16, 5);
    for n in 1..=9 {
        admission.fill(hook(n), 9);
    }
    assert_eq!(admission.start().len(), 8);
    admission.capacity(now());
    assert!(admission.is_low(), "none of it can start soon");
}

#[test]
fn large_payloads_of_doubtful_hooks_take_half_of_the_bytes() {
    let mut tuning = Tuning::default();
    tuning.admission.queue_max_bytes = leased_for(hook(1)).payload_bytes() * 4;
    let admission = TestAdmission::tuned(4, 64, 5, tuning);
    accept_one(&admission, hook(1));
    admission.fill(hook(2), 2);
    assert_eq!(admission.left(hook(3)), 0);
    assert_eq!(admission.left(hook(1)), 8);
}

#[test]
fn what_was_leased_for_a_hook_that_turns_slow_is_given_back_when_the_queue_is_scarce() {
    let mut tuning = Tuning::default();
    tuning.admission.queue_max = 40;
    let admission = TestAdmission::tuned(4, 64, 5, tuning);
    accept_one(&admission, hook(1));
    admission.fill(hook(1), 30);
    assert_eq!(admission.start().len(), 4);
    admission.capacity(now());
    assert_eq!(admission.take_surplus().len(), 0, "it may be quick");
    admission.advance(1_001);
    assert_eq!(admission.left(hook(2)), 0);
    assert_eq!(admission.take_surplus().len(), 22);
    assert_eq!(admission.counts(), (4, 4));
    assert_eq!(admission.left(hook(2)), 8);
    assert_eq!(admission.left(hook(1)), 0);
}

#[test]
fn a_local_fault_holds_a_hook_back_and_then_lets_one_request_start() {
    let admission = TestAdmission::new(4, 64, 5);
    accept_one(&admission, hook(1));
    admission.fill(hook(1), 6);
    assert_eq!(admission.start().len(), 4);
    for _ in 0..4 {
        admission.ended(hook(1), AttemptEnd::LocalFault);
    }
    assert_eq!(admission.may_start(hook(1)), Err(Blocked::LocalFault));
    assert_eq!(admission.left(hook(1)), 0);
    admission.advance(1_000);
    admission.refresh();
    assert_eq!(admission.start(), [hook(1)]);
    admission.ended(hook(1), AttemptEnd::LocalFault);
    assert_eq!(admission.start(), []);
    admission.advance(1_000);
    admission.refresh();
    assert_eq!(admission.start(), [hook(1)]);
    assert_eq!(admission.left(hook(1)), 0, "one at a time");
    admission.ended(hook(1), AttemptEnd::Served);
    assert_eq!(admission.may_start(hook(1)), Err(Blocked::NothingQueued));
    assert_eq!(admission.left(hook(1)), 8);
}
