//! From where on the outbox is read, while dead rows pile up at its head.
//!
//! Rows that were taken stay in the index for as long as any transaction, anywhere on the
//! server, may still see them, and every peek from the beginning steps over all of them. So
//! when peeks become slow, they begin at the first row that was there a moment ago, and ten
//! times a second at the one that was there half a second ago. Rows before that can only come
//! from transactions that took longer to commit; for these the older part is searched stretch by
//! stretch, at a twentieth of our time. When a search of all of it is quick again, everything is
//! peeked at again each time.
//!
//! In this way no row is ever passed over for good, and a peek costs the same however long
//! somebody keeps a transaction open.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Peeks that take longer than this are slow.
const SLOW: Duration = Duration::from_millis(4);
/// Slow peeks in a row that mean that dead rows are the cause.
const SLOW_PEEKS: u8 = 3;
/// How far back a wide peek begins. Rows that commit later than this are left to the search.
const MARGIN: Duration = Duration::from_millis(500);
/// How often a peek is wide.
const WIDE_EVERY: Duration = Duration::from_millis(100);
/// How far back the other peeks begin.
const NEAR: Duration = Duration::from_millis(50);
/// How often the first row is noted.
const NOTE_EVERY: Duration = Duration::from_millis(25);
/// A search is followed by a pause of this many times its duration.
const SEARCH_WAITS: u32 = 20;
const SEARCH_WAITS_LEAST: Duration = Duration::from_millis(20);
/// How much of the sequence is searched at once: at first, and at least.
const STRETCH_FIRST: i64 = 65_536;
const STRETCH_LEAST: i64 = 4_096;
/// A stretch that is searched within this time may be longer the next time.
const SEARCH_QUICK: Duration = Duration::from_millis(1);

/// A stretch of `seq`: from the first number on, before the second.
pub(super) type Stretch = (i64, i64);

/// All there is.
pub(super) const ALL: Stretch = (i64::MIN, i64::MAX);

/// What is known of the head of the outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxCursor {
    /// Where the first row was, and when.
    heads: VecDeque<(Instant, i64)>,
    /// When a peek last began a whole margin ago.
    wide_at: Option<Instant>,
    slow_peeks: u8,
    search: Option<Search>,
    /// Slots in which a search found rows, and where.
    late: HashMap<i16, Stretch>,
}

#[derive(Debug)]
struct Search {
    from: i64,
    length: i64,
    /// Time spent since the search began at the beginning.
    spent: Duration,
    next: Instant,
}

impl OutboxCursor {
    /// What of the outbox to peek at now.
    pub(super) fn peek(&mut self, now: Instant) -> Stretch {
        if self.wide_at.is_some_and(|at| now - at < WIDE_EVERY) {
            return self.stretch(now, NEAR);
        }
        self.wide_at = Some(now);
        self.known(now)
    }

    /// What of the slot to take rows from: where a search found some, else from the first row
    /// that a peek has found of late.
    pub(super) fn stretch_of(&mut self, slot: i16, now: Instant) -> Stretch {
        let late = self.late.remove(&slot);
        late.unwrap_or_else(|| self.stretch(now, NEAR))
    }

    /// What is not left to searching.
    pub(super) fn known(&self, now: Instant) -> Stretch {
        self.stretch(now, MARGIN)
    }

    fn stretch(&self, now: Instant, margin: Duration) -> Stretch {
        match (&self.search, self.low(now, margin)) {
            (Some(_), Some(low)) => (low, i64::MAX),
            _ => ALL,
        }
    }

    /// A peek took this long, and found `head`: the first row, or where the next will be.
    pub(super) fn peeked(&mut self, head: i64, took: Duration, now: Instant) {
        // A row before the first one: its transaction has committed since. Or the database is
        // another one, as after a restore.
        for (_, noted) in &mut self.heads {
            *noted = head.min(*noted);
        }
        if self
            .heads
            .back()
            .is_none_or(|(at, _)| now - *at >= NOTE_EVERY)
        {
            self.heads.push_back((now, head));
        }
        while self.heads.get(1).is_some_and(|(at, _)| now - *at >= MARGIN) {
            self.heads.pop_front();
        }
        if self.search.is_some() {
            return;
        }
        self.slow_peeks = match took >= SLOW {
            true => self.slow_peeks + 1,
            false => 0,
        };
        if self.slow_peeks >= SLOW_PEEKS {
            self.slow_peeks = 0;
            self.search = Some(Search {
                from: i64::MIN,
                length: STRETCH_FIRST,
                spent: Duration::ZERO,
                next: now,
            });
        }
    }

