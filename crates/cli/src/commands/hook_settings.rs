//! The flags of `hook add` and `hook change` that set a hook's settings: one for each setting.

use clap::builder::Str;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use postrider_core::{HOOK_SETTINGS, HookSetting, SettingForm, SettingsChange};
use serde_json::{Value, json};

/// The settings that the flags name.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(pub SettingsChange);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command
            .next_help_heading("Settings (`none` removes what the hook had set)")
            .args(HOOK_SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for setting in HOOK_SETTINGS {
            if let Some(value) = matches.get_one::<Value>(setting.name) {
                let set = setting.set(&mut self.0, value.clone());
                set.map_err(|error| Error::raw(ErrorKind::ValueValidation, error))?;
            }
        }
        Ok(())
    }
}

fn flag(setting: &'static HookSetting) -> Arg {
    Arg::new(setting.name)
        .long(Str::from(setting.name.replace('_', "-")))
        .value_name(Str::from(value_name(setting)))
        .value_parser(|text: &str| value(setting, text))
        .help(format!(
            "{}; unless set: {}",
            setting.summary, setting.default
        ))
}

fn value_name(setting: &HookSetting) -> String {
    match setting.form {
        SettingForm::Count => "N".into(),
        SettingForm::Duration => "DURATION".into(),
        SettingForm::Durations => "DURATIONS".into(),
        SettingForm::Rate => "RATE".into(),
        SettingForm::Condition => "CONDITION".into(),
        SettingForm::Choice(words) if setting.unset_word == "none" => words.join("|"),
        SettingForm::Choice(words) => format!("{}|{}", words.join("|"), setting.unset_word),
    }
}

/// The value that `text` denotes, checked.
fn value(setting: &HookSetting, text: &str) -> Result<Value, String> {
    if text == "none" || text == setting.unset_word {
        return Ok(Value::Null);
    }
    let value = match setting.form {
        SettingForm::Count => text
            .parse::<u32>()
            .map_or_else(|_| json!(text), Value::from),
        SettingForm::Durations => text.split(',').collect(),
        _ => json!(text),
    };
    match setting.set(&mut SettingsChange::default(), value.clone()) {
        Ok(()) => Ok(value),
        Err(error) => Err(format!("{}; or write {}", error.why, setting.unset_word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, text: &str) -> Result<Value, String> {
        let setting = HOOK_SETTINGS.iter().find(|setting| setting.name == name);
        value(setting.expect("a setting"), text)
    }

    #[test]
    fn a_limit_is_a_value_or_none() {
        assert_eq!(parsed("in_flight", "8"), Ok(json!(8)));
        assert_eq!(parsed("in_flight", "none"), Ok(Value::Null));
        for text in ["0", "many", "-1", "off"] {
            assert!(parsed("in_flight", text).is_err(), "{text}");
        }
        assert_eq!(parsed("rate", "20/s"), Ok(json!("20/s")));
        assert!(parsed("rate", "20").unwrap_err().contains("\"20/s\""));
    }

    #[test]
    fn an_order_is_by_key_or_off() {
        assert_eq!(parsed("ordered", "key"), Ok(json!("key")));
        assert_eq!(parsed("ordered", "off"), Ok(Value::Null));
        let error = parsed("ordered", "seq").unwrap_err();
        assert_eq!(error, "must be key; or write off");
        assert_eq!(parsed("on_failure", "hold"), Ok(json!("hold")));
        assert_eq!(parsed("on_failure", "skip"), Ok(json!("skip")));
        let error = parsed("on_failure", "wait").unwrap_err();
        assert_eq!(error, "must be hold or skip; or write none");
    }

    #[test]
    fn waits_are_divided_by_commas() {
        let waits = parsed("retry_schedule", "10s,1m");
        assert_eq!(waits, Ok(json!(["10s", "1m"])));
        for text in ["", "10s,", "soon"] {
            assert!(parsed("retry_schedule", text).is_err(), "{text}");
        }
    }
}
