//! The configuration section `[thulium]`.

use serde::{Deserialize, Serialize};

/// The section `[thulium]`. It has no keys yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThuliumSettings {}

impl ThuliumSettings {
    /// Checks the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
