//! The worker's HTTP client against real sockets.

mod client;
mod connections;
