//! Profiles: how requests are built and answers judged.
//!
//! A profile is data and a [`Format`]. The worker has one of its own, Standard Webhooks; those of
//! compatible systems are handed in at start ([`Profiles::with`]) and not known here by name.

mod headers;
mod hook_policy;
mod policy;
mod prepared;
mod profile;
mod registry;
mod standard;

pub use headers::{own_headers, profile_setting, secret_value};
pub use policy::{DisableWhen, Policy};
pub use prepared::{PrepareError, Prepared, Sending};
pub use profile::{Format, Profile, ProfileSetting, SecretUse, SettingValues};
pub use registry::Profiles;
