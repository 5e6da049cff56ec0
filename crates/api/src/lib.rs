//! Postrider's HTTP interface: health probes, and the management API.
//!
//! No other crate but the binary knows `axum`, and this one knows nothing of workers: what it
//! asks about the process it asks through [`Readiness`].

mod probes;
mod problem;

pub use probes::{Readiness, probes};
pub use problem::router;
