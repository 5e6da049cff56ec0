//! The commands, a file for each group.

pub mod check;
pub mod delivery;
pub mod event;
mod event_file;
pub mod hook;
pub mod listen;
pub mod migrate;
mod paging;
mod parse;
mod show;
