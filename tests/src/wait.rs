//! Waiting for what only a look can tell, such as the state of a database.

use crate::receiver::PATIENCE;
use std::time::Duration;

/// Looks until `check` holds; what it returns meanwhile says what is missing.
///
/// # Panics
/// When it does not come to hold.
pub async fn eventually(mut check: impl AsyncFnMut() -> Result<(), String>) {
    let mut missing = String::from("nothing was looked at");
    let looking = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            match check().await {
                Ok(()) => return,
                Err(still) => missing = still,
            }
        }
    };
    if tokio::time::timeout(PATIENCE, looking).await.is_err() {
        panic!("it did not come to pass: {missing}");
    }
}
