//! Attempts in distributed traces: the interface that the binary implements.
//!
//! It is not called for events without headers, which are most: only the headers of an event can
//! say that it belongs to a trace.

use crate::local_fault::LocalFault;
use crate::profiles::Sending;
use http::HeaderMap;
use postrider_core::Outcome;

/// Records attempts in traces. Called by the senders: it must not block.
pub trait AttemptTraces: Send + Sync {
    /// Begins the span of an attempt that is made with these headers, those of the event included.
    ///
    /// Returns `None` if the event is in no trace, or in one that is not recorded; the headers
    /// are then unchanged. Otherwise they name this span as the parent for the receiver.
    fn begin(&self, sending: &Sending<'_>, headers: &mut HeaderMap)
    -> Option<Box<dyn AttemptSpan>>;
}

/// The span of an attempt. Dropped without [`end`](Self::end), the attempt was cut off.
pub trait AttemptSpan: Send {
    /// Ends the span with the outcome, or the reason why the attempt could not be tried.
    fn end(self: Box<Self>, outcome: Result<&Outcome, LocalFault>);
}
