//! A PostgreSQL server of a test's own, so that it may crash or stand still.

use crate::{Connection, Process, TestDatabase, ended, script};
use postrider_store::Backend;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// A server that ends with this value.
#[derive(Debug)]
pub struct Server {
    url: String,
    _running: Process,
}

/// A server whose processes stand where they are; they go on when this is dropped.
#[derive(Debug)]
pub struct Frozen {
    postmaster: u32,
}

impl Server {
    /// A server of the version that the other tests run on, without any tables of ours.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let database = TestDatabase::empty(Backend::Postgres).await;
        let mut sql = database.connect().await;
        let version = sql.text("SHOW server_version_num").await;
        let version = &version[..version.len() - 4];
        let mut command = script("with-postgres");
        command
            .args([
                version,
                "sh",
                "-c",
                "echo $POSTRIDER_TEST_POSTGRES; exec cat",
            ])
            // Ends with this process, and the server with it.
            .stdin(Stdio::piped())
            .env_remove("POSTRIDER_TEST_POSTGRES");
        let running = Process::start("with-postgres", &mut command);
        let url = running.wait_for_lines(1).await.remove(0);
        Self {
            url,
            _running: running,
        }
    }

    /// The URL of its superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills a server process as nothing can prevent: the server then ends every connection and
    /// recovers what was committed from its log.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn crash(&self) {
        let mut sql = Connection::open(&self.url).await;
        let victim = sql.text("SELECT pg_backend_pid()").await;
        let kill = format!("kill -s KILL {victim}");
        ended(Command::new("sh").args(["-c", &kill]))
            .await
            .succeeded();
    }

    /// Stops all of its processes where they stand: connections stay open, nothing answers.
    ///
    /// # Panics
    /// When its processes cannot be found or stopped.
    pub async fn freeze(&self) -> Frozen {
        let mut sql = Connection::open(&self.url).await;
        let folder = sql.text("SHOW data_directory").await;
        drop(sql);
        let file = Path::new(&folder).join("postmaster.pid");
        let text = std::fs::read_to_string(file).expect("the file of the server's process");
        let first = text.lines().next().expect("a process id");
        let postmaster = first.trim().parse().expect("a process id");
        // It makes no more children once it is stopped.
        let frozen = Frozen { postmaster };
        assert!(frozen.signal("STOP"), "stop the server {postmaster}");
        let stopped = frozen.signal_children("STOP");
        assert!(stopped > 0, "stop the children of the server {postmaster}");
        frozen
    }
}

impl Frozen {
    /// Returns how many there were to signal; one that was about to end may be gone.
    fn signal_children(&self, name: &str) -> usize {
        let pid = self.postmaster;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let signalled = children.split_whitespace().filter(|pid| kill(name, pid));
        signalled.count()
    }

    fn signal(&self, name: &str) -> bool {
        kill(name, &self.postmaster.to_string())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal_children("CONT");
        self.signal("CONT");
    }
}

fn kill(name: &str, pid: &str) -> bool {
    let command = format!("kill -s {name} {pid}");
    let mut shell = std::process::Command::new("sh");
    let status = shell.args(["-c", &command]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
