//! A PostgreSQL server of one test, for what would disturb the tests beside it.

use crate::{Connection, TestDatabase, project, start};
use postrider_core::KeyRing;
use postrider_store::postgres::PostgresStore;
use postrider_store::{Backend, Database};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server, stopped when it is dropped.
#[derive(Debug)]
pub struct PrivateServer {
    process: Child,
    url: String,
}

impl PrivateServer {
    /// A server of the same version as the one of all tests.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let common = TestDatabase::empty(Backend::Postgres).await;
        let version = "SELECT current_setting('server_version_num')::integer / 10000";
        let version = common.connect().await.number(version).await;
        // It runs until its input ends.
        let mut process = Command::new(project("scripts/with-postgres"))
            .arg(version.to_string())
            .args(["sh", "-c", "echo \"$POSTRIDER_TEST_POSTGRES\"; exec cat"])
            .env_remove("POSTRIDER_TEST_POSTGRES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start scripts/with-postgres");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let url = tokio::task::spawn_blocking(|| output.lines().next()).await;
        let url = url.expect("read its output").expect("a line of output");
        Self {
            process,
            url: url.expect("the server's URL"),
        }
    }

    /// Its only database, with our tables. Its partitions begin with the day of
    /// [`start`].
    ///
    /// # Panics
    /// When migrating fails.
    pub async fn database(&self) -> TestDatabase {
        let store = PostgresStore::connect(&self.url, KeyRing::default()).await;
        let store = store.expect("open the database");
        store.migrate(None, start()).await.expect("migrate");
        store.close().await;
        TestDatabase::elsewhere(&self.url)
    }

    /// Turns every open session of its database read-only, and leaves it open, as a server does
    /// that another one takes over from. New sessions may write, as on that other server.
    pub async fn demote_open_sessions(&self) {
        let mut sql = Connection::open(&self.url).await;
        // A setting of the database goes before one of the server, in new sessions.
        sql.run("ALTER DATABASE postgres SET default_transaction_read_only = off")
            .await;
        sql.run("ALTER SYSTEM SET default_transaction_read_only = on")
            .await;
        sql.run("SELECT pg_reload_conf()").await;
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
