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
fn a_place_of_the_slow_share_goes_to_the_account_with_the_fewest() {
    let admission = TestAdmission::new(4, 8, 5);
    for n in 1..=4 {
        admission.fill_for("many", hook(n), 9);
    }
    assert_eq!(admission.start(), [1, 2, 3, 4].map(hook));
    admission.fill_for("one", hook(9), 2);
    assert_eq!(admission.start(), []);
    assert_eq!(admission.may_start(hook(9)), Err(Blocked::SlowShare));
    // The hook that had the place has more to send.
    admission.ended(hook(1), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(9)]);
    // Both hold some: the first of the account with fewer.
    admission.ended(hook(2), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(9)]);
}

#[test]
fn a_hook_that_was_never_tried_comes_before_those_of_its_account_that_hang() {
    let admission = TestAdmission::new(2, 4, 5);
    for n in 1..=3 {
        admission.fill(hook(n), 5);
    }
    assert_eq!(admission.start(), [1, 2].map(hook));
    assert_eq!(admission.sums().parked.len(), 3);
    admission.fill(hook(4), 1);
    assert_eq!(admission.start(), []);
    assert_eq!(
        admission.sums().parked.first(),
        Some(&hook(4)),
        "the newest of the untried"
    );
    admission.ended(hook(1), AttemptEnd::Silent);
    assert_eq!(admission.start(), [hook(4)]);
}

#[test]
fn nothing_is_leased_for_a_hook_that_waits_for_the_slow_share() {
    let admission = TestAdmission::new(2, 4, 5);
    for n in 1..=3 {
        admission.fill(hook(n), 1);
    }
    assert_eq!(admission.start(), [1, 2].map(hook));
    assert_eq!(admission.left(hook(3)), 0, "it is parked");
    assert_eq!(admission.left(hook(1)), 1, "as many as may be in flight");
    assert_eq!(admission.left(hook(4)), 4, "nothing is known of it");
}
