use super::*;
use crate::testing::{self, leased_for, now};
use postrider_store::OwnershipAnswer;
use std::time::Duration;
use uuid::Uuid;

fn hook(n: u128) -> HookId {
    HookId(Uuid::from_u128(n))
}

/// The hook shows that it takes deliveries.
fn take_one(ready: &Ready, hook: HookId) {
    ready.push(vec![leased_for(hook)]);
    assert!(ready.try_next().is_some());
    ready.done(hook, Ended::Accepted);
}

#[test]
fn a_hook_that_has_shown_nothing_starts_no_more_than_what_backs_it_off() {
    let ready = Ready::new(64, 256, 5);
    let fill = || ready.push((0..64).map(|_| leased_for(hook(1))).collect());
    let start = || std::iter::from_fn(|| ready.try_next()).count();
    fill();
    assert_eq!(start(), 5);
    ready.note_silence();
    assert_eq!(start(), 0);
    let moved = |back| {
        let mut state = ready.lock();
        let queue = state.hooks.get_mut(&hook(1)).unwrap();
        queue.moved -= Duration::from_millis(back);
    };
    moved(600);
    ready.note_silence();
    assert!(start() > 5, "it only keeps us waiting");
    fill();
    ready.done(hook(1), Ended::Accepted);
    assert!(start() > 0, "it has shown that it takes them");
    for _ in 0..5 {
        ready.done(hook(1), Ended::Refused);
    }
    assert_eq!(start(), 0, "until the failures are recorded");
    // Its queue is forgotten, what it has shown is not.
    let other = Ready::new(64, 256, 5);
    take_one(&other, hook(1));
    assert!(other.lock().hooks.is_empty());
    other.push((0..64).map(|_| leased_for(hook(1))).collect());
    assert!(std::iter::from_fn(|| other.try_next()).count() > 5);
}

#[test]
fn hooks_take_turns_and_keep_their_cap() {
    let ready = Ready::new(2, 256, 5);
    ready.push((0..5).map(|_| leased_for(hook(1))).collect());
    ready.push((0..2).map(|_| leased_for(hook(2))).collect());
    let order: Vec<_> = std::iter::from_fn(|| ready.try_next())
        .map(|d| d.hook.id)
        .collect();
    assert_eq!(order, [hook(1), hook(2), hook(1), hook(2)]);
    ready.done(hook(1), Ended::Accepted);
    assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(1)));
    assert!(ready.try_next().is_none());
    assert_eq!(ready.counts(), (2, 4));
}

#[test]
fn a_full_hook_has_no_room_and_leaves_the_others_theirs() {
    let ready = Ready::new(2, 256, 5);
    ready.push((0..4).map(|_| leased_for(hook(1))).collect());
    let capacity = ready.capacity(now());
    assert_eq!((capacity.left(hook(1)), capacity.left(hook(2))), (0, 4));
}

#[test]
fn a_window_doubles_when_half_of_a_full_one_is_gone_and_falls_back_on_a_failure() {
    let ready = Ready::new(1, 256, 5);
    let fill = |count| ready.push((0..count).map(|_| leased_for(hook(1))).collect());
    fill(1);
    assert!(ready.try_next().is_some());
    ready.done(hook(1), Ended::Accepted);
    assert_eq!(ready.capacity(now()).left(hook(1)), 2, "it was not full");
    fill(2);
    assert!(ready.try_next().is_some());
    ready.done(hook(1), Ended::Accepted);
    assert_eq!(ready.capacity(now()).left(hook(1)), 3);
    assert!(ready.try_next().is_some());
    ready.done(hook(1), Ended::Refused);
    assert_eq!(ready.capacity(now()).left(hook(1)), 2);
}

#[test]
fn a_hook_that_answers_nothing_earns_no_window_and_makes_nobody_wait() {
    let ready = Ready::new(2, 256, 5);
    for _ in 0..10 {
        let capacity = ready.capacity(now()).left(hook(1));
        ready.push((0..capacity.min(1)).map(|_| leased_for(hook(1))).collect());
        ready.try_next();
    }
    assert_eq!(ready.capacity(now()).left(hook(1)), 0);
    assert_eq!(ready.counts(), (2, 2));
    let mut state = ready.lock();
    for queue in state.hooks.values_mut() {
        queue.moved -= Duration::from_millis(200);
    }
    drop(state);
    assert_eq!(ready.capacity(now()).left(hook(2)), 4);
    assert_eq!(ready.lock().stalled, 2);
    assert!(ready.is_low());
}

