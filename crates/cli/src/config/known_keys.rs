//! The sections and keys that exist, and the error for one that does not.

use super::Settings;
use crate::failure::{Misuse, Result};
use std::collections::BTreeMap;

/// The known keys by section, each with whether it holds a list.
pub struct KnownKeys(BTreeMap<String, BTreeMap<String, bool>>);

impl KnownKeys {
    /// The sections and keys of [`Settings`].
    pub fn new() -> Self {
        let keys = |section: &serde_json::Value| {
            let keys = section.as_object().into_iter().flatten();
            keys.map(|(key, default)| (key.clone(), default.is_array()))
                .collect()
        };
        let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
        let sections = defaults.as_object().into_iter().flatten();
        Self(
            sections
                .map(|(name, section)| (name.clone(), keys(section)))
                .collect(),
        )
    }

    /// Whether the section has the key.
    pub fn has(&self, section: &str, key: &str) -> bool {
        self.0
            .get(section)
            .is_some_and(|keys| keys.contains_key(key))
    }

    /// Whether the key holds a list, which is comma-separated in the environment.
    pub fn is_list(&self, section: &str, key: &str) -> bool {
        let keys = self.0.get(section);
        keys.and_then(|keys| keys.get(key))
            .copied()
            .unwrap_or_default()
    }

    /// All keys, as `section.key`.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}")))
    }

    /// Refuses an unknown section; `origin` names the file or variable.
    pub fn check_section(&self, origin: &str, section: &str) -> Result<()> {
        if self.0.contains_key(section) {
            return Ok(());
        }
        let homes: Vec<_> = self
            .0
            .keys()
            .filter(|home| self.has(home, section))
            .map(|home| format!("[{home}]"))
            .collect();
        let advice = match nearest(section, self.0.keys()) {
            _ if !homes.is_empty() => {
                format!("it is a key: write it under {}", homes.join(" or "))
            }
            Some(known) => format!("did you mean [{known}]?"),
            None => format!("the sections are {}", list(self.0.keys())),
        };
        Err(Misuse::new(format!(
            "{origin}: unknown section \"{section}\"; {advice}"
        )))
    }

    /// Refuses an unknown key or section; `origin` names the file or variable.
    pub fn check_key(&self, origin: &str, section: &str, key: &str) -> Result<()> {
        self.check_section(origin, section)?;
        if self.has(section, key) {
            return Ok(());
        }
        let keys = self.0.get(section).into_iter().flat_map(BTreeMap::keys);
        let advice = match nearest(key, keys.clone()) {
            Some(known) => format!("did you mean \"{section}.{known}\"?"),
            None if keys.clone().next().is_none() => format!("[{section}] has no keys"),
            None => format!("the keys of [{section}] are {}", list(keys)),
        };
        Err(Misuse::new(format!(
            "{origin}: unknown key \"{section}.{key}\"; {advice}"
        )))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The name most similar to `text`, if one is similar enough.
fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(text, name), name))
        .filter(|(likeness, _)| *likeness > 0.65)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(section: &str, key: &str) -> String {
        KnownKeys::new()
            .check_key("postrider.toml", section, key)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_or_with_all() {
        assert_eq!(
            problem("worker", "concurency"),
            "postrider.toml: unknown key \"worker.concurency\"; did you mean \"worker.concurrency\"?"
        );
        assert_eq!(
            problem("database", "pool_size"),
            "postrider.toml: unknown key \"database.pool_size\"; the keys of [database] are url"
        );
        assert!(problem("workers", "lease").ends_with("did you mean [worker]?"));
        assert!(problem("concurrency", "").ends_with("write it under [worker]"));
        assert!(problem("zebra", "x").contains("the sections are api, database, "));
        assert!(problem("thulium", "x").ends_with("[thulium] has no keys"));
    }
}
