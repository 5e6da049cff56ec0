//! The interface for sending test events, implemented by the binary with the worker's sender.

use async_trait::async_trait;
use postrider_core::{Attempt, Hook};

/// Sends test events.
#[async_trait]
pub trait TestSender: Send + Sync {
    /// Sends `hook` an event of the type `postrider.test` at once, built and signed like any
    /// delivery, whatever the hook's status. Nothing is recorded and no failure is counted.
    ///
    /// # Errors
    /// A sentence, when a local fault prevented the request.
    async fn send_test(&self, hook: &Hook) -> Result<Attempt, String>;

    /// Sends `hook` an event with this type and this JSON payload, like
    /// [`send_test`](Self::send_test).
    ///
    /// # Errors
    /// A sentence, when a local fault prevented the request.
    async fn send_sample(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> Result<Attempt, String>;
}
