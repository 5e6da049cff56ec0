//! Admission under any sequence of events: nothing is lost, no hook starves, and what
//! `state/invariants.rs` says holds after each event.

use super::*;
use crate::testing::{self, leased_for, now};
use chrono::TimeDelta;
use postrider_core::{HookStatus, Phase, TestMonotonicClock};
use postrider_store::OwnershipAnswer;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use uuid::Uuid;

const HOOKS: u8 = 4;
const PER_HOOK: u32 = 3;
/// Slow hooks may hold half of them.
const PLACES: u32 = 12;
const BACK_OFF_AFTER: u32 = 2;

/// What may happen to an admission.
#[derive(Clone, Debug)]
enum Step {
    /// Up to this many deliveries of a hook are leased, if there is capacity.
    Lease(u8, u32),
    /// Every sender that is free takes a delivery, up to this many.
    Start(u32),
    /// The oldest request of a hook ends.
    End(u8, AttemptEnd),
    /// Everything that has ended is recorded.
    Record,
    /// The hook has a new version in the hook cache, as the database has it.
    Change(u8, Change),
    Follow,
    /// The hook is owned for some seconds, if it is gated.
    Own(u8),
    Disown(u8),
    ShutOut(u8),
    Advance(u16),
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Phase(Option<Phase>),
    InFlight(Option<u32>),
    Status(HookStatus),
}

fn step() -> impl Strategy<Value = Step> {
    let hook = 0..HOOKS;
    let end = prop_oneof![
        5 => Just(AttemptEnd::Served),
        2 => Just(AttemptEnd::Failed),
        1 => Just(AttemptEnd::Throttled),
        2 => Just(AttemptEnd::Silent),
        1 => Just(AttemptEnd::LocalFault),
        1 => Just(AttemptEnd::Unsent),
    ];
    let change = prop_oneof![
        3 => Just(Change::Phase(None)),
        1 => Just(Change::Phase(Some(Phase::BackedOff))),
        1 => Just(Change::Phase(Some(Phase::Ramping))),
        1 => (1..5u32).prop_map(|cap| Change::InFlight(Some(cap))),
        1 => Just(Change::InFlight(None)),
        3 => Just(Change::Status(HookStatus::Active)),
        1 => Just(Change::Status(HookStatus::Paused)),
    ];
    prop_oneof![
        6 => (hook.clone(), 1..6u32).prop_map(|(hook, count)| Step::Lease(hook, count)),
        6 => (1..PLACES).prop_map(Step::Start),
        9 => (hook.clone(), end).prop_map(|(hook, end)| Step::End(hook, end)),
        3 => Just(Step::Record),
        1 => (hook.clone(), change).prop_map(|(hook, change)| Step::Change(hook, change)),
        1 => Just(Step::Follow),
        1 => hook.clone().prop_map(Step::Own),
        1 => hook.clone().prop_map(Step::Disown),
        1 => hook.prop_map(Step::ShutOut),
        3 => (1..2_000u16).prop_map(Step::Advance),
    ]
}

/// An admission, and what a worker knows beside it.
struct Model {
    admission: Admission,
    clock: Arc<TestMonotonicClock>,
    /// The hooks in the database, each event of theirs a version.
    hooks: BTreeMap<HookId, Hook>,
    version: i64,
    /// When the requests in flight began, the oldest first.
    in_flight: BTreeMap<HookId, VecDeque<Instant>>,
    /// What has ended and is not recorded.
    ended: HashMap<HookId, RecordedAttempts>,
    /// Deliveries queued.
    queued: BTreeMap<HookId, u32>,
}

fn id(n: u8) -> HookId {
    HookId(Uuid::from_u128(u128::from(n) + 1))
}

impl Model {
    fn new() -> Self {
        let clock = Arc::new(TestMonotonicClock::default());
        let mut tuning = Tuning::default();
        tuning.concurrency.least_per_core = u32::MAX;
        let hooks = (0..HOOKS).map(|n| {
            let mut hook = testing::hook(id(n), "http://127.0.0.1:1/");
            hook.account = format!("account {}", n % 2);
            (hook.id, hook)
        });
        Self {
            admission: Admission::new(
                PER_HOOK,
                PLACES,
                testing::backing_off_after(BACK_OFF_AFTER),
                tuning,
                clock.clone(),
            ),
            clock,
            hooks: hooks.collect(),
            version: 1,
            in_flight: BTreeMap::new(),
            ended: HashMap::new(),
            queued: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Lease(hook, count) => self.lease(id(hook), count),
            Step::Start(count) => {
                for _ in 0..count {
                    self.start();
                }
            }
            Step::End(hook, end) => self.end(id(hook), end),
            Step::Record => self.record(),
            Step::Change(hook, change) => self.change(id(hook), change),
            Step::Follow => self.follow(),
            Step::Own(hook) => self.own(id(hook)),
            Step::Disown(hook) => self.admission.disown(id(hook)),
            Step::ShutOut(hook) => self.admission.shut_out(&self.hooks[&id(hook)]),
            Step::Advance(ms) => self.clock.advance(Duration::from_millis(ms.into())),
        }
        self.admission.refresh();
        let (queued, in_flight) = self.admission.counts();
        assert_eq!(queued, self.queued.values().sum::<u32>(), "queued");
        let expected: usize = self.in_flight.values().map(VecDeque::len).sum();
        assert_eq!(in_flight as usize, expected, "in flight");
    }

    fn lease(&mut self, hook: HookId, count: u32) {
        let left = self.admission.capacity(now()).left(hook);
        let known = Arc::new(self.hooks[&hook].clone());
        let leased: Vec<_> = (0..count.min(left))
            .map(|_| {
                let mut leased = leased_for(hook);
                leased.hook = known.clone();
                leased
            })
            .collect();
        *self.queued.entry(hook).or_default() += leased.len() as u32;
        self.admission.push(leased);
    }

