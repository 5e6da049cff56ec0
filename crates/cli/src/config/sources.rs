//! The sources of settings, and how they override each other.

use super::Settings;
use super::known_keys::KnownKeys;
use crate::failure::{Misuse, Result};
use crate::output::notice;
use config::{Config, ConfigError, Environment, File, FileFormat};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const PREFIX: &str = "POSTRIDER_";
const BETWEEN_SECTION_AND_KEY: &str = "__";
const FROM_FILE: &str = "_FILE";

/// The configuration file.
#[derive(Clone, Debug)]
pub enum ConfigFile {
    /// A file that must exist.
    Named(PathBuf),
    /// A file that may be missing.
    IfPresent(PathBuf),
}

/// The sources of settings, passed in so that a test can provide them.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file, in TOML.
    pub file: ConfigFile,
    /// Environment variables: names and values.
    pub environment: Vec<(String, String)>,
    /// The value of `--database`, which overrides `database.url`.
    pub database: Option<String>,
}

/// Reads, checks and combines the sources.
pub fn load(sources: &Sources) -> Result<Settings> {
    let known = KnownKeys::new();
    let mut builder = Config::builder();
    if let Some((name, text)) = read_file(&sources.file)? {
        check_file(&known, &name, &text)?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let environment = read_environment(&known, &sources.environment)?;
    builder = builder.add_source(
        Environment::with_prefix("POSTRIDER")
            .prefix_separator("_")
            .separator(BETWEEN_SECTION_AND_KEY)
            .source(Some(environment.plain)),
    );
    let overrides = environment.lists.into_iter().map(|(path, list)| {
        let list: config::Value = list.into();
        (path, list)
    });
    let database = sources.database.clone().map(|url| {
        let url: config::Value = url.into();
        ("database.url".to_owned(), url)
    });
    for (path, value) in overrides.chain(database) {
        builder = builder.set_override(path, value).map_err(unusable)?;
    }
    let config = builder.build().map_err(unusable)?;
    let settings = Settings::read(config).map_err(unusable)?;
    settings.check()?;
    Ok(settings)
}

/// The error for a key that cannot be used. It does not repeat values that may hold a secret.
fn unusable(error: ConfigError) -> anyhow::Error {
    let (key, why) = match error {
        ConfigError::At {
            key: Some(key),
            error,
            ..
        } => (key, error.to_string()),
        ConfigError::Type {
            key: Some(key),
            expected,
            unexpected,
            ..
        } => (key, format!("{unexpected} is not {expected}")),
        other => return Misuse::new(format!("the configuration cannot be used: {other}")),
    };
    if key.starts_with("secrets.") || key.starts_with("database.") {
        return Misuse::new(format!(
            "{key}: the value has the wrong type: previous_keys takes a list of strings, the \
             others take a string"
        ));
    }
    let hint = match key.starts_with("worker.allow_addresses") {
        true => "; write networks, such as 127.0.0.0/8 or 10.1.2.3/32",
        false => "",
    };
    Misuse::new(format!("{key}: {why}{hint}"))
}

fn read_file(file: &ConfigFile) -> Result<Option<(String, String)>> {
    let (path, required) = match file {
        ConfigFile::Named(path) => (path, true),
        ConfigFile::IfPresent(path) => (path, false),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == ErrorKind::NotFound && !required => Ok(None),
        Err(error) if is_out_of_sight(path, &error) && !required => {
            notice(format!(
                "The working folder cannot be entered, so {} is not looked for there: name the \
                 file if there is one.",
                path.display()
            ));
            Ok(None)
        }
        Err(error) => Err(Misuse::new(format!(
            "the configuration file {} cannot be read: {error}",
            path.display()
        ))),
    }
}

/// Whether this user cannot learn if the file exists, because it may not enter the folder: as in an
/// image that runs as a user it was not made for. A file that is there and may not be read is
/// something else.
fn is_out_of_sight(path: &Path, error: &std::io::Error) -> bool {
    let looked = std::fs::symlink_metadata(path);
    error.kind() == ErrorKind::PermissionDenied
        && looked.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// Refuses a file that is not TOML or has unknown keys. The error does not repeat the line, which
/// may hold a secret.
fn check_file(known: &KnownKeys, name: &str, text: &str) -> Result<()> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        Misuse::new(format!(
            "{name}, line {line}: not valid TOML: {}",
            error.message().trim()
        ))
    })?;
    for (section, keys) in &table {
        known.check_section(name, section)?;
        let Some(keys) = keys.as_table() else {
            return Err(Misuse::new(format!(
                "{name}: \"{section}\" is a section: write its keys under [{section}]"
            )));
        };
        for key in keys.keys() {
            known.check_key(name, section, key)?;
        }
    }
    Ok(())
}

