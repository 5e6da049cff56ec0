//! The API against its own document, by other people's tools: the document is valid, and
//! whatever is sent is answered as the document says.
//!
//! `POSTRIDER_TEST_EXAMPLES=2000` tries so many requests of each operation instead of a few.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, TestDatabase, ended_within, on_both, python};
use std::time::Duration;

on_both!(whatever_is_sent_is_answered_as_documented);

/// Requests of each operation, unless the environment says.
const EXAMPLES: &str = "15";

/// How long that may take with many.
const LONG: Duration = Duration::from_secs(3_600);

async fn whatever_is_sent_is_answered_as_documented(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_API__RATE_LIMIT", "100000/s")
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s");
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let url = format!("http://{}", serving.address_of("api").await);
    let examples = std::env::var("POSTRIDER_TEST_EXAMPLES").unwrap_or_else(|_| EXAMPLES.into());
    let mut command = python("schema.py");
    command.args([&url, caller.token(), &examples]);
    ended_within(LONG, &mut command).await.succeeded();
}
