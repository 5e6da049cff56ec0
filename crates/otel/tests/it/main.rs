//! Traces as a collector sees them, and as receivers do.

mod attempts;
mod collector;
mod exporting;
