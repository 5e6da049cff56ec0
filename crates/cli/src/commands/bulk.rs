//! Changing many deliveries of a hook page by page, with progress.

use crate::failure::Result;
use crate::output::notice;
use postrider_store::{BulkPage, BulkPageResult};
use std::time::{Duration, Instant};

/// Deliveries in one call of the store: few enough that its transaction blocks nobody for long.
const PAGE: u32 = 1_000;

/// How often progress is printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Calls `step` for each page, and returns the number of changed deliveries. `done` is the participle
/// of the progress lines, such as `discarded`.
pub async fn walk(
    done: &str,
    mut step: impl AsyncFnMut(BulkPage) -> std::result::Result<BulkPageResult, postrider_store::Error>,
) -> Result<u64> {
    let mut page = BulkPage::first(PAGE);
    let (mut count, mut last_line) = (0, Instant::now());
    loop {
        let result = step(page).await?;
        count += u64::from(result.count);
        page.after = result.next;
        if page.after.is_none() {
            return Ok(count);
        }
        if last_line.elapsed() >= PROGRESS_EVERY {
            last_line = Instant::now();
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