/// The settings in the environment: plain values by variable name, lists by path.
#[derive(Default)]
struct FromEnvironment {
    plain: HashMap<String, String>,
    lists: Vec<(String, Vec<String>)>,
}

fn read_environment(known: &KnownKeys, variables: &[(String, String)]) -> Result<FromEnvironment> {
    let mut read = FromEnvironment::default();
    let mut named: HashMap<String, &str> = HashMap::new();
    for (name, value) in variables {
        refuse_single_underscore(known, name)?;
        let Some(variable) = Variable::parse(known, name)? else {
            continue;
        };
        let path = variable.path();
        if let Some(other) = named.insert(path.clone(), name) {
            return Err(Misuse::new(format!(
                "{other} and {name} are both set: keep one of them"
            )));
        }
        let value = match variable.from_file {
            true => read_value(name, Path::new(value))?,
            false => value.clone(),
        };
        if known.is_list(&variable.section, &variable.key) {
            let entries = value.split(',').map(str::trim).filter(|e| !e.is_empty());
            read.lists
                .push((path, entries.map(str::to_owned).collect()));
        } else if !value.is_empty() {
            // Compose files and shells write an empty variable for one that is not set.
            read.plain.insert(variable.plain_name(), value);
        }
    }
    let shared = variables
        .iter()
        .find(|(name, value)| name == "DATABASE_URL" && !value.is_empty());
    if let Some((_, url)) = shared {
        let name = format!("{PREFIX}DATABASE{BETWEEN_SECTION_AND_KEY}URL");
        read.plain.entry(name).or_insert_with(|| url.clone());
    }
    Ok(read)
}

/// A variable that names a setting.
struct Variable {
    section: String,
    key: String,
    from_file: bool,
}

impl Variable {
    /// `None` when the name is not of the form `POSTRIDER_SECTION__KEY`.
    fn parse(known: &KnownKeys, name: &str) -> Result<Option<Self>> {
        let Some((section, key)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once(BETWEEN_SECTION_AND_KEY))
        else {
            return Ok(None);
        };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let stem = key.strip_suffix(&FROM_FILE.to_lowercase());
        if let Some(stem) = stem.filter(|stem| known.has(&section, stem)) {
            return Ok(Some(Self {
                key: stem.into(),
                section,
                from_file: true,
            }));
        }
        known.check_key(&format!("environment variable {name}"), &section, &key)?;
        Ok(Some(Self {
            section,
            key,
            from_file: false,
        }))
    }

    fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    fn plain_name(&self) -> String {
        let between = BETWEEN_SECTION_AND_KEY;
        format!("{PREFIX}{}{between}{}", self.section, self.key).to_uppercase()
    }
}

/// Refuses names such as `POSTRIDER_DATABASE_URL`, which would be ignored and are an easy mistake.
/// Other names with one underscore are ignored, because container platforms define some.
fn refuse_single_underscore(known: &KnownKeys, name: &str) -> Result<()> {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Ok(());
    };
    let plain = rest.to_lowercase();
    let plain = plain.strip_suffix("_file").unwrap_or(&plain);
    match known.paths().find(|path| path.replace('.', "_") == plain) {
        Some(path) => Err(Misuse::new(format!(
            "environment variable {name}: section and key are joined by two underscores; write \
             {PREFIX}{}",
            path.replace('.', BETWEEN_SECTION_AND_KEY).to_uppercase()
        ))),
        None => Ok(()),
    }
}

