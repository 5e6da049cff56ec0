//! Listings of any length, read page by page.
//!
//! Programs get every row, each page written as soon as it is read; people get the newest few
//! and are told so.

use crate::failure::Result;
use crate::output::{Output, notice};
use serde::Serialize;

/// How many rows people are shown unless they ask for more.
pub const SHOWN: u32 = 100;

/// How many rows are read at a time.
const PAGE: u32 = 500;

/// A listing to be made.
pub struct Listing<'a, T> {
    /// Where it goes.
    pub output: Output,
    /// At most this many rows, as asked.
    pub limit: Option<u32>,
    /// At most this many for people who did not ask.
    pub shown: u32,
    /// How rows look to people.
    pub human: fn(&[T]) -> String,
    /// What to say when there are none.
    pub none: &'a str,
}

impl<T: Serialize> Listing<'_, T> {
    /// Writes what `fetch` gives: pages of at most so many rows, each after the key of the last
    /// row before it.
    pub async fn write<K>(
        self,
        key: impl Fn(&T) -> K,
        mut fetch: impl AsyncFnMut(Option<K>, u32) -> Result<Vec<T>>,
    ) -> Result<()> {
        let json = self.output.is_json();
        let limit = match self.limit {
            Some(limit) => limit,
            None if json => u32::MAX,
            None => self.shown,
        };
        let (mut rows, mut last, mut left) = (Vec::new(), None, limit);
        let mut more = true;
        while left > 0 && more {
            let asked = left.min(PAGE);
            let page = fetch(last, asked).await?;
            more = page.len() >= asked as usize;
            left -= asked.min(u32::try_from(page.len()).unwrap_or(asked));
            last = page.last().map(&key);
            match json {
                true => self.output.lines(&page)?,
                false => rows.extend(page),
            }
        }
        match (json, rows.as_slice()) {
            (true, _) => {}
            (false, []) => notice(self.none),
            (false, rows) => self.output.text((self.human)(rows))?,
        }
        if !json && self.limit.is_none() && more && !rows.is_empty() {
            notice(format_args!(
                "The newest {limit} are shown; --limit shows more."
            ));
        }
        Ok(())
    }
}
