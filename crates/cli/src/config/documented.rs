//! The documents give each default as the code does.

use super::Settings;
use super::known_keys::KnownKeys;
use postrider_core::Span;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use toml::Table;

const EXAMPLE: &str = include_str!("../../../../examples/postrider.toml");
const REFERENCE: &str = include_str!("../../../../docs/configuration.md");
const README: &str = include_str!("../../../../README.md");

/// What each setting of the example file is set to, by `section.key`, and whether the line is
/// commented out.
fn example() -> Vec<(String, toml::Value, bool)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        let setting = line.strip_prefix("# ").unwrap_or(line);
        // Prose is no TOML.
        let Ok(table) = setting.parse::<Table>() else {
            continue;
        };
        for (key, value) in table.into_iter().filter(|(_, value)| !value.is_table()) {
            found.push((format!("{section}.{key}"), value, setting != line));
        }
    }
    found
}

/// The rows of the tables of `docs/configuration.md`: `section.key` and the other cells.
fn reference() -> BTreeMap<String, Vec<&'static str>> {
    let mut section = "";
    let mut found = BTreeMap::new();
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim_matches(['`', '[', ']']);
        }
        let Some(row) = line.strip_prefix("| `") else {
            continue;
        };
        let (key, cells) = row.split_once("` | ").expect("a key and its cells");
        let path = match key.contains('.') {
            true => key.to_owned(),
            false => format!("{section}.{key}"),
        };
        let cells = cells.trim_end_matches('|').split(" | ").map(str::trim);
        let twice = found.insert(path, cells.collect());
        assert!(twice.is_none(), "{key} is documented twice");
    }
    found
}

/// The settings when nothing but this one is set.
fn settings_with(path: &str, value: toml::Value) -> Settings {
    let (section, key) = path.split_once('.').expect("a section and a key");
    let section = Table::from_iter([(
        section.to_owned(),
        Table::from_iter([(key.to_owned(), value)]).into(),
    )]);
    let settings = Settings::read(toml::Value::from(section));
    settings.unwrap_or_else(|error| panic!("{path} cannot be set so: {error}"))
}

fn json(settings: &Settings) -> Value {
    serde_json::to_value(settings).expect("settings as JSON")
}

fn default_of(path: &str) -> Value {
    let (section, key) = path.split_once('.').expect("a section and a key");
    json(&Settings::default())[section][key].clone()
}

fn known() -> BTreeSet<String> {
    KnownKeys::new().paths().collect()
}

#[test]
fn the_example_sets_every_key_to_its_default() {
    let mut named = BTreeSet::new();
    for (path, value, commented_out) in example() {
        let settings = settings_with(&path, value);
        if commented_out {
            assert!(
                default_of(&path).is_null() || named.contains(&path),
                "{path} has a default: its line is not to be commented out"
            );
        } else {
            assert_eq!(json(&settings), json(&Settings::default()), "{path}");
        }
        named.insert(path);
    }
    assert_eq!(named, known());
}

#[test]
fn the_reference_documents_every_key_with_its_default_and_its_variable() {
    let documented = reference();
    for (path, cells) in &documented {
        let [default, variable, _] = cells[..] else {
            panic!("{path}: its row needs a default, a variable and a rule");
        };
        if default.starts_with("none") {
            assert_eq!(default_of(path), Value::Null, "{path}");
        } else {
            let value = format!("value = {}", default.trim_matches('`'));
            let value = value
                .parse::<Table>()
                .map(|mut table| table.remove("value"));
            let value = value.ok().flatten();
            let value = value.unwrap_or_else(|| panic!("{path}: {default} is no value"));
            let settings = json(&settings_with(path, value));
            assert_eq!(settings, json(&Settings::default()), "{path}");
        }
        let name = format!("`POSTRIDER_{}`", path.replace('.', "__").to_uppercase());
        assert!(variable.contains(&name), "{path} has no {name}");
    }
    assert_eq!(documented.into_keys().collect::<BTreeSet<_>>(), known());
}

#[test]
fn the_table_of_the_readme_has_the_defaults() {
    let mut keys = BTreeSet::new();
    let mut sections = BTreeSet::new();
    for row in README.lines().filter_map(|line| line.strip_prefix("| `[")) {
        let cells: Vec<_> = row.trim_end_matches(" |").split(" | ").collect();
        let [section, names, defaults] = cells[..] else {
            panic!("{row}: a section, its keys and their defaults are wanted");
        };
        let section = section.trim_end_matches("]`");
        let names: Vec<_> = names
            .split(", ")
            .map(|name| name.trim_matches('`'))
            .collect();
        let defaults: Vec<_> = defaults.split(", ").collect();
        assert_eq!(names.len(), defaults.len(), "[{section}]: {defaults:?}");
        for (name, shown) in names.into_iter().zip(defaults) {
            let path = format!("{section}.{name}");
            let default = default_of(&path);
            assert!(
                is_shown_as(&default, shown),
                "{path}: {shown}, not {default}"
            );
            keys.insert(path);
        }
        sections.insert(section);
    }
    let of_these = known().into_iter().filter(|path| {
        let section = path.split('.').next().unwrap_or_default();
        sections.contains(section)
    });
    assert_eq!(keys, of_these.collect());
}

/// Whether a table for people shows `value` as `text`: `60 s`, `50,000/s`, `none`, `5 s to 24 h in
/// nine waits`.
fn is_shown_as(value: &Value, text: &str) -> bool {
    let plain = text.trim_matches('`').replace(',', "");
    let span = |text: &str| text.parse::<Span>().ok();
    match value {
        Value::Null => plain.starts_with("none"),
        Value::Array(values) => match (values.first(), values.last()) {
            (Some(first), Some(last)) => {
                let range = plain.strip_suffix(&format!(" in {} waits", word(values.len())));
                let range = range.and_then(|range| range.split_once(" to "));
                range.is_some_and(|(from, to)| is_shown_as(first, from) && is_shown_as(last, to))
            }
            _ => plain == "none",
        },
        Value::String(value) => {
            *value == plain || span(value).is_some_and(|value| span(&plain) == Some(value))
        }
        other => {
            let written = other.to_string();
            written == plain
        }
    }
}

fn word(number: usize) -> &'static str {
    let words = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    words.get(number).copied().unwrap_or("many")
}

#[test]
fn prose_names_the_defaults() {
    let Settings { worker, hooks, .. } = Settings::default();
    let (per_hook, timeout) = (worker.per_hook, worker.request_timeout.get().as_secs());
    let (failures, hours) = (
        hooks.disable_after_failures,
        hooks.disable_after.get().as_secs() / 3_600,
    );
    let minutes = hooks.back_off_max.get().as_secs() / 60;
    let deliveries = include_str!("../../../../docs/deliveries.md");
    for (document, text, sentence) in [
        (
            "README.md",
            README,
            format!(
                "up to {} requests in flight, and up to {per_hook} to one hook",
                worker.concurrency
            ),
        ),
        ("README.md", README, format!("within {timeout} seconds")),
        (
            "README.md",
            README,
            format!("{failures} failures in a row that span {hours} h"),
        ),
        (
            "docs/deliveries.md",
            deliveries,
            format!(
                "`hooks.back_off_after` times in a row ({};",
                hooks.back_off_after
            ),
        ),
        (
            "docs/deliveries.md",
            deliveries,
            format!("`hooks.back_off_max` ({minutes} min)"),
        ),
        (
            "docs/deliveries.md",
            deliveries,
            format!("`worker.per_hook` ({per_hook})"),
        ),
    ] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&sentence),
            "{document} does not say: {sentence}"
        );
    }
}
