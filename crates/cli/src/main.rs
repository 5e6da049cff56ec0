//! The `postrider` binary: configuration, logging, shutdown and commands.
//!
//! It uses the database through [`postrider_store::Store`] only. Results go to standard output,
//! everything else to standard error.

mod cli;
mod clock;
mod commands;
mod config;
mod database;
mod failure;
mod globals;
mod http;
mod logging;
mod open_files;
mod output;
mod receiver;
mod sd_notify;
mod secrets;
mod traces;

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli::Cli { globals, command } = cli::Cli::parse();
    let started = logging::start(globals.log_format, command.log_level());
    let result = match started {
        Ok(()) => command.run(&globals).await,
        Err(error) => Err(error),
    };
    globals.close().await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
