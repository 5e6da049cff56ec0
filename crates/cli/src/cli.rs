//! The command line: the global options and one command. Only `main` imports it.

use crate::commands::erase::AccountCommand;
use crate::commands::move_database::Move;
use crate::commands::{
    bench, check, delivery, demo, event, health, hook, key, listen, metrics, migrate, serve,
};
use crate::failure::Result;
use crate::globals::Globals;
use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
Configuration: postrider.toml in the working folder (or --config FILE), then the environment
(POSTRIDER_DATABASE__URL for url under [database]; DATABASE_URL works too; with _FILE appended
the variable names a file that holds the value), then flags.

Exit codes: 0 success, 1 failure, 2 arguments or configuration that cannot be used.

First steps:
  postrider demo                                      watch it work for half a minute
  postrider listen                                    run a receiver for experiments
  postrider hook add --url https://example.com/hook --event 'invoice.*'
  postrider event send --type invoice.paid --payload '{\"id\":1}'
  postrider serve                                     deliver";

/// Durable webhook delivery from an outbox table in your own database.
#[derive(Parser)]
#[command(name = "postrider", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. Each documents itself.
#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    /// Register, list and change hooks
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Send and show events
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Show deliveries and send them again
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
    /// Erase the contents of an account's events
    #[command(subcommand)]
    Account(AccountCommand),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    Move(Move),
    Check(check::Check),
    Health(health::Health),
    Metrics(metrics::MetricsCommand),
    Listen(listen::Listen),
    Demo(demo::Demo),
    Bench(postrider_bench::Bench),
}

impl Command {
    /// The log level; `POSTRIDER_LOG` and `RUST_LOG` override it.
    pub fn log_level(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            // The demo prints what happens.
            Self::Demo(_) => "off",
            _ => "warn",
        }
    }

    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Serve(command) => command.run(globals).await,
            Self::Migrate(command) => command.run(globals).await,
            Self::Hook(command) => command.run(globals).await,
            Self::Event(command) => command.run(globals).await,
            Self::Delivery(command) => command.run(globals).await,
            Self::Account(command) => command.run(globals).await,
            Self::Key(command) => command.run(globals).await,
            Self::Move(command) => command.run(globals).await,
            Self::Check(command) => command.run(globals).await,
            Self::Health(command) => command.run(globals).await,
            Self::Metrics(command) => command.run(globals).await,
            Self::Listen(command) => command.run(globals).await,
            Self::Demo(command) => command.run(globals).await,
            Self::Bench(command) => bench::run(command, globals).await,
        }
    }
}
