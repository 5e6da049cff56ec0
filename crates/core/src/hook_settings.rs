//! The settings of a hook, declared once.
//!
//! Everything else about a setting comes from its declaration here: the stored JSON, the change,
//! the fields of the API with their JSON schema, the flags of the command line, the rows of
//! `hook show`, and the table in `docs/api.md`. What a setting does is decided where it is used.

use crate::hook_setting::{
    self, HookSetting, SettingForm, SettingMember, SettingValue, hook_settings,
};
use crate::{BodyForm, Filter, HookError, Rate, RetrySchedule, SettingsError, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

hook_settings! {
    /// The request body: `envelope` for `{"type", "timestamp", "data"}`, or `payload` for the
    /// payload alone
    body: BodyForm, default: "`envelope`";
    /// Only events whose payload fits this condition
    filter: Option<Filter>, default: "every payload";
    /// Only events whose payload has at most this many bytes; a larger one gets no delivery
    max_payload_bytes: Option<u32>, default: "every payload";
    /// The deadline of a request; never longer than `worker.request_timeout`
    timeout: Option<Span>, default: "`worker.request_timeout`";
    /// The waits between attempts; n waits make n + 1 attempts
    retry_schedule: Option<RetrySchedule>, default: "`hooks.retry_schedule`";
    /// Requests in flight at most, over all workers
    in_flight: Option<u32>, default: "`worker.per_hook`, in each worker";
    /// Requests in a second, a minute or an hour at most, over all workers
    rate: Option<Rate>, default: "no limit";
    /// `key` delivers the events of one ordering key one at a time, in the order of insertion
    ordered: Option<Ordered>, default: "any order";
    /// For an ordered hook, after an event has failed for good: `hold` the later events of its key
    /// until it is delivered or discarded, or `skip` it
    on_failure: Option<OnFailure>, default: "`hold`";
    /// Failures in a row before the whole hook is backed off, if it serves next to nothing
    back_off_after: Option<u32>, default: "`hooks.back_off_after`";
    /// Failures in a row before the hook is disabled, if they also span `disable_after`
    disable_after_failures: Option<u32>, default: "`hooks.disable_after_failures`";
    /// The time that failures in a row must span before the hook is disabled
    disable_after: Option<Span>, default: "`hooks.disable_after`";
}

/// The order in which a hook gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordered {
    /// Events of one `ordering_key` one at a time, in the order of insertion; others in any order.
    Key,
}

/// What happens to later events of a key after one has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They are held until a person sends the failed one again and it is delivered, or discards it.
    #[default]
    Hold,
    /// They are delivered.
    Skip,
}

impl HookSettings {
    /// Whether a setting must hold over all workers together: a limit, or an order. One worker
    /// alone then starts the hook's deliveries.
    pub fn is_limited(&self) -> bool {
        self.in_flight.is_some() || self.rate.is_some() || self.ordered.is_some()
    }

    /// What happens to later events of a key after one has failed for good; `None` when the hook
    /// is not ordered.
    pub fn after_failure(&self) -> Option<OnFailure> {
        self.ordered
            .map(|Ordered::Key| self.on_failure.unwrap_or_default())
    }

    /// Makes the change. A hook that loses its order loses `on_failure` too, unless the change
    /// names it.
    pub fn apply(&mut self, change: SettingsChange) {
        let names_on_failure = change.on_failure.is_some();
        self.apply_each(change);
        if self.ordered.is_none() && !names_on_failure {
            self.on_failure = None;
        }
    }

    /// Checks each setting, and those that depend on one another.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), HookError> {
        for setting in HOOK_SETTINGS {
            (setting.check)(self).map_err(|why| SettingsError::new(setting.name, why))?;
        }
        if self.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            return Err(SettingsError::new("timeout", "must be longer than 0s").into());
        }
        if self.on_failure.is_some() && self.ordered.is_none() {
            let why = "needs an ordered hook: set ordered to key too";
            return Err(SettingsError::new("on_failure", why).into());
        }
        Ok(())
    }
}

impl SettingsChange {
    /// Whether the change names no setting.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names of the settings it changes, with commas between them.
    pub fn names(&self) -> String {
        let changed = HOOK_SETTINGS.iter();
        let changed = changed.filter(|setting| (setting.is_changed)(self));
        let names: Vec<_> = changed.map(|setting| setting.name).collect();
        names.join(", ")
    }
}

impl SettingMember for BodyForm {
    type Value = Self;

    fn value(&self) -> Option<&Self> {
        Some(self).filter(|form| **form != Self::default())
    }

    fn is_left_out(&self) -> bool {
        false
    }
}

impl SettingValue for BodyForm {
    const FORM: SettingForm = SettingForm::Choice(&["envelope", "payload"]);
}

impl SettingValue for Filter {
    const FORM: SettingForm = SettingForm::Condition;
}

impl SettingValue for Span {
    const FORM: SettingForm = SettingForm::Duration;
}

impl SettingValue for RetrySchedule {
    const FORM: SettingForm = SettingForm::Durations;
}

impl SettingValue for Rate {
    const FORM: SettingForm = SettingForm::Rate;
}

impl SettingValue for u32 {
    const FORM: SettingForm = SettingForm::Count;

    fn check(&self) -> Result<(), &'static str> {
        match *self {
            0 => Err("must be at least 1"),
            _ => Ok(()),
        }
    }
}

