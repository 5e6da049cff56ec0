//! Which of the latest requests of a hook its receiver served.

/// Which of the latest requests of a hook its receiver served: up to [`Self::CAPACITY`] of them,
/// the latest last. The default is none.
///
/// The requests are counted, not the time: a hook with much traffic is judged within a moment,
/// one with little after as many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentRequests(u64);

/// One bit for each request, the latest lowest, 1 for one that was not served. A 1 above the
/// oldest marks the end.
const END: u64 = 1;

impl RecentRequests {
    /// Requests that are remembered at most.
    pub const CAPACITY: u32 = 62;

    /// Whether no request is known.
    pub fn is_empty(self) -> bool {
        self.0 == END
    }

    /// The number of requests known.
    pub fn count(self) -> u32 {
        self.0.ilog2()
    }

    /// How many of them were not served.
    pub fn unserved(self) -> u32 {
        self.0.count_ones() - 1
    }

    /// Adds the latest request; the oldest is forgotten if there are too many.
    pub fn record(&mut self, served: bool) {
        let full = self.count() == Self::CAPACITY;
        let end = END << Self::CAPACITY;
        let bits = (self.0 << 1) | u64::from(!served);
        self.0 = if full { (bits & (end - 1)) | end } else { bits };
    }

    /// Whether the receiver serves next to nothing: at least `enough` requests are known, or as
    /// many as can be, and nine of ten were not served.
    pub fn shows_an_outage(self, enough: u32) -> bool {
        let count = self.count();
        count >= enough.min(Self::CAPACITY) && count > 0 && self.unserved() * 10 >= count * 9
    }

    /// The number under which it is stored; positive.
    pub fn to_stored(self) -> i64 {
        self.0.cast_signed()
    }

    /// The requests stored as this number. A number that none has stands for none.
    pub fn from_stored(number: i64) -> Self {
        match u64::try_from(number) {
            Ok(bits @ END..) if bits.ilog2() <= Self::CAPACITY => Self(bits),
            _ => Self::default(),
        }
    }
}

impl Default for RecentRequests {
    fn default() -> Self {
        Self(END)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recent(served: &[bool]) -> RecentRequests {
        let mut recent = RecentRequests::default();
        served.iter().for_each(|served| recent.record(*served));
        recent
    }

    #[test]
    fn nine_unserved_of_ten_show_an_outage() {
        let table: [(u32, &[bool], bool); 8] = [
            (0, &[], false),
            (1, &[false], true),
            (1, &[true], false),
            (5, &[false; 4], false),
            (5, &[false; 5], true),
            (5, &[true, false, false, false, false, false], false),
            (
                5,
                &[
                    false, true, false, false, false, false, false, false, false, false,
                ],
                true,
            ),
            (u32::MAX, &[false; 62], true),
        ];
        for (enough, served, expected) in table {
            assert_eq!(
                recent(served).shows_an_outage(enough),
                expected,
                "{served:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_latest_requests_are_known_and_survive_storing(
            served in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let recent = recent(&served);
            let known = &served[served.len().saturating_sub(RecentRequests::CAPACITY as usize)..];
            prop_assert_eq!(recent.count() as usize, known.len());
            let unserved = known.iter().filter(|served| !**served).count();
            prop_assert_eq!(recent.unserved() as usize, unserved);
            prop_assert!(recent.to_stored() > 0);
            prop_assert_eq!(RecentRequests::from_stored(recent.to_stored()), recent);
        }

        #[test]
        fn any_stored_number_is_read(number in any::<i64>()) {
            let recent = RecentRequests::from_stored(number);
            prop_assert!(recent.count() <= RecentRequests::CAPACITY);
        }
    }
}