#[test]
fn what_is_queued_follows_the_hooks() {
    let ready = Ready::new(1, 256, 5);
    for n in 1..=3 {
        ready.push((0..2).map(|_| leased_for(hook(n))).collect());
    }
    assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(1)));
    let mut changed = testing::hook(hook(2), "http://127.0.0.1:2/");
    changed.version = 7;
    let mut paused = testing::hook(hook(3), "http://127.0.0.1:3/");
    paused.status = HookStatus::Paused;
    // Hook 1 was deleted.
    let unsendable = ready
        .follow(&HookCache::of([changed, paused]), now())
        .deliveries;
    let hooks: Vec<_> = unsendable.iter().map(|d| d.hook.id).collect();
    assert_eq!(hooks.len(), 3);
    assert!(!hooks.contains(&hook(2)));
    assert_eq!(ready.counts(), (2, 1));
    let next = ready.try_next().map(|d| (d.hook.id, d.hook.version));
    assert_eq!(next, Some((hook(2), 7)));
    assert!(ready.try_next().is_none());
    ready.done(hook(1), Ended::Accepted);
    ready.done(hook(2), Ended::Accepted);
    assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(2)));
    assert_eq!(ready.counts(), (0, 1));
}

#[test]
fn a_hook_that_cannot_be_sent_to_has_no_room_until_it_changes() {
    let ready = Ready::new(1, 256, 5);
    let mut shut_out = testing::hook(hook(1), "http://127.0.0.1:1/");
    ready.shut_out(&shut_out);
    assert!(
        ready
            .follow(&HookCache::of([shut_out.clone()]), now())
            .deliveries
            .is_empty()
    );
    assert_eq!(ready.capacity(now()).left(hook(1)), 0);
    shut_out.version += 1;
    assert!(
        ready
            .follow(&HookCache::of([shut_out]), now())
            .deliveries
            .is_empty()
    );
    assert_eq!(ready.capacity(now()).left(hook(1)), 2);
}

#[tokio::test]
async fn closing_ends_every_wait_and_hands_back_what_was_not_started() {
    let ready = std::sync::Arc::new(Ready::new(1, 256, 5));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let ready = ready.clone();
                async move { ready.next().await.is_none() }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(ready.close().is_empty());
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    let ready = Ready::new(1, 256, 5);
    ready.push((0..3).map(|_| leased_for(hook(1))).collect());
    assert!(ready.try_next().is_some());
    assert_eq!(ready.close().len(), 2);
    ready.done(hook(1), Ended::Accepted);
    assert!(ready.next().await.is_none());
}

/// A hook that is held back, or was changed, as of this version.
fn known(id: HookId, phase: Option<Phase>, version: i64) -> Hook {
    let mut hook = testing::hook(id, "http://127.0.0.1:1/");
    hook.phase = phase;
    hook.version = version;
    hook
}

fn standing(hook: HookId, phase: Option<Phase>, version: Option<i64>) -> HookPhase {
    HookPhase {
        hook,
        phase,
        not_before: phase.map(|_| now() + Duration::from_secs(1)),
        version,
    }
}

fn failures(count: u32) -> HashMap<HookId, Recorded> {
    let recorded = Recorded {
        attempts: count,
        failures: count,
    };
    HashMap::from([(hook(1), recorded)])
}

fn fail(ready: &Ready, count: usize, ended: Ended) {
    for _ in 0..count {
        assert!(ready.try_next().is_some());
        ready.done(hook(1), ended);
    }
}

#[test]
fn a_hook_that_fails_waits_until_its_failures_are_recorded() {
    let ready = Ready::new(8, 256, 5);
    ready.push((0..20).map(|_| leased_for(hook(1))).collect());
    fail(&ready, 5, Ended::Refused);
    assert!(ready.try_next().is_none());
    // They were not in a row: another worker's deliveries were taken.
    let recorded = failures(5);
    ready.settled(&recorded, &[standing(hook(1), None, None)]);
    fail(&ready, 1, Ended::Throttled);
    assert!(ready.try_next().is_none());
    let backed_off = standing(hook(1), Some(Phase::BackedOff), Some(7));
    ready.settled(&failures(1), &[backed_off]);
    assert!(ready.try_next().is_none());
    let older = HookCache::of([known(hook(1), None, 6)]);
    assert_eq!(ready.follow(&older, now()).deliveries.len(), 14);
    ready.push(vec![leased_for(hook(1))]);
    assert!(ready.try_next().is_none(), "it is known to be backed off");
    let cache = HookCache::of([known(hook(1), Some(Phase::BackedOff), 7)]);
    assert_eq!(ready.follow(&cache, now()).deliveries.len(), 1);
    assert_eq!(ready.counts(), (0, 0));
}

#[test]
fn what_has_failed_keeps_its_place_until_it_is_recorded() {
    let ready = Ready::new(3, 256, 5);
    ready.push((0..9).map(|_| leased_for(hook(1))).collect());
    let start = || std::iter::from_fn(|| ready.try_next()).count();
    assert_eq!(start(), 3);
    ready.done(hook(1), Ended::Refused);
    ready.done(hook(1), Ended::Silent);
    assert_eq!(start(), 0);
    ready.settled(&failures(2), &[]);
    assert_eq!(start(), 2);
    ready.done(hook(1), Ended::Refused);
    ready.done(hook(1), Ended::Accepted);
    assert_eq!(start(), 2);
}