impl SettingValue for Ordered {
    const FORM: SettingForm = SettingForm::Choice(&["key"]);
    const UNSET_WORD: &'static str = "off";
}

impl SettingValue for OnFailure {
    const FORM: SettingForm = SettingForm::Choice(&["hold", "skip"]);
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
        })
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Skip => "skip",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(field: &'static str, why: &str) -> HookError {
        SettingsError::new(field, why).into()
    }

    /// A value of each form.
    fn example(setting: &HookSetting) -> Value {
        match setting.form {
            SettingForm::Count => json!(7),
            SettingForm::Duration => json!("5s"),
            SettingForm::Durations => json!(["5s", "5m"]),
            SettingForm::Rate => json!("20/s"),
            SettingForm::Condition => json!("a == 1"),
            SettingForm::Choice(words) => json!(words[words.len() - 1]),
        }
    }

    #[test]
    fn each_setting_is_set_stored_shown_and_removed() {
        for setting in HOOK_SETTINGS {
            let mut settings = HookSettings {
                // One that is not ordered cannot have `on_failure`.
                ordered: Some(Ordered::Key),
                ..HookSettings::default()
            };
            let value = example(setting);
            let mut change = SettingsChange::default();
            setting.set(&mut change, value.clone()).unwrap();
            assert_eq!(change.names(), setting.name);
            settings.apply(change);
            assert_eq!(settings.check(), Ok(()), "{}", setting.name);
            let stored = json!(settings);
            assert_eq!(stored[setting.name], value);
            assert_eq!(
                serde_json::from_value::<HookSettings>(stored).unwrap(),
                settings
            );
            let text = setting.text(&settings).unwrap();
            let shown = match value.as_str() {
                Some(value) => text == value,
                None => text == "7" || text == "5s, 5m",
            };
            assert!(shown, "{}: {text}", setting.name);

            let mut removal = SettingsChange::default();
            setting.set(&mut removal, Value::Null).unwrap();
            settings.apply(removal);
            assert_eq!(setting.text(&settings), None, "{}", setting.name);
        }
    }

    #[test]
    fn each_setting_refuses_what_it_cannot_have() {
        for setting in HOOK_SETTINGS {
            let mut change = SettingsChange::default();
            for value in [json!("no such value"), json!(0), json!({})] {
                let error = setting.set(&mut change, value).unwrap_err();
                assert_eq!(error.field, setting.name);
                assert!(!error.why.is_empty());
            }
            assert!(change.is_empty(), "{}", setting.name);
        }
    }

    #[test]
    fn each_setting_is_documented_in_one_sentence() {
        for setting in HOOK_SETTINGS {
            let HookSetting {
                name,
                summary,
                default,
                ..
            } = setting;
            assert!(summary.len() > 20 && !summary.ends_with('.'), "{name}");
            assert!(!default.is_empty(), "{name}");
        }
    }

    #[test]
    fn settings_are_stored_as_they_always_were() {
        let text = |settings: &HookSettings| serde_json::to_string(settings).unwrap();
        assert_eq!(
            text(&HookSettings::default()),
            r#"{"body":"envelope"}"#,
            "the body is always written"
        );
        let settings: HookSettings = serde_json::from_str(r#"{"body":"payload","unknown":1}"#)
            .expect("settings of a later version are read");
        assert_eq!(settings.body, BodyForm::Payload);
    }

    #[test]
    fn what_happens_behind_a_failure_goes_with_the_order() {
        let change = |ordered, on_failure| SettingsChange {
            ordered,
            on_failure,
            ..SettingsChange::default()
        };
        let mut settings = HookSettings::default();
        assert_eq!(settings.after_failure(), None);
        settings.apply(change(None, Some(Some(OnFailure::Skip))));
        assert_eq!(
            settings.check(),
            Err(refused(
                "on_failure",
                "needs an ordered hook: set ordered to key too"
            ))
        );
        settings.apply(change(Some(Some(Ordered::Key)), None));
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.after_failure(), Some(OnFailure::Skip));
        assert!(settings.is_limited(), "one worker owns it");
        settings.apply(change(None, Some(None)));
        assert_eq!(settings.after_failure(), Some(OnFailure::Hold));
        settings.apply(change(None, Some(Some(OnFailure::Skip))));
        settings.apply(change(Some(None), None));
        assert_eq!(settings, HookSettings::default());
    }

    #[test]
    fn a_change_sets_what_it_names_and_nothing_else() {
        let mut settings = HookSettings {
            filter: "a == 1".parse().ok(),
            ..HookSettings::default()
        };
        settings.apply(SettingsChange {
            in_flight: Some(Some(8)),
            rate: Some("20/s".parse().ok()),
            ..SettingsChange::default()
        });
        assert!(settings.is_limited());
        let taken_back = SettingsChange {
            in_flight: Some(None),
            ..SettingsChange::default()
        };
        assert!(SettingsChange::default().is_empty() && !taken_back.is_empty());
        settings.apply(taken_back);
        assert_eq!(
            (settings.in_flight, settings.rate),
            (None, "20/s".parse().ok())
        );
        assert_eq!(settings.filter, "a == 1".parse().ok());
        settings.in_flight = Some(0);
        let zero = refused("in_flight", "must be at least 1");
        assert_eq!(settings.check(), Err(zero));
    }
}
