//! The options that every command has, and what follows from them.

use crate::config::{ConfigFile, Settings, Sources, load};
use crate::database;
use crate::failure::{Misuse, Result};
use crate::logging::LogFormat;
use crate::output::Output;
use crate::secrets::Need;
use clap::Args;
use postrider_store::Store;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The actor that the history of a hook names for changes made on the command line.
pub const ACTOR: &str = "cli";

/// The options of every command.
#[derive(Args)]
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
    /// Print results as JSON: one object, or for listings one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Format of log lines on standard error (POSTRIDER_LOG or RUST_LOG sets what is logged)
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = false,
        help_heading = "Global options"
    )]
    pub log_format: LogFormat,
    /// The database of the command, once it is open.
    #[arg(skip)]
    store: OnceLock<Arc<dyn Store>>,
}

impl Globals {
    /// How the command writes its results.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`Misuse`] when a source cannot be read or a value is wrong.
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

    /// Opens the configured database; see [`database::open`]. It is closed when the command has ended.
    pub async fn store(&self, need: Need) -> Result<Arc<dyn Store>> {
        self.store_with(&self.settings()?, need).await
    }

    /// Opens the database of these settings, as [`store`](Self::store) does.
    pub async fn store_with(&self, settings: &Settings, need: Need) -> Result<Arc<dyn Store>> {
        let store = database::open(settings, need).await?;
        Ok(self.store.get_or_init(|| store).clone())
    }

    /// Closes the database that the command has opened.
    pub async fn close(&self) {
        if let Some(store) = self.store.get() {
            store.close().await;
        }
    }
}

/// The environment variables that configure the program.
fn environment() -> Result<Vec<(String, String)>> {
    let is_ours = |name: &String| name.starts_with("POSTRIDER_") || name == "DATABASE_URL";
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok().filter(is_ours)?, value)))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Misuse::new(format!(
                "environment variable {name}: the value is not valid UTF-8"
            ))),
        })
        .collect()
}
