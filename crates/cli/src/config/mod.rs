//! The configuration: what can be set, where it may stand, and the rules across sections.
//!
//! Later sources win: `postrider.toml`, then `DATABASE_URL`, then `POSTRIDER_SECTION__KEY`,
//! then flags. A key nobody knows and a contradiction stop the program before it does
//! anything, with a sentence that says what to change.

#[cfg(test)]
mod documented;
mod known_keys;
mod sections;
mod sources;

pub use sections::{
    ApiSettings, MetricsSettings, MisskeySettings, RetentionSettings, SecretsSettings,
    SolapiSettings, ThuliumSettings,
};
pub use sources::{ConfigFile, Sources, load};

use crate::failure::{Misuse, Result};
use postrider_api::DialectSettings;
use postrider_store::{Backend, DatabaseSettings};
use postrider_worker::{HookDefaults, ProfileOptions, WorkerSettings};
use serde::{Deserialize, Serialize};

/// Every section. The known keys are read off its default, so a key added here is known.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept.
    pub database: DatabaseSettings,
    /// The management API.
    pub api: ApiSettings,
    /// Metrics and health.
    pub metrics: MetricsSettings,
    /// How a worker works.
    pub worker: WorkerSettings,
    /// What holds for every hook that does not say otherwise.
    pub hooks: HookDefaults,
    /// How long history is kept.
    pub retention: RetentionSettings,
    /// The keys of stored secrets.
    pub secrets: SecretsSettings,
    /// The SOLAPI dialect.
    pub solapi: SolapiSettings,
    /// The Thulium dialect.
    pub thulium: ThuliumSettings,
    /// The Misskey dialect.
    pub misskey: MisskeySettings,
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
        self.solapi.check().map_err(Misuse::new)?;
        self.misskey.check().map_err(Misuse::new)
    }

    /// What holds for hooks that do not say otherwise, with what single profiles are configured
    /// with.
    pub fn hook_defaults(&self) -> HookDefaults {
        HookDefaults {
            profiles: ProfileOptions {
                misskey: self.misskey.options(&self.api.listen),
                solapi: self.solapi.options(),
            },
            ..self.hooks.clone()
        }
    }

    /// What the compatible APIs are told.
    pub fn dialects(&self) -> DialectSettings {
        DialectSettings {
            solapi_events: self.solapi.entries(),
            misskey_webhook_limit: self.misskey.webhook_limit,
        }
    }

    /// Which database the URL names.
    pub fn backend(&self) -> Result<Backend> {
        Backend::of(&self.database.url).map_err(|error| Misuse::new(error.to_string()))
    }
}
