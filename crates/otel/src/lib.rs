//! OpenTelemetry traces from the publishing of an event to the attempts of its deliveries.
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

pub use settings::{TraceSettings, TraceSettingsError};
pub use traces::{SetUpError, Traces};
