//! The configuration: its sections, its sources, and the rules across sections.
//!
//! Later sources win: `postrider.toml`, then `DATABASE_URL`, then `POSTRIDER_SECTION__KEY`, then
//! flags. An unknown key or a contradiction stops the program at its start, with a text that says
//! what to change.

#[cfg(test)]
mod documented;
mod known_keys;
mod sections;
mod sources;

pub use sections::{ApiSettings, MetricsSettings, RetentionSettings, SecretsSettings};
pub use sources::{ConfigFile, Sources, load};

use crate::failure::{Misuse, Result};
use postrider_api::Dialect;
use postrider_compat::SystemSettings;
use postrider_store::{Backend, DatabaseSettings};
use postrider_worker::{HookDefaults, WorkerSettings};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::{Path, PathBuf};

/// All sections. The known keys are derived from the default value, so a new field is known.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The database that holds everything.
    pub database: DatabaseSettings,
    /// The management API.
    pub api: ApiSettings,
    /// The listener of metrics and health.
    pub metrics: MetricsSettings,
    /// Limits and times of a worker.
    pub worker: WorkerSettings,
    /// Defaults for hooks without a value of their own.
    pub hooks: HookDefaults,
    /// How long history is kept.
    pub retention: RetentionSettings,
    /// The keys that seal stored secrets.
    pub secrets: SecretsSettings,
    /// The compatible systems, each in a section of its own. They are read apart from the others
    /// (see `Settings::read`): a flattened member would not take numbers from the environment.
    #[serde(flatten, skip_deserializing)]
    pub systems: SystemSettings,
}

impl Settings {
    /// Checks every value and the rules across sections.
    fn check(&self) -> Result<()> {
        let backend = self.backend()?;
        self.api.check().map_err(Misuse::new)?;
        self.metrics.check().map_err(Misuse::new)?;
        if sections::same_address(&self.api.listen, &self.metrics.listen) {
            return Err(Misuse::new(format!(
                "api.listen and metrics.listen are both {}: give one of them another port",
                self.api.listen
            )));
        }
        self.worker.check().map_err(Misuse::new)?;
        self.hooks.check().map_err(Misuse::new)?;
        self.retention.check().map_err(Misuse::new)?;
        self.secrets.check(backend).map_err(Misuse::new)?;
        self.systems.check().map_err(Misuse::new)
    }

    /// Defaults for hooks without a value of their own, with the options of the profiles.
    pub fn hook_defaults(&self) -> HookDefaults {
        HookDefaults {
            profiles: self.systems.profiles(&self.api.listen),
            ..self.hooks.clone()
        }
    }

    /// The APIs of the compatible systems.
    pub fn dialects(&self) -> Vec<Dialect> {
        self.systems.dialects(&self.api.listen)
    }

    /// Reads all sections from `source`, which is deserialized twice. Unknown sections and keys
    /// are refused before, by [`KnownKeys`](known_keys::KnownKeys).
    fn read<'de, D>(source: D) -> std::result::Result<Self, D::Error>
    where
        D: Deserializer<'de> + Clone,
    {
        Ok(Self {
            systems: SystemSettings::deserialize(source.clone())?,
            ..Self::deserialize(source)?
        })
    }

    /// The kind of database that the URL names.
    pub fn backend(&self) -> Result<Backend> {
        Backend::of(&self.database.url).map_err(|error| Misuse::new(error.to_string()))
    }
}

/// The file that a `sqlite:` URL names; `None` for a database in memory or another URL.
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let rest = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))?;
    let path = rest.split('?').next().unwrap_or(rest);
    let in_memory = path.is_empty() || path == ":memory:" || rest.contains("mode=memory");
    (!in_memory).then(|| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_sqlite_url() {
        for (url, file) in [
            ("sqlite://postrider.db", Some("postrider.db")),
            ("sqlite:postrider.db", Some("postrider.db")),
            ("sqlite:///var/lib/p.db?mode=rwc", Some("/var/lib/p.db")),
            ("sqlite::memory:", None),
            ("sqlite://", None),
        ] {
            assert_eq!(sqlite_file(url), file.map(PathBuf::from), "{url}");
        }
    }
}
