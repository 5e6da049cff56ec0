//! What a measurement runs in: a database of its own, a receiver process, worker processes.
//!
//! Everything is ended when the lab is: processes by their ids, the database by its name.

use super::machine::{peak_memory, process_cpu};
use super::receiver::Seen;
use crate::failure::Result;
use anyhow::{Context, bail};
use postrider_core::{
    EventPattern, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook, SigningSecret,
};
use postrider_store::{Backend, DatabaseSettings, ScratchDatabase, Store};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use uuid::Uuid;

/// A measurement in which nothing arrives for so long has failed.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Events inserted in one transaction.
const INSERT_BATCH: usize = 1_000;

/// A receiver process and what is said to it.
pub struct ReceiverProcess {
    _child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl ReceiverProcess {
    /// Starts the receiver.
    pub async fn start() -> Result<Self> {
        let mut child = this_program()?
            .args(["bench", "receiver"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the receiver process could not be started")?;
        let (Some(commands), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the receiver process has no standard input or output");
        };
        let mut answers = BufReader::new(out).lines();
        let address = answers
            .next_line()
            .await?
            .context("the receiver process ended at once")?;
        Ok(Self {
            _child: child,
            commands,
            answers,
            address: address.parse()?,
        })
    }

    async fn ask(&mut self, command: &str) -> Result<String> {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await?;
        self.answers
            .next_line()
            .await?
            .context("the receiver process ended")
    }

    /// Forgets what arrived.
    pub async fn reset(&mut self) -> Result<()> {
        self.ask("reset").await.map(|_| ())
    }

    /// What has arrived since.
    pub async fn seen(&mut self) -> Result<Seen> {
        Ok(serde_json::from_str(&self.ask("seen").await?)?)
    }

    /// The receiver's time zero on this process's clock.
    pub async fn zero(&mut self) -> Result<Instant> {
        let asked = Instant::now();
        let theirs: f64 = self.ask("now").await?.parse()?;
        let middle = asked + asked.elapsed() / 2;
        Ok(middle - Duration::from_secs_f64(theirs))
    }

    /// When each event reached each hook first, in seconds from the receiver's zero.
    pub async fn arrivals(&mut self) -> Result<HashMap<(Uuid, u32), f64>> {
        let mut line = self.ask("arrivals").await?;
        let mut arrivals = HashMap::new();
        while !line.is_empty() {
            let mut fields = line.split(' ');
            if let (Some(event), Some(hook), Some(at)) =
                (fields.next(), fields.next(), fields.next())
            {
                arrivals.insert((event.parse()?, hook.parse()?), at.parse()?);
            }
            line = self
                .answers
                .next_line()
                .await?
                .context("the receiver process ended")?;
        }
        Ok(arrivals)
    }

    /// Waits until `expected` different deliveries have arrived.
    pub async fn until(&mut self, expected: u64) -> Result<Seen> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let seen = self.seen().await?;
            if seen.unique >= expected {
                return Ok(seen);
            }
            if seen.unique > last {
                (last, moved) = (seen.unique, Instant::now());
            } else if moved.elapsed() > STALLED_AFTER {
                bail!(
                    "only {} of {expected} deliveries arrived, and none in the last {} s",
                    seen.unique,
                    STALLED_AFTER.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A process that works in the default configuration.
pub struct WorkerProcess(Child);

impl WorkerProcess {
    /// Its processor time so far, in seconds, and the most memory it has held, in bytes.
    pub fn cost(&self) -> (f64, u64) {
        let Some(pid) = self.0.id() else {
            return (0.0, 0);
        };
        (
            process_cpu(pid).unwrap_or_default(),
            peak_memory(pid).unwrap_or_default(),
        )
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.0.kill().await?)
    }
}

/// A database of its own, with its keys.
pub struct Lab {
    scratch: ScratchDatabase,
    folder: TempDir,
    key: String,
    /// The database.
    pub store: Arc<dyn Store>,
}

impl Lab {
    /// Measures in a database of its own beside the one that `url` names, and drops it
    /// whatever happens, Ctrl-C included.
    pub async fn run<T>(url: &str, measure: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let lab = Self::open(url).await?;
        let measured = tokio::select! {
            measured = measure(&lab) => measured,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C")),
        };
        lab.close().await?;
        measured
    }

    /// Makes a database beside the one that `url` names.
    async fn open(url: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("postrider-bench-")?;
        let scratch = ScratchDatabase::create(url, folder.path()).await?;
        let key = KeyRing::generate_key();
        let settings = DatabaseSettings {
            url: scratch.url().to_owned(),
        };
        let store = postrider_store::open(&settings, KeyRing::new([key.as_str()])?).await?;
        store.migrate(None, store.now().await?).await?;
        Ok(Self {
            scratch,
            folder,
            key,
            store,
        })
    }

    async fn close(self) -> Result<()> {
        self.store.close().await;
        Ok(self.scratch.drop().await?)
    }

    /// Registers a hook for every event.
    pub async fn hook(&self, url: String) -> Result<HookId> {
        let hook = NewHook {
            account: "default".into(),
            url,
            events: vec![EventPattern::Any],
            profile: "standard".into(),
            settings: HookSettings::default(),
            credentials: HookCredentials::signed_with(SigningSecret::generate()),
        };
        let now = self.store.now().await?;
        Ok(self.store.create_hook(hook, now).await?.id)
    }

    /// Inserts events, in transactions of up to a thousand.
    pub async fn insert(&self, count: u64, payload: &str) -> Result<()> {
        let event = NewEvent::from_json("bench.event", payload.to_owned())?;
        let batch = vec![event; INSERT_BATCH];
        let mut left = count as usize;
        while left > 0 {
            let now = left.min(INSERT_BATCH);
            self.store.enqueue(&batch[..now]).await?;
            left -= now;
        }
        Ok(())
    }

    /// How many transactions the database has seen, where it counts them.
    pub async fn transactions(&self) -> Result<Option<u64>> {
        Ok(self.scratch.transactions().await?)
    }

    /// Starts a worker process and waits until it says that it is ready.
    pub async fn worker(&self) -> Result<WorkerProcess> {
        Ok(self.serve("worker").await?.0)
    }

    /// Starts a process in all roles; returns it and the URL of its API.
    pub async fn server(&self) -> Result<(WorkerProcess, String)> {
        let (process, said) = self.serve("all").await?;
        let api = said["api"].as_str().context("the process opened no API")?;
        Ok((process, api.to_owned()))
    }

    /// Starts a process in this role; returns it and what it says when it is ready.
    async fn serve(&self, role: &str) -> Result<(WorkerProcess, Value)> {
        let mut child = this_program()?
            .args(["serve", "--role", role, "--database", self.scratch.url()])
            .env("POSTRIDER_SECRETS__KEY", &self.key)
            .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.0/8")
            .env("POSTRIDER_API__LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_LOG", "warn")
            .current_dir(self.folder.path())
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("a worker process could not be started")?;
        let out = child.stdout.take().context("the worker has no output")?;
        let said = BufReader::new(out)
            .lines()
            .next_line()
            .await?
            .context("the worker process ended at once")?;
        Ok((WorkerProcess(child), serde_json::from_str(&said)?))
    }
}

/// This program again, without what its environment says of Postrider, and ended when its
/// handle is dropped.
fn this_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|n| n.starts_with("POSTRIDER_") || n == "DATABASE_URL");
        if ours {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    Ok(command)
}

/// A JSON object of about `bytes` bytes.
pub fn payload(bytes: usize) -> String {
    let frame = r#"{"fill":""}"#.len();
    format!(
        r#"{{"fill":"{}"}}"#,
        "x".repeat(bytes.saturating_sub(frame))
    )
}

/// What the database is, for the head of the report.
pub fn name_of(url: &str) -> Result<&'static str> {
    Ok(match Backend::of(url)? {
        Backend::Postgres => "postgres",
        Backend::Sqlite => "sqlite",
    })
}