    /// Starts one, if a sender is free.
    fn start(&mut self) -> Option<HookId> {
        if self.admission.counts().1 >= PLACES {
            return None;
        }
        let hook = self.admission.try_next()?.hook.id;
        *self.queued.entry(hook).or_default() -= 1;
        let began = self.admission.now();
        self.in_flight.entry(hook).or_default().push_back(began);
        Some(hook)
    }

    fn end(&mut self, hook: HookId, end: AttemptEnd) {
        let in_flight = self.in_flight.get_mut(&hook);
        let Some(began) = in_flight.and_then(VecDeque::pop_front) else {
            return;
        };
        self.admission.ended(hook, end, began);
        let recorded = self.ended.entry(hook).or_default();
        recorded.attempts += u32::from(!matches!(end, AttemptEnd::LocalFault | AttemptEnd::Unsent));
        recorded.unserved += u32::from(matches!(
            end,
            AttemptEnd::Failed | AttemptEnd::Throttled | AttemptEnd::Silent
        ));
    }

    /// A hook that fails as often as that is backed off; one whose probe is accepted ramps up.
    fn record(&mut self) {
        let recorded = std::mem::take(&mut self.ended);
        let mut phases = Vec::new();
        for (hook, recorded) in &recorded {
            let before = self.hooks[hook].phase;
            let after = match recorded.unserved {
                0 if before == Some(Phase::BackedOff) => Some(Phase::Ramping),
                failures if failures >= BACK_OFF_AFTER => Some(Phase::BackedOff),
                _ => before,
            };
            if after != before {
                self.change(*hook, Change::Phase(after));
            }
            if before.is_some() || after.is_some() {
                phases.push(HookPhase {
                    hook: *hook,
                    phase: after,
                    not_before: None,
                    version: (after != before).then_some(self.version),
                });
            }
        }
        self.admission.recorded(&recorded, &phases);
    }

    fn change(&mut self, hook: HookId, change: Change) {
        self.version += 1;
        let Some(hook) = self.hooks.get_mut(&hook) else {
            return;
        };
        hook.version = self.version;
        match change {
            Change::Phase(phase) => hook.phase = phase,
            Change::InFlight(cap) => hook.settings.in_flight = cap,
            Change::Status(status) => hook.status = status,
        }
    }

    fn follow(&mut self) {
        let cache = HookCache::of(self.hooks.values().cloned());
        let revoked = self.admission.follow(&cache, now());
        for delivery in revoked.deliveries {
            *self.queued.entry(delivery.hook.id).or_default() -= 1;
        }
    }

    fn own(&mut self, hook: HookId) {
        let known = &self.hooks[&hook];
        if known.is_gated() {
            let answer = OwnershipAnswer {
                hook,
                owned: true,
                not_before: None,
            };
            let until = now() + TimeDelta::seconds(8);
            self.admission.own(known, answer, until, now());
        }
    }

    /// From here on every hook is an ordinary one that accepts everything, and this machine has no
    /// fault.
    fn recover(&mut self) {
        self.end_all();
        self.clock.advance(Duration::from_secs(1));
        for hook in (0..HOOKS).map(id) {
            self.change(hook, Change::Phase(None));
            self.change(hook, Change::InFlight(None));
            self.change(hook, Change::Status(HookStatus::Active));
        }
        self.follow();
    }

    /// Everything in flight is accepted and recorded.
    fn end_all(&mut self) {
        let in_flight = self.in_flight.iter();
        let in_flight: Vec<_> = in_flight.map(|(id, began)| (*id, began.len())).collect();
        for (hook, count) in in_flight {
            for _ in 0..count {
                self.end(hook, AttemptEnd::Served);
            }
        }
        self.record();
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_no_hook_starves(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.recover();
        // Each round has free places: every hook that has something queued starts some of it.
        while model.queued.values().any(|count| *count > 0) {
            let before = model.queued.clone();
            model.take(Step::Advance(4));
            model.take(Step::Start(PLACES));
            for (hook, count) in before {
                prop_assert!(
                    count == 0 || model.queued[&hook] < count,
                    "{hook} starves: {:?}",
                    model.admission.may_start(hook)
                );
            }
            model.end_all();
        }
    }

    #[test]
    fn what_is_closed_hands_back_everything(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        let unstarted = model.admission.close().len() as u32;
        prop_assert_eq!(unstarted, model.queued.values().sum::<u32>());
        prop_assert!(model.admission.try_next().is_none());
        model.end_all();
        prop_assert_eq!(model.admission.counts(), (0, 0));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The first hook answers, the others never do.
    #[test]
    fn hooks_that_never_answer_leave_places_to_others(
        steps in prop::collection::vec((0..HOOKS, 1..6u32, 1..400u16), 1..80),
    ) {
        let mut model = Model::new();
        let answering = id(0);
        for (hook, count, ms) in steps {
            model.take(Step::Lease(hook, count));
            model.take(Step::Lease(0, 1));
            model.take(Step::Start(PLACES));
            let silent = model.in_flight.iter().filter(|(id, _)| **id != answering);
            let silent: usize = silent.map(|(_, began)| began.len()).sum();
            prop_assert!(silent <= PLACES as usize / 2, "{silent} places for hooks that never answer");
            prop_assert!(!model.in_flight[&answering].is_empty(), "the hook that answers starves");
            while !model.in_flight[&answering].is_empty() {
                model.take(Step::End(0, AttemptEnd::Served));
            }
            model.take(Step::Record);
            model.take(Step::Advance(ms));
        }
    }
}
