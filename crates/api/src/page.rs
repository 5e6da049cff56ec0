//! Paging of listings.
//!
//! A cursor holds the id of the last entry of a page, so entries added between two calls cause
//! neither repeats nor gaps. Cursors are opaque to callers; their content may change.

use crate::params::Params;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Entries on a page by default, and at most.
pub(crate) const LIMIT: u32 = 50;
pub(crate) const LIMIT_MAX: u32 = 250;

/// The listings. A cursor is valid for its own listing only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    Hooks = 1,
    Deliveries = 2,
    Events = 3,
    History = 4,
}

/// The requested page.
pub(crate) struct PageOf {
    listing: Listing,
    limit: u32,
    /// The id of the previous page's last entry; `None` for the first page.
    pub(crate) after: Option<Uuid>,
}

/// A page of a listing.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The entries of the page.
    data: Vec<T>,
    /// Send this as `cursor` to get the next page; `null` on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl PageOf {
    /// Reads the parameters `limit` and `cursor`.
    pub(crate) fn read(params: &mut Params, listing: Listing) -> Self {
        let limit = params.read("limit", |text| match text.parse() {
            Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
            _ => Err(format!("must be a number from 1 to {LIMIT_MAX}")),
        });
        let after = params.read("cursor", |text| {
            decoded(listing, text)
                .ok_or("must be the unchanged next_cursor of a page of this listing")
        });
        Self {
            listing,
            limit: limit.unwrap_or(LIMIT),
            after,
        }
    }

    /// Number of entries to request from the store: one more than shown, which tells whether there
    /// is another page.
    pub(crate) fn ask_for(&self) -> u32 {
        self.limit + 1
    }

    /// Builds the page from the entries that the store found.
    pub(crate) fn of<F, T: From<F>>(self, mut found: Vec<F>, id: impl Fn(&F) -> Uuid) -> Page<T> {
        let limit = self.limit as usize;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(id);
        Page {
            data: found.into_iter().map(T::from).collect(),
            next_cursor: last.map(|last| encoded(self.listing, last)),
        }
    }
}

fn encoded(listing: Listing, last: Uuid) -> String {
    let mut bytes = vec![listing as u8];
    bytes.extend(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(listing: Listing, cursor: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (kind, last) = bytes.split_first()?;
    match *kind == listing as u8 {
        true => Uuid::from_slice(last).ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_valid_for_its_own_listing_only() {
        let id = Uuid::from_u128(7);
        let cursor = encoded(Listing::Events, id);
        assert_eq!(decoded(Listing::Events, &cursor), Some(id));
        assert_eq!(decoded(Listing::Hooks, &cursor), None);
        for bad in ["", "a", &cursor[1..], "%", &format!("{cursor}AAAA")] {
            assert_eq!(decoded(Listing::Events, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_that_is_not_the_last_has_a_cursor() {
        let page = |query: &str, found: u32| {
            let mut params = Params::of(query);
            let page = PageOf::read(&mut params, Listing::Hooks);
            assert!(params.complete().is_ok());
            assert!(found <= page.ask_for());
            page.of::<u32, u32>((0..found).collect(), |n| Uuid::from_u128((*n).into()))
        };
        let last = page("limit=3", 3);
        assert_eq!(
            (last.data.as_slice(), last.next_cursor),
            (&[0, 1, 2][..], None)
        );
        let first = page("limit=3", 4);
        let cursor = first.next_cursor.as_deref().unwrap_or_default();
        assert_eq!(first.data, [0, 1, 2]);
        assert_eq!(decoded(Listing::Hooks, cursor), Some(Uuid::from_u128(2)));
        assert_eq!(page("", 7).next_cursor, None);
    }

    #[test]
    fn a_limit_is_within_its_bounds() {
        for bad in ["limit=0", "limit=251", "limit=-1", "limit=x", "cursor=x"] {
            let mut params = Params::of(bad);
            PageOf::read(&mut params, Listing::Hooks);
            assert!(params.complete().is_err(), "{bad}");
        }
    }
}
