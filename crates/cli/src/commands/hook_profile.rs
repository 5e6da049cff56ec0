//! The arguments of `hook add` that depend on the profile: its secret and its own settings.

use super::value_parsers::{signing_secret, text_argument};
use crate::failure::{Misuse, Result};
use postrider_compat::SystemSettings;
use postrider_core::{BasicAuth, HookCredentials, sha1_hex};
use postrider_worker::{Profile, Profiles, SecretUse, SettingValues};
use serde_json::{Map, Value};

/// The profiles that a hook can have. What depends on the configuration has its default.
pub(super) fn profiles() -> Profiles {
    SystemSettings::default().profiles("localhost")
}

/// The credentials of a hook of this profile, from the argument `--secret`.
pub(super) fn credentials(profile: &Profile, secret: Option<&str>) -> Result<HookCredentials> {
    if profile.secret == SecretUse::Signs {
        return Ok(HookCredentials::signed_with(signing_secret(secret)?));
    }
    let Some(secret) = secret else {
        return Ok(HookCredentials::default());
    };
    // A file ends with a line break that is not part of the secret.
    let text = text_argument(secret)?;
    let text = text.trim_end_matches(['\r', '\n']);
    let token = match profile.secret {
        SecretUse::SentAsSha1 => sha1_hex(text),
        SecretUse::Sent => text.to_owned(),
        SecretUse::Signs | SecretUse::None => {
            return Err(Misuse::new(format!(
                "hooks of the profile {} have no secret; use --basic USER:PASSWORD",
                profile.name
            )));
        }
    };
    Ok(HookCredentials {
        token: Some(token).filter(|token| !token.is_empty()),
        ..HookCredentials::default()
    })
}

/// Parses `USER:PASSWORD`. Errors do not repeat it.
pub(super) fn basic(argument: &str) -> Result<BasicAuth> {
    let text = text_argument(argument)?;
    match text.trim_end_matches(['\r', '\n']).split_once(':') {
        Some((user, password)) => Ok(BasicAuth {
            user: user.into(),
            password: password.into(),
        }),
        None => Err(Misuse::new("--basic takes USER:PASSWORD")),
    }
}

/// The settings of `--set`, checked against those of the profile.
pub(super) fn settings(profile: &Profile, set: &[String]) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for text in set {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Misuse::new(
                "--set takes NAME=VALUE, such as --set format=json",
            ));
        };
        let known = profile.settings.iter().find(|known| known.name == name);
        let Some(known) = known else {
            let names: Vec<_> = profile.settings.iter().map(|known| known.name).collect();
            let profile = profile.name;
            let settings = match names.is_empty() {
                true => format!("the profile {profile} has no settings"),
                false => format!(
                    "the settings of the profile {profile} are {}",
                    names.join(", ")
                ),
            };
            return Err(Misuse::new(format!("--set {name}: {settings}")));
        };
        if let Some(instead) = objection(known.values, value) {
            return Err(Misuse::new(format!(
                "--set {name}={value}: write {instead}"
            )));
        }
        settings.insert(name.into(), value.into());
    }
    Ok(settings)
}

/// What to write instead of `value`; `None` if the setting accepts it.
fn objection(values: SettingValues, value: &str) -> Option<String> {
    match values {
        SettingValues::Text => None,
        SettingValues::OneOf(all) => (!all.contains(&value)).then(|| all.join(" or ")),
        SettingValues::Count { most } => {
            let count = value.parse().is_ok_and(|count| (1..=most).contains(&count));
            (!count).then(|| format!("a number from 1 to {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn profile(name: &str) -> Arc<Profile> {
        profiles().named(name).unwrap().clone()
    }

    #[test]
    fn each_profile_uses_the_secret_in_its_own_way() {
        let token = |name, secret| credentials(&profile(name), secret).unwrap().token;
        assert_eq!(
            token("solapi", Some("secretKey")).unwrap(),
            "ee1b507610b2d8c366ece22a8d89c6487c710db5"
        );
        assert_eq!(token("misskey", Some("s3cr3t")).unwrap(), "s3cr3t");
        assert_eq!(token("misskey", Some("")), None);
        assert_eq!(token("solapi", None), None);
        assert!(credentials(&profile("thulium"), Some("x")).is_err());
        let standard = credentials(&profile("standard"), None).unwrap();
        assert_eq!((standard.secrets.len(), standard.token), (1, None));
    }

    #[test]
    fn basic_credentials_are_split_at_the_first_colon() {
        let basic_of = |text| basic(text).map(|basic| (basic.user, basic.password));
        assert_eq!(basic_of("u:p:q").unwrap(), ("u".into(), "p:q".into()));
        assert_eq!(basic_of(":p").unwrap(), (String::new(), "p".into()));
        let problem = basic_of("hunter2").unwrap_err().to_string();
        assert!(!problem.contains("hunter2"));
    }

    #[test]
    fn only_settings_of_the_profile_can_be_set() {
        let set = |name, text: &str| settings(&profile(name), &[text.to_owned()]);
        let format = set("solapi", "format=envelope").unwrap();
        assert_eq!(format.get("format"), Some(&Value::from("envelope")));
        assert!(set("misskey", "name=a=b").is_ok());
        assert!(set("solapi", "batch=100").is_ok());
        for (name, text, expected) in [
            ("solapi", "format=xml", "flat or envelope"),
            ("solapi", "colour=red", "format, batch, event_id, name"),
            ("solapi", "batch=0", "a number from 1 to 100"),
            ("solapi", "batch=101", "a number from 1 to 100"),
            (
                "standard",
                "format=flat",
                "the profile standard has no settings",
            ),
            ("thulium", "format", "NAME=VALUE"),
        ] {
            let problem = set(name, text).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
