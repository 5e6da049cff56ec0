//! A database for one test, dropped when the test ends.
//!
//! On PostgreSQL it is cloned from a template that is migrated once and lives as long as any test of
//! this process uses it. Names end at random, so that several test binaries can share a server.
//! On SQLite it is a file in a temporary folder.

use crate::{Connection, start};
use postrider_core::{KeyRing, LeaseToken};
use postrider_store::{Backend, DatabaseSettings, open};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The URL of a superuser of the server to test with.
const SERVER: &str = "POSTRIDER_TEST_POSTGRES";

/// The number of slots of the outbox on PostgreSQL.
const SLOTS: &str = "POSTRIDER_TEST_SLOTS";

/// A database for one test.
#[derive(Debug)]
pub struct TestDatabase {
    backend: Backend,
    url: String,
    _home: Home,
}

/// What is dropped when the test ends.
#[derive(Debug)]
enum Home {
    Server {
        _database: Dropped,
        _template: Option<Arc<Dropped>>,
    },
    Folder(TempDir),
    /// Whoever made it drops it.
    Elsewhere,
}

impl TestDatabase {
    /// A database with our tables. Its partitions begin with the day of [`start`].
    ///
    /// # Panics
    /// When there is no server, or migrating fails.
    pub async fn migrated(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => {
                let template = template().await;
                let database = create(&template.name).await;
                Self::on_server(database, Some(template))
            }
            Backend::Sqlite => {
                let database = Self::empty(backend).await;
                migrate(&database.url).await;
                database
            }
        }
    }

    /// A database without any tables.
    ///
    /// # Panics
    /// When there is no server.
    pub async fn empty(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => Self::on_server(create("template0").await, None),
            Backend::Sqlite => {
                let folder = TempDir::new().expect("make a temporary folder");
                let file = folder.path().join("postrider.db");
                Self {
                    backend,
                    url: format!("sqlite://{}", file.display()),
                    _home: Home::Folder(folder),
                }
            }
        }
    }

    /// The PostgreSQL database that `url` names, which lives longer than the test.
    pub fn elsewhere(url: &str) -> Self {
        Self {
            backend: Backend::Postgres,
            url: url.to_owned(),
            _home: Home::Elsewhere,
        }
    }

    fn on_server(database: Dropped, template: Option<Arc<Dropped>>) -> Self {
        Self {
            backend: Backend::Postgres,
            url: named(&server(), &database.name),
            _home: Home::Server {
                _database: database,
                _template: template,
            },
        }
    }

    /// The kind of database.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its URL, as `database.url` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The files it consists of: none on PostgreSQL.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self._home {
            Home::Server { .. } | Home::Elsewhere => Vec::new(),
            Home::Folder(folder) => std::fs::read_dir(folder.path())
                .expect("read the folder")
                .map(|entry| entry.expect("read the folder").path())
                .collect(),
        }
    }

    /// A connection for raw SQL.
    pub async fn connect(&self) -> Connection {
        Connection::open(&self.url).await
    }

    /// Makes the database refuse rows of this table for which `condition` holds; `NEW.` precedes each
    /// column in it.
    pub async fn refuse(&self, table: &str, condition: &str) {
        let sql = match self.backend {
            Backend::Postgres => {
                let condition = condition.replace("NEW.", "");
                format!("ALTER TABLE {table} ADD CONSTRAINT refused CHECK (NOT ({condition}))")
            }
            Backend::Sqlite => format!(
                "CREATE TRIGGER refused BEFORE INSERT ON {table} WHEN {condition} \
                 BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END"
            ),
        };
        self.connect().await.run(sql).await;
    }
}

/// The number of slots of a database's outbox.
///
/// # Panics
/// When the variable is not a number.
pub fn slots(backend: Backend) -> u16 {
    match (backend, std::env::var(SLOTS)) {
        (Backend::Postgres, Ok(text)) => text
            .parse()
            .unwrap_or_else(|_| panic!("{SLOTS} is {text:?}, not a number of slots")),
        _ => 1,
    }
}

/// A database of the server that is dropped with this value.
#[derive(Debug)]
struct Dropped {
    name: String,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let sql = format!(r#"DROP DATABASE IF EXISTS "{}" WITH (FORCE)"#, self.name);
        // A test's own runtime may be the one that is unwinding.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("start a runtime");
            runtime.block_on(async { Connection::open(&server()).await.attempt(sql).await })
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("could not drop the test database {}", self.name);
        }
    }
}

/// The migrated database that others are cloned from, created again when no test uses it.
async fn template() -> Arc<Dropped> {
    static TEMPLATE: Mutex<Weak<Dropped>> = Mutex::const_new(Weak::new());
    let mut template = TEMPLATE.lock().await;
    if let Some(template) = template.upgrade() {
        return template;
    }
    let made = create("template0").await;
    migrate(&named(&server(), &made.name)).await;
    let made = Arc::new(made);
    *template = Arc::downgrade(&made);
    made
}

async fn create(template: &str) -> Dropped {
    let id = LeaseToken::draw(start()).0.simple().to_string();
    let name = format!("postrider_test_{}", &id[12..]);
    let mut server = Connection::open(&server()).await;
    server
        .run(format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#))
        .await;
    Dropped { name }
}

async fn migrate(url: &str) {
    let settings = DatabaseSettings { url: url.into() };
    let backend = Backend::of(url).expect("a database URL");
    let store = open(&settings, KeyRing::default())
        .await
        .expect("open the database");
    let slots = Some(slots(backend)).filter(|slots| *slots > 1);
    store.migrate(slots, start()).await.expect("migrate");
    store.close().await;
}

fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!(
            "this test needs a PostgreSQL server and {SERVER} is not set: run `make test`, or \
             `scripts/with-postgres 15 cargo test …` for some of the tests"
        )
    })
}

/// The URL of another database of the same server.
fn named(server: &str, database: &str) -> String {
    let (url, query) = match server.split_once('?') {
        Some((url, query)) => (url, format!("?{query}")),
        None => (server, String::new()),
    };
    let authority = url.find("://").map_or(0, |place| place + 3);
    let end = url[authority..]
        .find('/')
        .map_or(url.len(), |place| authority + place);
    format!("{}/{database}{query}", &url[..end])
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn only_the_name_of_the_database_changes() {
        let table = [
            (
                "postgres://a@h/postgres?host=/tmp/x",
                "postgres://a@h/t?host=/tmp/x",
            ),
            ("postgres://a:b@h:5433/db", "postgres://a:b@h:5433/t"),
            ("postgres://h", "postgres://h/t"),
        ];
        for (server, expected) in table {
            assert_eq!(named(server, "t"), expected);
        }
    }
}
