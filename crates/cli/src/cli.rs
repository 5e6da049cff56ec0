//! The arguments: one global set, and a command.

use crate::commands::erase::AccountCommand;
use crate::commands::move_database::Move;
use crate::commands::{
    bench, check, delivery, demo, event, health, hook, key, listen, metrics, migrate, serve,
};
use crate::config::{ConfigFile, Settings, Sources, load};
use crate::failure::{Misuse, Result};
use crate::logging::LogFormat;
use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Configuration: postrider.toml in the working folder (or --config FILE), then the environment
(POSTRIDER_DATABASE__URL for url under [database]; DATABASE_URL is honoured too; with _FILE
appended the value is read from that file), then flags.

Exit codes: 0 success, 1 failure, 2 arguments or configuration that cannot be used.

First steps:
  postrider demo                                      see it work, in half a minute
  postrider listen                                    a receiver to try things with
  postrider hook add --url https://example.com/hook --event 'invoice.*'
  postrider event send --type invoice.paid --payload '{\"id\":1}'
  postrider serve                                     deliver";

/// Durable webhook delivery from an outbox table in your own database.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The database: sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub database: Option<String>,
    /// The configuration file, instead of postrider.toml in the working folder
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub config: Option<PathBuf>,
    /// Print results as JSON: one object, or one object a line for listings
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// How log lines on standard error look (POSTRIDER_LOG or RUST_LOG sets what is logged)
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = false,
        help_heading = "Global options"
    )]
    pub log_format: LogFormat,
}

/// What to do. A command says itself what it is for.
#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    /// Register, list and change hooks
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Send events and look at them
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Look at deliveries and send them again
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
    /// Erase what the events of an account said
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make, list and revoke keys of the API
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

impl Globals {
    /// Where results go.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Reads and checks the configuration.
    pub fn settings(&self) -> Result<Settings> {
        load(&Sources {
            file: match &self.config {
                Some(path) => ConfigFile::Named(path.clone()),
                None => ConfigFile::IfPresent("postrider.toml".into()),
            },
            environment: environment()?,
            database: self.database.clone(),
        })
    }
}

impl Command {
    /// The log level unless the environment says otherwise.
    pub fn log_level(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            // It tells everything itself.
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

/// The variables that may concern us, as text.
fn environment() -> Result<Vec<(String, String)>> {
    let ours = |name: &String| name.starts_with("POSTRIDER_") || name == "DATABASE_URL";
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok().filter(ours)?, value)))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Misuse::new(format!(
                "environment variable {name}: the value is not valid UTF-8"
            ))),
        })
        .collect()
}