    /// The older part to be searched now, if it is time.
    pub(super) fn search(&self, now: Instant) -> Option<Stretch> {
        let low = self.low(now, MARGIN)?;
        let search = self.search.as_ref().filter(|search| search.next <= now)?;
        Some((search.from, search.end().min(low)))
    }

    /// A search of `stretch` found rows in these slots.
    pub(super) fn searched(
        &mut self,
        stretch: Stretch,
        slots: &[i16],
        took: Duration,
        now: Instant,
    ) {
        self.late.extend(slots.iter().map(|slot| (*slot, stretch)));
        let low = self.low(now, MARGIN);
        let Some(search) = &mut self.search else {
            return;
        };
        search.spent += took;
        search.next = now + (took * SEARCH_WAITS).max(SEARCH_WAITS_LEAST);
        // What was found is taken first; the same stretch is searched again after that.
        if slots.is_empty() {
            search.from = stretch.1;
        }
        search.length = match took {
            took if took <= SEARCH_QUICK => search.length.saturating_mul(2),
            took if took >= SLOW => (search.length / 2).max(STRETCH_LEAST),
            _ => search.length,
        };
        if low.is_none_or(|low| search.from >= low) {
            if search.spent < SLOW {
                self.search = None;
                return;
            }
            search.from = i64::MIN;
            search.spent = Duration::ZERO;
        }
    }

    /// Where the first row was so long ago; nothing before a whole margin is known.
    fn low(&self, now: Instant, margin: Duration) -> Option<i64> {
        let (first, _) = self.heads.front()?;
        let mut old = self
            .heads
            .iter()
            .rev()
            .filter(|(at, _)| now - *at >= margin);
        old.next()
            .filter(|_| now - *first >= MARGIN)
            .map(|(_, head)| *head)
    }
}

impl Search {
    fn end(&self) -> i64 {
        // The sequence begins at 1.
        self.from.max(0).saturating_add(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;

    const QUICK: Duration = Duration::from_micros(200);
    const MS: Duration = Duration::from_millis(1);

    /// Peeks every 10 ms, each finding a head of its own.
    fn peek(outbox_cursor: &mut OutboxCursor, now: &mut Instant, heads: &[i64], took: Duration) {
        for head in heads {
            *now += 10 * MS;
            outbox_cursor.peeked(*head, took, *now);
        }
    }

    #[test]
    fn quick_looks_are_at_everything() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        let heads: Vec<_> = (0..500).map(|n| n * 100).collect();
        peek(&mut outbox_cursor, &mut now, &heads, QUICK);
        assert_eq!(outbox_cursor.known(now), ALL);
        assert_eq!(outbox_cursor.search(now), None);
        // One that is slow, now and then, means nothing.
        for n in 500..600 {
            peek(&mut outbox_cursor, &mut now, &[n * 100], 9 * MS);
            peek(&mut outbox_cursor, &mut now, &[n * 100 + 1], QUICK);
        }
        assert_eq!(outbox_cursor.known(now), ALL);
    }

    #[test]
    fn slow_peeks_begin_where_the_first_row_was_half_a_second_ago() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        let heads: Vec<_> = (1..=100).map(|n| n * 100).collect();
        peek(&mut outbox_cursor, &mut now, &heads, 9 * MS);
        let (low, end) = outbox_cursor.peek(now);
        assert_eq!(end, i64::MAX);
        assert!((4_500..=5_000).contains(&low), "{low}");
    }

