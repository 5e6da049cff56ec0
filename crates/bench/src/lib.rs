//! `postrider bench`: measures Postrider on this machine, beside HTTP clients that do nothing else.
//!
//! Every measurement runs real worker processes of the program under test against a receiver
//! process, on a database that is created for it and dropped at the end. The crate knows nothing
//! of the command line around it: the program passes in a [`Host`].

mod backlog;
mod baseline;
mod bench_database;
mod command;
mod environment;
mod error;
mod figures;
mod held_xmin;
mod idle;
mod isolation;
mod latency;
mod load;
mod machine;
mod options;
mod output;
mod processes;
mod progress;
mod publish;
mod received;
mod receiver;
mod report;
mod retention;
mod scenario;
mod scrape;
mod sick;
mod steady;
mod throughput;
mod workers;

pub use command::{Bench, Completion, Host};
pub use error::Unusable;
