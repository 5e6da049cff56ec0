//! The senders of a worker: each takes the next delivery that may start and attempts it.

use crate::admission::{Admission, AttemptEnd};
use crate::send::{Sender, Sent};
use futures_util::FutureExt;
use postrider_core::HookId;
use postrider_store::HookRequest;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tracing::error;

/// Sends deliveries until the admission is closed.
pub(super) async fn send_until_closed(
    admission: Arc<Admission>,
    sender: Arc<Sender>,
    sent: mpsc::Sender<Sent>,
) {
    while let Some(leased) = admission.next().await {
        let delivery = leased.first().id;
        let sending = AssertUnwindSafe(send_one(&admission, &sender, leased));
        match sending.catch_unwind().await {
            Ok(result) => {
                if sent.send(result).await.is_err() {
                    return;
                }
            }
            // Its lease expires, which is counted: the third time it counts as an attempt.
            Err(_) => error!(
                delivery.id = %delivery,
                "The attempt of delivery {delivery} panicked, which is a fault of Postrider; the \
                 delivery is tried again when its lease has run out"
            ),
        }
    }
}

/// Attempts one delivery that [`Admission`] has started.
pub(super) async fn send_one(admission: &Admission, sender: &Sender, leased: HookRequest) -> Sent {
    let mut in_flight = InFlight {
        admission,
        hook: leased.hook.id,
        began: admission.now(),
        end: AttemptEnd::Unsent,
    };
    // Another worker may have come to own the hook while the delivery was queued.
    if leased.hook.is_gated() && !admission.owns(leased.hook.id, sender.now()) {
        return Sent::GiveBack(leased);
    }
    let result = sender.send(leased).await;
    match &result {
        Sent::Settle(settlement) => {
            in_flight.end = AttemptEnd::of(&settlement.attempt().outcome);
        }
        Sent::CannotSend(leased) => admission.shut_out(&leased.hook),
        Sent::NotTried(_) => in_flight.end = AttemptEnd::LocalFault,
        Sent::GiveBack(_) => {}
    }
    result
}

/// A place in flight. It becomes free however the attempt ends, by a panic included.
struct InFlight<'a> {
    admission: &'a Admission,
    hook: HookId,
    began: Instant,
    end: AttemptEnd,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.admission.ended(self.hook, self.end, self.began);
    }
}