#[test]
fn an_owner_probes_a_hook_that_it_had_left_alone() {
    let ready = Ready::new(2, 256, 5);
    ready.push(vec![leased_for(hook(1))]);
    let backed_off = known(hook(1), Some(Phase::BackedOff), 7);
    assert!(ready.try_next().is_some());
    // Another worker's attempts backed it off, and that is known already.
    let cache = HookCache::of([backed_off.clone()]);
    assert!(ready.follow(&cache, now()).deliveries.is_empty());
    ready.done(hook(1), Ended::Refused);
    let still = standing(hook(1), Some(Phase::BackedOff), None);
    ready.settled(&failures(1), &[still]);
    let answer = OwnershipAnswer {
        hook: hook(1),
        owned: true,
        not_before: Some(now()),
    };
    ready.own(&backed_off, answer, now() + Duration::from_secs(8), now());
    assert_eq!(ready.capacity(now()).left(hook(1)), 1);
    ready.push(vec![leased_for(hook(1))]);
    assert!(ready.try_next().is_some());
}

#[test]
fn what_is_queued_is_given_back_when_the_hook_becomes_gated() {
    let ready = Ready::new(2, 256, 5);
    ready.push((0..4).map(|_| leased_for(hook(1))).collect());
    assert!(ready.try_next().is_some());
    let mut limited = known(hook(1), None, 2);
    limited.settings.in_flight = Some(1);
    let cache = HookCache::of([limited.clone()]);
    assert_eq!(ready.follow(&cache, now()).deliveries.len(), 3);
    assert_eq!(ready.counts(), (0, 1));

    // As its owner this worker starts one at a time, and what is in flight counts.
    let until = now() + Duration::from_secs(8);
    let answer = OwnershipAnswer {
        hook: hook(1),
        owned: true,
        not_before: None,
    };
    ready.own(&limited, answer, until, now());
    assert!(ready.owns(hook(1), now()) && !ready.owns(hook(1), until));
    ready.push(vec![leased_for(hook(1))]);
    assert!(ready.try_next().is_none());
    ready.done(hook(1), Ended::Accepted);
    assert!(ready.try_next().is_some());
    ready.done(hook(1), Ended::Accepted);

    limited.version = 3;
    limited.settings.in_flight = None;
    let lost = ready.follow(&HookCache::of([limited]), now());
    assert_eq!(lost.gates, [hook(1)]);
    assert!(!ready.owns(hook(1), now()));
}

#[test]
fn hooks_that_do_not_answer_hold_half_of_the_places() {
    let ready = Ready::new(4, 16, 5);
    for n in 1..=6 {
        ready.push((0..9).map(|_| leased_for(hook(n))).collect());
    }
    let start = || std::iter::from_fn(|| ready.try_next().map(|d| d.hook.id)).collect::<Vec<_>>();
    assert_eq!(start(), [1, 2, 3, 4, 5, 6, 1, 2].map(hook));
    // One that answers gives its places free and has others.
    ready.done(hook(1), Ended::Accepted);
    let started = start();
    assert_eq!(started.iter().filter(|id| **id == hook(1)).count(), 3);
    assert_eq!(ready.lock().slow, 8);
    assert_eq!(ready.counts().1, 12);
    // When it stops answering it is as the others.
    assert_eq!(ready.lock().hooks[&hook(1)].in_flight, 4);
    for queue in ready.lock().hooks.values_mut() {
        queue.moved -= Duration::from_secs(2);
    }
    ready.capacity(now());
    assert_eq!(ready.lock().slow, 12);
    ready.done(hook(2), Ended::Silent);
    assert_eq!(start(), []);
}

#[test]
fn what_waits_elsewhere_takes_nothing_from_the_pace() {
    let ready = Ready::new(10_000, 20_000, 5);
    let pace = ready.lock().pace.limit();
    take_one(&ready, hook(1));
    take_one(&ready, hook(2));
    for n in 1..=2 {
        ready.push((0..pace).map(|_| leased_for(hook(n))).collect());
    }
    let start = || std::iter::from_fn(|| ready.try_next()).count() as u32;
    assert_eq!(start(), pace, "as many as the processors can serve");
    let half = ready.lock().hooks[&hook(1)].in_flight;
    let mut state = ready.lock();
    for (id, queue) in &mut state.hooks {
        match *id == hook(1) {
            true => queue.moved -= Duration::from_millis(50),
            false => queue.moved += Duration::from_secs(60),
        }
    }
    drop(state);
    ready.capacity(now());
    assert_eq!(start(), half, "those that hook 1 does not answer");
    assert_eq!(start(), 0);
}
