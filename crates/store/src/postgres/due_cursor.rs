//! From which due time on a hook's deliveries are looked for, while dead rows pile up before it.
//!
//! Rows that were leased, or have gone, stay in the index for as long as any transaction on the
//! server may still see them, and a look from the beginning steps over all of them. So a
//! lease remembers up to where it has emptied a hook's queue, and the next begins there. Nothing
//! becomes due in the past: what is released, recovered or sent again is due from that
//! moment. For clocks that differ and commits that take long there is a margin, and everything
//! is looked at again now and then.

use postrider_core::{HookId, Timestamp};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long before the end of the emptied part the next look begins.
const MARGIN: Duration = Duration::from_secs(5);
/// How often a hook is looked at from the beginning.
const EVERYTHING_EVERY: Duration = Duration::from_secs(15);

/// Up to where the queues of hooks have been emptied.
#[derive(Debug, Default)]
pub(super) struct DueCursor {
    emptied: HashMap<(i16, HookId), Emptied>,
    forgotten: Option<Instant>,
}

#[derive(Debug)]
struct Emptied {
    until: Timestamp,
    /// When it was last looked at from the beginning.
    since: Instant,
}

impl DueCursor {
    /// From which due time on to look at the hook; `None` for from the beginning.
    pub(super) fn of(
        &self,
        slot: i16,
        hook: HookId,
        now: Timestamp,
        at: Instant,
    ) -> Option<Timestamp> {
        let emptied = self.emptied.get(&(slot, hook))?;
        let is_recent = at.saturating_duration_since(emptied.since) < EVERYTHING_EVERY;
        // Unless the clock was set back.
        (is_recent && emptied.until <= now).then(|| emptied.until - MARGIN)
    }

    /// A lease read the hook's rows from `from` on, and left none that is due before `until`.
    pub(super) fn emptied(
        &mut self,
        slot: i16,
        hook: HookId,
        from: Option<Timestamp>,
        until: Timestamp,
        at: Instant,
    ) {
        if self
            .forgotten
            .is_none_or(|last| at.saturating_duration_since(last) >= EVERYTHING_EVERY)
        {
            self.forgotten = Some(at);
            self.emptied.retain(|_, emptied| {
                at.saturating_duration_since(emptied.since) < EVERYTHING_EVERY
            });
        }
        match self.emptied.get_mut(&(slot, hook)) {
            Some(emptied) if from.is_some() => emptied.until = until,
            _ => {
                let emptied = Emptied { until, since: at };
                self.emptied.insert((slot, hook), emptied);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeDelta, TimeZone, Utc};
    use postrider_core::monotonic_now;
    use uuid::Uuid;

    const HOOK: HookId = HookId(Uuid::from_u128(1));

    fn second(second: i64) -> Timestamp {
        Utc.timestamp_opt(1_800_000_000, 0).unwrap() + TimeDelta::seconds(second)
    }

    #[test]
    fn a_look_begins_a_margin_before_what_was_emptied() {
        let (mut due_cursor, at) = (DueCursor::default(), monotonic_now());
        assert_eq!(due_cursor.of(0, HOOK, second(10), at), None);
        due_cursor.emptied(0, HOOK, None, second(10), at);
        assert_eq!(due_cursor.of(0, HOOK, second(11), at), Some(second(5)));
        assert_eq!(due_cursor.of(1, HOOK, second(11), at), None, "another slot");
        due_cursor.emptied(0, HOOK, Some(second(5)), second(11), at);
        assert_eq!(due_cursor.of(0, HOOK, second(11), at), Some(second(6)));
    }

    #[test]
    fn now_and_then_everything_is_looked_at() {
        let (mut due_cursor, at) = (DueCursor::default(), monotonic_now());
        due_cursor.emptied(0, HOOK, None, second(10), at);
        let late = at + EVERYTHING_EVERY - Duration::from_millis(1);
        due_cursor.emptied(0, HOOK, Some(second(5)), second(24), late);
        assert_eq!(due_cursor.of(0, HOOK, second(24), late), Some(second(19)));
        let later = at + EVERYTHING_EVERY;
        assert_eq!(due_cursor.of(0, HOOK, second(25), later), None);
        due_cursor.emptied(0, HOOK, None, second(25), later);
        assert_eq!(due_cursor.of(0, HOOK, second(25), later), Some(second(20)));
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let (mut due_cursor, at) = (DueCursor::default(), monotonic_now());
        due_cursor.emptied(0, HOOK, None, second(3_600), at);
        assert_eq!(due_cursor.of(0, HOOK, second(0), at), None);
    }
}
