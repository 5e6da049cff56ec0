//! The turns of an ordered hook: of the deliveries of one key only the first is leased.
//!
//! The later ones are blocked ([`RowState::Blocked`](crate::row_state::RowState::Blocked)): no
//! query for due deliveries finds them, so deliveries blocked by one that keeps failing cost a
//! lease nothing.

use postrider_core::{DeliveryId, HookId};
use std::collections::BTreeMap;

/// A delivery of an ordered hook that is due, and the state of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub id: DeliveryId,
    pub hook: HookId,
    /// Its key, and the first delivery of the key that has not ended. A delivery without a key
    /// waits for no other.
    pub key: Option<(String, First)>,
}

/// The first delivery of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub id: DeliveryId,
    /// It is blocked although its predecessor is gone: nothing has given it its turn.
    pub stranded: bool,
    /// Whether any delivery of the key is leased.
    pub busy: bool,
}

/// The decision about due deliveries; one in none of the lists stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Leased now.
    pub go: Vec<DeliveryId>,
    /// Blocked from now on, each with the first delivery of its key, which blocks it.
    pub blocked: Vec<(DeliveryId, DeliveryId)>,
    /// Keys whose first delivery is stranded: it is given its turn.
    pub stranded: Vec<(HookId, String)>,
}

/// Decides which deliveries are leased. `places` has the number that each hook may still have
/// leased, and is counted down.
pub(crate) fn turns(due: Vec<Due>, places: &mut BTreeMap<HookId, u32>) -> Turns {
    let mut turns = Turns::default();
    for due in due {
        match due.key {
            Some((key, first)) if first.id != due.id => {
                turns.blocked.push((due.id, first.id));
                let key = (due.hook, key);
                if first.stranded && !turns.stranded.contains(&key) {
                    turns.stranded.push(key);
                }
            }
            // It was inserted late, while a later one of its key is leased: it waits for that.
            Some((_, first)) if first.busy => {}
            Some(_) | None => {
                if let Some(places) = places.get_mut(&due.hook).filter(|places| **places > 0) {
                    *places -= 1;
                    turns.go.push(due.id);
                }
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const HOOK: HookId = HookId(Uuid::from_u128(1));

    fn delivery(n: u128) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n))
    }

    fn due(id: u128, key: Option<(&str, u128)>) -> Due {
        let first = |first| First {
            id: delivery(first),
            stranded: false,
            busy: false,
        };
        Due {
            id: delivery(id),
            hook: HOOK,
            key: key.map(|(key, id)| (key.to_owned(), first(id))),
        }
    }

    fn places(count: u32) -> BTreeMap<HookId, u32> {
        BTreeMap::from([(HOOK, count)])
    }

    #[test]
    fn the_first_of_each_key_and_those_without_a_key_go() {
        let all = vec![
            due(2, Some(("a", 1))),
            due(1, Some(("a", 1))),
            due(3, Some(("b", 3))),
            due(4, None),
            due(5, None),
        ];
        let turns = turns(all, &mut places(10));
        assert_eq!(turns.go, [1, 3, 4, 5].map(delivery));
        assert_eq!(turns.blocked, [(delivery(2), delivery(1))]);
        assert_eq!(turns.stranded, []);
    }

    #[test]
    fn no_more_go_than_there_are_places() {
        let mut left = places(2);
        let all = (1..=4).map(|id| due(id, None)).collect();
        assert_eq!(turns(all, &mut left).go, [1, 2].map(delivery));
        assert_eq!(left, places(0));
    }

    #[test]
    fn a_late_first_waits_for_the_leased_one_of_its_key() {
        let mut late = due(1, Some(("a", 1)));
        late.key.as_mut().unwrap().1.busy = true;
        assert_eq!(turns(vec![late], &mut places(1)), Turns::default());
    }

    #[test]
    fn a_stranded_first_gets_its_turn_once() {
        let mut all = vec![due(2, Some(("a", 1))), due(3, Some(("a", 1)))];
        for due in &mut all {
            due.key.as_mut().unwrap().1.stranded = true;
        }
        let turns = turns(all, &mut places(1));
        assert_eq!(turns.stranded, [(HOOK, "a".to_owned())]);
        assert_eq!(turns.blocked.len(), 2);
    }
}
