//! The systems whose webhook APIs and delivery formats Postrider serves.
//!
//! Each system is a folder with everything about it: its API for registrants (a *dialect*), its
//! delivery format and policy (a *profile*), its configuration section. The line at the end of
//! this file that lists them is the only other place that names one: a further system is a folder
//! beside the others and a name in that line.

use postrider_api::Dialect;
use postrider_worker::{Profile, Profiles};
use serde::{Deserialize, Serialize};

/// A system, as it is configured.
pub struct System {
    /// What its receivers get.
    pub profile: Profile,
    /// The API that its registrants call.
    pub dialect: Dialect,
}

/// Declares the systems: their modules, their configuration sections, and how each is made.
macro_rules! systems {
    ($($system:ident),+) => {
        $(pub mod $system;)+

        /// The configuration sections of the systems, by their names.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct SystemSettings {
            $(
                #[doc = concat!("The section `[", stringify!($system), "]`.")]
                pub $system: $system::Settings,
            )+
        }

        impl SystemSettings {
            /// Checks every section.
            ///
            /// # Errors
            /// A sentence that says which value to change.
            pub fn check(&self) -> Result<(), String> {
                $(self.$system.check()?;)+
                Ok(())
            }

            /// The systems as they are configured; `listen` is the address of the API.
            pub fn systems(&self, listen: &str) -> Vec<System> {
                vec![$($system::system(&self.$system, listen)),+]
            }
        }
    };
}

impl SystemSettings {
    /// The standard profile and those of the systems; `listen` is the address of the API.
    pub fn profiles(&self, listen: &str) -> Profiles {
        Profiles::with(
            self.systems(listen)
                .into_iter()
                .map(|system| system.profile),
        )
    }

    /// The dialects of the systems; `listen` is the address of the API.
    pub fn dialects(&self, listen: &str) -> Vec<Dialect> {
        let systems = self.systems(listen).into_iter();
        systems.map(|system| system.dialect).collect()
    }
}

systems!(solapi, thulium, misskey);

#[cfg(test)]
mod policy_tests;
