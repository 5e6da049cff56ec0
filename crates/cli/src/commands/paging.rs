//! Listings of any length, read page by page.
//!
//! With `--json` every row is written, each page as soon as it is read. As text only the first rows
//! are shown, with a notice when there are more.

use crate::failure::Result;
use crate::output::{Output, notice};
use serde::Serialize;

/// Number of rows shown as text without `--limit`.
pub const SHOWN: u32 = 100;

/// Number of rows read at a time.
const PAGE: u32 = 500;

/// A listing.
pub struct Listing<'a, T> {
    /// How it is written.
    pub output: Output,
    /// The most rows, from `--limit`.
    pub limit: Option<u32>,
    /// The most rows as text without `--limit`.
    pub shown: u32,
    /// Formats the rows as text.
    pub human: fn(&[T]) -> String,
    /// The notice when there are no rows.
    pub none: &'a str,
}

impl<T: Serialize> Listing<'_, T> {
    /// Writes the pages that `fetch` returns. Its arguments are the key of the last row of the page
    /// before and the most rows of a page.
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
