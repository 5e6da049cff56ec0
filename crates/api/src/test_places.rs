//! Test events in flight, shared fairly between accounts.
//!
//! A test holds its place until the receiver answers or the deadline passes. An account gets a
//! further place only while it holds fewer than are free: alone it has half of them, and some are
//! left for an account that comes later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Test events in flight at most, in this process.
const PLACES: usize = 16;

/// The places for test events.
#[derive(Debug, Default)]
pub(crate) struct TestPlaces {
    /// The places that each account holds.
    held: Mutex<HashMap<String, usize>>,
}

/// A place for a test event, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct TestPlace {
    places: Arc<TestPlaces>,
    account: String,
}

impl TestPlaces {
    /// Takes a place for a test of this account; `None` when it has to wait.
    pub(crate) fn take(self: &Arc<Self>, account: &str) -> Option<TestPlace> {
        let mut held = self.lock();
        let free = PLACES - held.values().sum::<usize>();
        let own = held.get(account).copied().unwrap_or(0);
        if own >= free {
            return None;
        }
        held.insert(account.to_owned(), own + 1);
        Some(TestPlace {
            places: self.clone(),
            account: account.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestPlace {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        if let Some(own) = held.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many places as the account gets.
    fn all(places: &Arc<TestPlaces>, account: &str) -> Vec<TestPlace> {
        std::iter::from_fn(|| places.take(account)).collect()
    }

    #[test]
    fn no_account_takes_the_places_of_others() {
        let places = Arc::<TestPlaces>::default();
        let one = all(&places, "one");
        assert_eq!(one.len(), PLACES / 2);
        let others: Vec<_> = ["two", "three", "four"]
            .iter()
            .map(|account| all(&places, account))
            .collect();
        let taken: Vec<_> = others.iter().map(Vec::len).collect();
        assert_eq!(taken, [4, 2, 1]);
        assert!(places.take("five").is_some(), "one is left");
    }

    #[test]
    fn a_place_that_is_given_back_can_be_taken_again() {
        let places = Arc::<TestPlaces>::default();
        let mut one = all(&places, "one");
        assert!(places.take("one").is_none());
        one.pop();
        assert!(places.take("one").is_some());
        drop(one);
        assert!(places.lock().is_empty());
        assert_eq!(all(&places, "two").len(), PLACES / 2);
    }
}
