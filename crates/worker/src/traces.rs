//! What follows attempts in traces, handed in by the binary.
//!
//! Nothing is asked of it for events without headers, which are most: only the headers of an
//! event say that it belongs in a trace.

use crate::local_fault::LocalFault;
use crate::profiles::Sending;
use http::HeaderMap;
use postrider_core::Outcome;

/// Follows attempts in traces. Called where requests are made: it must not block.
pub trait AttemptTraces: Send + Sync {
    /// An attempt is about to be made with these headers, those of the event among them.
    ///
    /// Returns nothing if the event is in no trace, or in one that is not recorded; the headers
    /// are then as they were. Else they say to the receiver that this attempt comes before.
    fn begin(&self, sending: &Sending<'_>, headers: &mut HeaderMap)
    -> Option<Box<dyn AttemptSpan>>;
}

/// An attempt that is being made. Dropped without an end, it was cut off.
pub trait AttemptSpan: Send {
    /// What came of it, or why it could not be tried.
    fn end(self: Box<Self>, came: Result<&Outcome, LocalFault>);
}
