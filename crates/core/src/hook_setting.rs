//! One setting of a hook: its name, its documentation, its form, and how it is read and shown.
//!
//! The macro at the end makes all of them from one declaration, so that a setting which is
//! declared is stored, changed, checked, documented and shown, with nothing to remember.

use crate::{HookSettings, SettingsChange, SettingsError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;

/// One setting of a hook, for programs that offer settings to people: the API its fields, the
/// command line its flags, the documentation its table.
#[derive(Debug)]
pub struct HookSetting {
    /// The name in stored JSON and in the API, such as `in_flight`.
    pub name: &'static str,
    /// What it does, in one sentence without the full stop.
    pub summary: &'static str,
    /// What holds for a hook that does not set it: a configuration key, or words.
    pub default: &'static str,
    /// How its values are written.
    pub form: SettingForm,
    /// The word for "not set" on the command line: `none` unless another reads better.
    pub unset_word: &'static str,
    pub(crate) read: fn(&mut SettingsChange, Value) -> Result<(), String>,
    pub(crate) is_changed: fn(&SettingsChange) -> bool,
    pub(crate) text: fn(&HookSettings) -> Option<String>,
    pub(crate) check: fn(&HookSettings) -> Result<(), &'static str>,
}

/// How the values of a setting are written: as JSON in the API and the database, as text on the
/// command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingForm {
    /// A whole number of at least 1.
    Count,
    /// A duration such as `5s` ([`Span`](crate::Span)).
    Duration,
    /// A JSON array of durations; on the command line with commas between them.
    Durations,
    /// A rate such as `20/s` ([`Rate`](crate::Rate)).
    Rate,
    /// A condition on payloads ([`Filter`](crate::Filter)).
    Condition,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl HookSetting {
    /// Adds to `change` that this setting gets `value`, in the form in which settings are stored;
    /// `null` removes what the hook had set.
    ///
    /// # Errors
    /// When the setting cannot have this value by itself. [`HookSettings::check`] also compares
    /// settings with one another.
    pub fn set(&self, change: &mut SettingsChange, value: Value) -> Result<(), SettingsError> {
        (self.read)(change, value).map_err(|why| SettingsError::new(self.name, why))
    }

    /// The value in `settings` as text; `None` when the default holds.
    pub fn text(&self, settings: &HookSettings) -> Option<String> {
        (self.text)(settings)
    }
}

/// The type of a value that a setting can have.
pub(crate) trait SettingValue: DeserializeOwned + Display {
    const FORM: SettingForm;
    const UNSET_WORD: &'static str = "none";

    /// Checks what the type itself does not rule out.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// The type of a member of [`HookSettings`]; its default is what a hook has that does not set it.
pub(crate) trait SettingMember: Default + DeserializeOwned {
    type Value: SettingValue;

    /// The value, unless it is the default.
    fn value(&self) -> Option<&Self::Value>;

    /// Whether stored JSON leaves it out.
    fn is_left_out(&self) -> bool {
        self.value().is_none()
    }
}

impl<T: SettingValue> SettingMember for Option<T> {
    type Value = T;

    fn value(&self) -> Option<&T> {
        self.as_ref()
    }
}

/// Reads a member from its JSON form.
///
/// # Errors
/// What is wrong with the value, to stand after the name of the setting.
pub(crate) fn read<M: SettingMember>(value: Value) -> Result<M, String> {
    if value.is_null() {
        return Ok(M::default());
    }
    let member: M = serde_json::from_value(value).map_err(|error| match M::Value::FORM {
        SettingForm::Count => format!("must be a whole number from 1 to {}", u32::MAX),
        SettingForm::Choice(words) => format!("must be {}", words.join(" or ")),
        _ => error.to_string(),
    })?;
    check(&member)?;
    Ok(member)
}

/// Checks the value by itself.
pub(crate) fn check<M: SettingMember>(member: &M) -> Result<(), &'static str> {
    member.value().map_or(Ok(()), SettingValue::check)
}

/// Declares the settings of a hook.
///
/// Each entry is the documentation (one sentence, which users see in the API, on the command
/// line and in the documents), the name, the type (an `Option` whose value implements
/// [`SettingValue`]), and what holds for hooks without it.
macro_rules! hook_settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, default: $default:literal;)+) => {
        /// The settings of one hook. The configuration decides what a hook does not set.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct HookSettings {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "SettingMember::is_left_out")]
                pub $name: $type,
            )+
            /// Settings that only the hook's profile knows, by name. The profile checks them.
            #[serde(skip_serializing_if = "Map::is_empty")]
            pub profile: Map<String, Value>,
        }

        /// A change of a hook's settings. `None` leaves a setting as it is; `Some(None)` removes
        /// what the hook had set.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct SettingsChange {
            $($(#[doc = $doc])+ pub $name: Option<$type>,)+
        }

        impl HookSettings {
            /// Makes each change by itself.
            fn apply_each(&mut self, change: SettingsChange) {
                $(
                    if let Some(value) = change.$name {
                        self.$name = value;
                    }
                )+
            }
        }

        /// Every setting, in the order in which settings are shown.
        pub const HOOK_SETTINGS: &[HookSetting] = &[$(
            HookSetting {
                name: stringify!($name),
                summary: concat!($($doc),+).trim_ascii(),
                default: $default,
                form: <<$type as SettingMember>::Value as SettingValue>::FORM,
                unset_word: <<$type as SettingMember>::Value as SettingValue>::UNSET_WORD,
                read: |change, value| {
                    change.$name = Some(hook_setting::read(value)?);
                    Ok(())
                },
                is_changed: |change| change.$name.is_some(),
                text: |settings| settings.$name.value().map(ToString::to_string),
                check: |settings| hook_setting::check(&settings.$name),
            },
        )+];
    };
}
pub(crate) use hook_settings;
