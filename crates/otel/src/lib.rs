//! OpenTelemetry traces, from an event that is published to the attempts to deliver it.
//!
//! What belongs to a trace says so itself: a call of the API by its headers, an event by those
//! that it carries. [`Traces`] holds the spans of both and sends them to a collector, as the
//! variables of OpenTelemetry say ([`TraceSettings`]). Nothing else of Postrider knows
//! OpenTelemetry: the API and the worker are handed what follows them.

mod attempts;
mod client;
mod context;
mod publishing;
mod settings;
mod traces;

pub use settings::{SettingsError, TraceSettings};
pub use traces::{SetUpError, Traces};
