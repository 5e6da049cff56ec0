//! What is done to many deliveries at once: page by page, and told while it goes on.

use crate::failure::Result;
use crate::output::notice;
use postrider_core::monotonic_now;
use postrider_store::{BulkPage, BulkPageResult};
use std::time::Duration;

/// Deliveries that one call of the store looks at: few enough to keep nobody waiting.
const PAGE: u32 = 1_000;

/// How often is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Walks to the end, and returns how many deliveries were changed. `done` says what was done
/// with them, in one word.
pub async fn walk(
    done: &str,
    mut step: impl AsyncFnMut(BulkPage) -> std::result::Result<BulkPageResult, postrider_store::Error>,
) -> Result<u64> {
    let mut page = BulkPage::first(PAGE);
    let (mut count, mut told) = (0, monotonic_now());
    loop {
        let result = step(page).await?;
        count += u64::from(result.count);
        page.after = result.next;
        if page.after.is_none() {
            return Ok(count);
        }
        if monotonic_now() - told >= TELL_EVERY {
            told = monotonic_now();
            notice(format_args!("{count} {done} so far …"));
        }
    }
}

/// `1 delivery`, `2 deliveries`.
pub fn deliveries(count: u64) -> String {
    match count {
        1 => "1 delivery".into(),
        count => format!("{count} deliveries"),
    }
}