fn read_value(name: &str, path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(Misuse::new(format!(
            "environment variable {name}: the file {} cannot be read: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::Span;

    struct Case(Sources, tempfile::TempDir);

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let sources = Sources {
                file: ConfigFile::IfPresent(folder.path().join("postrider.toml")),
                environment: Vec::new(),
                database: None,
            };
            Self(sources, folder)
        }

        fn file(self, text: &str) -> Self {
            std::fs::write(self.1.path().join("postrider.toml"), text).unwrap();
            self
        }

        fn env(mut self, name: &str, value: &str) -> Self {
            self.0.environment.push((name.into(), value.into()));
            self
        }

        fn env_file(self, name: &str, text: &str) -> Self {
            let path = self.1.path().join(name);
            std::fs::write(&path, text).unwrap();
            let path = path.display().to_string();
            self.env(name, &path)
        }

        fn database(mut self, url: &str) -> Self {
            self.0.database = Some(url.into());
            self
        }

        fn load(&self) -> Settings {
            load(&self.0).map_err(|error| error.to_string()).unwrap()
        }

        fn problem(&self) -> String {
            match load(&self.0) {
                Ok(_) => panic!("the configuration was accepted"),
                Err(error) => error.to_string(),
            }
        }
    }

    #[test]
    fn without_any_source_the_defaults_apply() {
        let settings = Case::new().load();
        assert_eq!(settings.database.url, "sqlite://postrider.db");
        assert_eq!(settings.worker.concurrency, 256);
    }

    #[test]
    fn later_sources_win() {
        let case = Case::new().file("[database]\nurl = \"sqlite://file.db\"");
        assert_eq!(case.load().database.url, "sqlite://file.db");
        let case = case.env("DATABASE_URL", "sqlite://shared.db");
        assert_eq!(case.load().database.url, "sqlite://shared.db");
        let case = case.env("POSTRIDER_DATABASE__URL", "sqlite://own.db");
        assert_eq!(case.load().database.url, "sqlite://own.db");
        let case = case.database("sqlite://flag.db");
        assert_eq!(case.load().database.url, "sqlite://flag.db");
    }

    #[test]
    fn the_environment_holds_strings_and_comma_separated_lists() {
        let settings = Case::new()
            .env("POSTRIDER_WORKER__CONCURRENCY", "12")
            .env("POSTRIDER_WORKER__REQUEST_TIMEOUT", "3s")
            .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.0/8, ::1/128")
            .env("POSTRIDER_HOOKS__RETRY_SCHEDULE", "1s")
            .env("POSTRIDER_SECRETS__KEY", "")
            .load();
        assert_eq!(settings.worker.concurrency, 12);
        assert_eq!(settings.worker.request_timeout, Span::secs(3));
        assert_eq!(settings.worker.allow_addresses.len(), 2);
        assert_eq!(settings.hooks.retry_schedule.delays(), [Span::secs(1)]);
        assert!(settings.secrets.key.is_none());
    }

    #[test]
    fn an_empty_list_in_the_environment_empties_the_list() {
        let case = Case::new()
            .file("[worker]\nallow_addresses = [\"10.0.0.0/8\"]")
            .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "");
        assert!(case.load().worker.allow_addresses.is_empty());
    }

    #[test]
    fn a_value_can_be_read_from_a_file() {
        let key = postrider_core::KeyRing::generate_key();
        let case = Case::new().env_file("POSTRIDER_SECRETS__KEY_FILE", &format!("{key}\n"));
        assert_eq!(case.load().secrets.key.as_deref(), Some(key.as_str()));
        let case = case.env("POSTRIDER_SECRETS__KEY", &key);
        assert_eq!(
            case.problem(),
            "POSTRIDER_SECRETS__KEY_FILE and POSTRIDER_SECRETS__KEY are both set: keep one of them"
        );
        let case = Case::new().env("POSTRIDER_SECRETS__KEY_FILE", "/nowhere/key");
        assert!(case.problem().contains("/nowhere/key cannot be read"));
    }

    #[test]
    fn unknown_keys_are_refused_in_every_source() {
        let table = [
            (
                Case::new().file("[worker]\nconcurency = 3"),
                "unknown key \"worker.concurency\"; did you mean \"worker.concurrency\"?",
            ),
            (
                Case::new().file("concurrency = 3"),
                "unknown section \"concurrency\"; it is a key: write it under [worker]",
            ),
            (
                Case::new().file("worker = 3"),
                "write its keys under [worker]",
            ),
            (
                Case::new().env("POSTRIDER_WORKERS__LEASE", "60s"),
                "environment variable POSTRIDER_WORKERS__LEASE: unknown section \"workers\"",
            ),
            (
                Case::new().env("POSTRIDER_DATABASE_URL", "sqlite://a.db"),
                "write POSTRIDER_DATABASE__URL",
            ),
        ];
        for (case, expected) in table {
            let problem = case.problem();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn variables_that_are_not_settings_are_ignored() {
        // Those of Kubernetes for services that are called postrider, postrider-api and
        // postrider-metrics.
        Case::new()
            .env("POSTRIDER_LOG", "debug")
            .env("POSTRIDER_PORT", "tcp://10.0.0.1:80")
            .env("POSTRIDER_PORT_80_TCP", "tcp://10.0.0.1:80")
            .env("POSTRIDER_PORT_80_TCP_ADDR", "10.0.0.1")
            .env("POSTRIDER_SERVICE_HOST", "10.0.0.1")
            .env("POSTRIDER_SERVICE_PORT_HTTP", "80")
            .env("POSTRIDER_API_PORT", "tcp://10.0.0.2:8080")
            .env("POSTRIDER_API_SERVICE_HOST", "10.0.0.2")
            .env("POSTRIDER_METRICS_PORT_9464_TCP", "tcp://10.0.0.3:9464")
            .load();
    }

    #[test]
    fn values_that_cannot_be_used_name_their_key() {
        let table = [
            (
                Case::new().file("[worker]\nlease = \"soon\""),
                "worker.lease",
            ),
            (
                Case::new().env("POSTRIDER_WORKER__CONCURRENCY", "many"),
                "worker.concurrency",
            ),
            (
                Case::new().env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.1/99"),
                "worker.allow_addresses",
            ),
            (
                Case::new().database("mysql://root@localhost/a"),
                "must begin with sqlite:// or postgres://",
            ),
            (
                Case::new().env("POSTRIDER_SECRETS__KEY", "c2hvcnQ="),
                "secrets.key must be 32 random bytes",
            ),
        ];
        for (case, expected) in table {
            let problem = case.problem();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_repeated() {
        let problem = Case::new()
            .file("[secrets]\nprevious_keys = \"hunter2\"")
            .problem();
        assert!(problem.starts_with("secrets.previous_keys: "), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn contradictions_are_refused() {
        let lease = Case::new().env("POSTRIDER_WORKER__LEASE", "15s").problem();
        assert!(lease.contains("raise worker.lease"), "{lease}");
        let ports = Case::new()
            .file("[api]\nlisten = \"127.0.0.1:9464\"")
            .problem();
        assert!(ports.contains("give one of them another port"), "{ports}");
    }

    #[test]
    fn a_broken_file_is_named_with_its_line_but_not_its_text() {
        let problem = Case::new()
            .file("[secrets]\nkey = \"hunter2\nurl = 1")
            .problem();
        assert!(problem.contains("postrider.toml, line 2"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn a_named_file_must_exist() {
        let mut case = Case::new();
        case.0.file = ConfigFile::Named("/nowhere/postrider.toml".into());
        assert!(case.problem().contains("/nowhere/postrider.toml"));
    }
}