    #[test]
    fn looks_in_between_begin_a_moment_ago() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        let heads: Vec<_> = (1..=100).map(|n| n * 100).collect();
        peek(&mut outbox_cursor, &mut now, &heads, 9 * MS);
        outbox_cursor.peek(now);
        let near = outbox_cursor.peek(now + 10 * MS).0;
        assert!((9_000..=9_500).contains(&near), "{near}");
        assert_eq!(outbox_cursor.stretch_of(0, now + 10 * MS).0, near);
        let wide = outbox_cursor.peek(now + 100 * MS).0;
        assert!((5_000..=6_000).contains(&wide), "{wide}");
    }

    #[test]
    fn what_a_wide_look_finds_is_in_sight_of_all_that_follow() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        let heads: Vec<_> = (1..=100).map(|n| n * 100).collect();
        peek(&mut outbox_cursor, &mut now, &heads, 9 * MS);
        outbox_cursor.peek(now);
        peek(&mut outbox_cursor, &mut now, &[6_000], 9 * MS);
        assert!(outbox_cursor.peek(now).0 <= 6_000);
        assert!(outbox_cursor.stretch_of(0, now).0 <= 6_000);
    }

    #[test]
    fn nothing_is_left_out_before_half_a_second_is_known() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        peek(&mut outbox_cursor, &mut now, &[100; 40], 9 * MS);
        assert_eq!(outbox_cursor.known(now), ALL);
        assert_eq!(outbox_cursor.search(now), None);
    }

    #[test]
    fn the_older_part_is_searched_stretch_by_stretch_and_from_the_beginning_again() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        peek(&mut outbox_cursor, &mut now, &[400_000; 100], 9 * MS);
        let mut searched = Vec::new();
        for _ in 0..8 {
            now += 200 * MS;
            let stretch = outbox_cursor.search(now).expect("it is time");
            outbox_cursor.searched(stretch, &[], 3 * MS, now);
            assert_eq!(outbox_cursor.search(now), None, "a search rests");
            searched.push(stretch);
        }
        assert_eq!(searched[0], (i64::MIN, STRETCH_FIRST));
        assert!(
            searched
                .windows(2)
                .all(|w| w[1].0 == w[0].1 || w[0].1 == 400_000)
        );
        assert!(searched.iter().any(|(_, end)| *end == 400_000));
        assert_eq!(
            searched
                .iter()
                .filter(|(from, _)| *from == i64::MIN)
                .count(),
            2
        );
    }

    #[test]
    fn rows_that_a_search_finds_are_taken_from_where_they_are() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        peek(&mut outbox_cursor, &mut now, &[400_000; 100], 9 * MS);
        let stretch = outbox_cursor.search(now).expect("it is time");
        outbox_cursor.searched(stretch, &[3], 2 * MS, now);
        assert_eq!(outbox_cursor.stretch_of(3, now), stretch);
        assert_eq!(outbox_cursor.stretch_of(3, now), (400_000, i64::MAX));
        now += 100 * MS;
        assert_eq!(
            outbox_cursor.search(now),
            Some(stretch),
            "there may be more"
        );
    }

    #[test]
    fn when_a_whole_search_is_quick_everything_is_looked_at_again() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        peek(&mut outbox_cursor, &mut now, &[400_000; 100], 9 * MS);
        for _ in 0..20 {
            now += 100 * MS;
            if let Some(stretch) = outbox_cursor.search(now) {
                outbox_cursor.searched(stretch, &[], QUICK, now);
            }
        }
        assert_eq!(outbox_cursor.known(now), ALL);
    }

    #[test]
    fn what_commits_later_than_its_successors_is_looked_at_for_half_a_second() {
        let (mut outbox_cursor, mut now) = (OutboxCursor::default(), monotonic_now());
        peek(&mut outbox_cursor, &mut now, &[400_000; 100], 9 * MS);
        peek(&mut outbox_cursor, &mut now, &[7], QUICK);
        assert_eq!(outbox_cursor.known(now), (7, i64::MAX));
        peek(&mut outbox_cursor, &mut now, &[400_001; 100], QUICK);
        assert_eq!(outbox_cursor.known(now), (400_001, i64::MAX));
    }
}
