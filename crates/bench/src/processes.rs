//! The processes of a measurement: the receiver and the workers.
//!
//! Each ends when its handle is dropped: the receiver because its input closes, a worker because
//! it is killed.

use crate::error::Result;
use crate::machine::{peak_memory, process_cpu};
use crate::progress::Progress;
use crate::received::{Counts, Watch};
use crate::scrape::Scrape;
use anyhow::{Context, bail};
use postrider_core::monotonic_now;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use uuid::Uuid;

/// A measurement fails when nothing arrives for this long.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often the receiver and the workers are polled.
pub const POLL_EVERY: Duration = Duration::from_millis(20);

/// A receiver process, and the pipes over which it is controlled.
pub struct ReceiverProcess {
    _child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// The address on which it listens.
    pub address: SocketAddr,
}

impl ReceiverProcess {
    /// Starts the receiver and waits until it listens.
    pub async fn start(program: &Path) -> Result<Self> {
        let mut child = command(program)
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

    /// Forgets what has arrived and starts to count anew, as `watch` says.
    pub async fn watch(&mut self, watch: &Watch) -> Result<()> {
        let watch = serde_json::to_string(watch)?;
        self.ask(&format!("watch {watch}")).await.map(|_| ())
    }

    /// Lets the sick paths of the receiver answer 200 from now on.
    pub async fn mend(&mut self) -> Result<()> {
        self.ask("mend").await.map(|_| ())
    }

    /// The longest time without an arrival since the previous call, in seconds.
    pub async fn lap(&mut self) -> Result<f64> {
        Ok(self.ask("lap").await?.parse()?)
    }

    /// When the watched ranks were reached, in seconds since the receiver started.
    pub async fn reached(&mut self) -> Result<Vec<f64>> {
        Ok(serde_json::from_str(&self.ask("reached").await?)?)
    }

    /// The counts since the last [`Self::watch`].
    pub async fn seen(&mut self) -> Result<Counts> {
        Ok(serde_json::from_str(&self.ask("seen").await?)?)
    }

    /// The receiver's start on the clock of this process.
    pub async fn zero(&mut self) -> Result<Instant> {
        let asked = monotonic_now();
        let theirs: f64 = self.ask("now").await?.parse()?;
        let middle = asked + (monotonic_now() - asked) / 2;
        Ok(middle - Duration::from_secs_f64(theirs))
    }

    /// When each sampled event first reached each hook, in seconds since the receiver started.
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
    ///
    /// # Errors
    /// When nothing arrives for [`STALLED_AFTER`].
    pub async fn until(&mut self, expected: u64) -> Result<Counts> {
        let mut progress = Progress::new("delivered", expected);
        let (mut last, mut moved) = (0, monotonic_now());
        loop {
            let seen = self.seen().await?;
            progress.at(seen.unique);
            if seen.unique >= expected {
                return Ok(seen);
            }
            if seen.unique > last {
                (last, moved) = (seen.unique, monotonic_now());
            } else if monotonic_now() - moved > STALLED_AFTER {
                bail!(
                    "only {} of {expected} deliveries arrived, and none in the last {} s",
                    seen.unique,
                    STALLED_AFTER.as_secs()
                );
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// How to start a worker process.
pub struct WorkerOptions<'a> {
    /// The executable.
    pub program: &'a Path,
    /// URL of its database.
    pub database: &'a str,
    /// The key that opens the secrets in the database.
    pub key: &'a str,
    /// Its working folder.
    pub folder: &'a Path,
    /// Most requests in flight; the default if `None`.
    pub concurrency: Option<u32>,
    /// `worker`, `api` or `all`.
    pub role: &'a str,
    /// `retention.events`; the default if `None`.
    pub keep_events: Option<&'a str>,
}

/// A worker process, in the default configuration except for its [`WorkerOptions`].
pub struct WorkerProcess {
    child: Child,
    metrics: String,
    client: reqwest::Client,
    /// URL of its API; `None` if its role has none.
    pub api: Option<String>,
}

/// What a worker prints when it is ready.
#[derive(Deserialize)]
struct Announcement {
    metrics: String,
    api: Option<String>,
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready.
    pub async fn start(options: &WorkerOptions<'_>) -> Result<Self> {
        let mut command = command(options.program);
        command
            .args(["serve", "--json", "--role", options.role, "--database"])
            .arg(options.database)
            .env("POSTRIDER_SECRETS__KEY", options.key)
            .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.0/8")
            .env("POSTRIDER_API__LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_LOG", "warn");
        if let Some(concurrency) = options.concurrency {
            command.env("POSTRIDER_WORKER__CONCURRENCY", concurrency.to_string());
        }
        if let Some(keep) = options.keep_events {
            command.env("POSTRIDER_RETENTION__EVENTS", keep);
        }
        let mut child = command
            .current_dir(options.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("a worker process could not be started")?;
        let out = child.stdout.take().context("the worker has no output")?;
        let line = BufReader::new(out)
            .lines()
            .next_line()
            .await?
            .context("the worker process ended at once")?;
        let ready: Announcement = serde_json::from_str(&line)?;
        Ok(Self {
            child,
            metrics: ready.metrics,
            client: reqwest::Client::builder().no_proxy().build()?,
            api: ready.api,
        })
    }

    /// Processor time used so far in seconds, and the most memory it has held in bytes.
    pub fn cost(&self) -> (f64, u64) {
        let Some(pid) = self.child.id() else {
            return (0.0, 0);
        };
        (
            process_cpu(pid).unwrap_or_default(),
            peak_memory(pid).unwrap_or_default(),
        )
    }

    /// Its metrics now.
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::of(&self.client, &self.metrics).await
    }

    /// Kills it and waits for its end.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Runs `program` without the configuration in this environment, and kills it when the handle is
/// dropped.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|n| n.starts_with("POSTRIDER_") || n == "DATABASE_URL");
        if is_ours {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    command
}
