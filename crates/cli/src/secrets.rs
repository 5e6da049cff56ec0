//! The keys that seal stored secrets: from the configuration, or from a file beside the database.
//!
//! The file is created when it is first needed, readable by its owner only, and never overwritten:
//! secrets sealed with a lost key cannot be opened again.

use crate::config::{Settings, sqlite_file};
use crate::failure::{Misuse, Result};
use crate::output::notice;
use anyhow::Context;
use postrider_core::{KeyRing, SealError};
use postrider_store::Backend;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Whether a command needs a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It neither stores nor uses secrets, and works without a key.
    Nothing,
    /// It stores or uses secrets, and is refused without a key.
    Secrets,
}

/// The keys for the configured database. With [`Need::Secrets`] and no key, a key file is created
/// for SQLite.
///
/// # Errors
/// [`Misuse`] with [`Need::Secrets`] and no key for PostgreSQL; other errors for an unreadable file.
pub fn key_ring(settings: &Settings, need: Need) -> Result<KeyRing> {
    let configured = &settings.secrets;
    let file = key_file(settings)?;
    let mut keys: Vec<String> = configured.key.iter().cloned().collect();
    if let Some(path) = &file {
        let create = need == Need::Secrets && keys.is_empty();
        keys.extend(read_or_create(path, create)?);
    }
    if keys.is_empty() && need == Need::Secrets {
        return Err(Misuse::new(SealError::NoKey.to_string()));
    }
    keys.extend(configured.previous_keys.iter().cloned());
    KeyRing::new(keys.iter().map(String::as_str)).map_err(|error| match &file {
        // The configured keys were checked before.
        Some(path) => anyhow::anyhow!(
            "the key file {} does not hold a key (32 bytes in base64): restore it from a backup; \
             without it the stored secrets cannot be opened",
            path.display()
        ),
        None => Misuse::new(error.to_string()),
    })
}

/// Whether [`key_ring`] would create SQLite's key file.
pub fn would_create_key_file(settings: &Settings, need: Need) -> Result<bool> {
    let missing = key_file(settings)?.is_some_and(|path| !path.exists());
    Ok(missing && need == Need::Secrets && settings.secrets.key.is_none())
}

/// The path of SQLite's key file, whether or not it exists; `None` for other databases.
pub fn key_file(settings: &Settings) -> Result<Option<PathBuf>> {
    Ok(match settings.backend()? {
        Backend::Postgres => None,
        Backend::Sqlite => sqlite_file(&settings.database.url).map(|mut path| {
            path.as_mut_os_string().push(".key");
            path
        }),
    })
}

fn read_or_create(path: &Path, create: bool) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(key) => return Ok(Some(key.trim().to_owned())),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        Err(_) if !create => return Ok(None),
        Err(_) => {}
    }
    if create_file(path)
        .with_context(|| format!("cannot create the key file {}", path.display()))?
    {
        notice(format_args!(
            "Created {}: it opens the stored secrets, so keep a backup of it with the database.",
            path.display()
        ));
    }
    // Read it again: another process may have created it first.
    let key =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(key.trim().to_owned()))
}

/// Creates the file with a new key, atomically; `false` when it exists already.
fn create_file(path: &Path) -> std::io::Result<bool> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Temporary files are readable by their owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", KeyRing::generate_key())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn settings(url: &str) -> Settings {
        let mut settings = Settings::default();
        settings.database.url = url.into();
        settings
    }

    #[test]
    fn sqlite_creates_its_key_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let settings = settings(&format!("sqlite://{}", database.display()));
        assert!(key_ring(&settings, Need::Nothing).unwrap().is_empty());
        let created = key_ring(&settings, Need::Secrets).unwrap();
        let sealed = created.seal("hook", Uuid::nil(), b"secret").unwrap();
        let read = key_ring(&settings, Need::Nothing).unwrap();
        assert_eq!(read.open("hook", Uuid::nil(), &sealed).unwrap(), b"secret");
        let mode = std::fs::metadata(folder.path().join("a.db.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn many_processes_at_once_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db.key");
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(create_file(&path).unwrap())))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
        assert!(read_or_create(&path, false).unwrap().is_some());
    }

    #[test]
    fn a_configured_key_seals_and_the_file_still_opens() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let mut settings = settings(&url);
        let from_file = key_ring(&settings, Need::Secrets).unwrap();
        let old = from_file.seal("hook", Uuid::nil(), b"old").unwrap();
        settings.secrets.key = Some(KeyRing::generate_key());
        let both = key_ring(&settings, Need::Secrets).unwrap();
        assert_eq!(both.open("hook", Uuid::nil(), &old).unwrap(), b"old");
        let new = both.seal("hook", Uuid::nil(), b"new").unwrap();
        assert!(from_file.open("hook", Uuid::nil(), &new).is_err());
    }

    #[test]
    fn postgres_without_a_key_is_refused_where_secrets_are_needed() {
        let settings = settings("postgres://localhost/a");
        assert!(key_ring(&settings, Need::Nothing).unwrap().is_empty());
        let refused = key_ring(&settings, Need::Secrets).unwrap_err();
        assert!(refused.to_string().contains("POSTRIDER_SECRETS__KEY"));
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        std::fs::write(folder.path().join("a.db.key"), "").unwrap();
        let refused = key_ring(&settings(&url), Need::Secrets).unwrap_err();
        assert!(refused.to_string().contains("a.db.key does not hold a key"));
    }
}
