//! What sends a hook a test event: the worker's way of sending, handed in by the binary.

use async_trait::async_trait;
use postrider_core::{Attempt, Hook};

/// Sends test events.
#[async_trait]
pub trait TestSender: Send + Sync {
    /// Sends `hook` an event of the type `postrider.test` now, signed and built like any
    /// delivery, whatever its status. Nothing is recorded and no failure is counted.
    ///
    /// # Errors
    /// When no request could be made, for a reason that is not the receiver's: a sentence.
    async fn send_test(&self, hook: &Hook) -> Result<Attempt, String>;

    /// Sends `hook` an event of this type with this payload, which is JSON, in the same way.
    ///
    /// # Errors
    /// When no request could be made, for a reason that is not the receiver's: a sentence.
    async fn send_sample(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> Result<Attempt, String>;
}
