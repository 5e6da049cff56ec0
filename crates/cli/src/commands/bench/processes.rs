//! The processes of a measurement: the receiver, and the workers.
//!
//! Each ends with its handle: the receiver when its input closes, a worker by its id.

use super::machine::{peak_memory, process_cpu};
use super::progress::Progress;
use super::received::{Seen, Watch};
use super::scrape::Scrape;
use crate::failure::Result;
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

/// A measurement in which nothing arrives for so long has failed.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often is asked what has arrived.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

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

    /// Forgets what arrived, and watches out for this from now on.
    pub async fn watch(&mut self, watch: &Watch) -> Result<()> {
        let watch = serde_json::to_string(watch)?;
        self.ask(&format!("watch {watch}")).await.map(|_| ())
    }

    /// The longest time in which nothing arrived since this was last asked, in seconds.
    pub async fn lap(&mut self) -> Result<f64> {
        Ok(self.ask("lap").await?.parse()?)
    }

    /// When the watched ranks were reached, in seconds from the receiver's zero.
    pub async fn reached(&mut self) -> Result<Vec<f64>> {
        Ok(serde_json::from_str(&self.ask("reached").await?)?)
    }

    /// What has arrived since.
    pub async fn seen(&mut self) -> Result<Seen> {
        Ok(serde_json::from_str(&self.ask("seen").await?)?)
    }

    /// The receiver's time zero on this process's clock.
    pub async fn zero(&mut self) -> Result<Instant> {
        let asked = monotonic_now();
        let theirs: f64 = self.ask("now").await?.parse()?;
        let middle = asked + (monotonic_now() - asked) / 2;
        Ok(middle - Duration::from_secs_f64(theirs))
    }

    /// When each event that is kept reached each hook first, in seconds from the receiver's
    /// zero.
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
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What a worker process is started with.
pub struct WorkerOptions<'a> {
    /// Its database.
    pub database: &'a str,
    /// The key of the secrets in it.
    pub key: &'a str,
    /// Where it runs.
    pub folder: &'a Path,
    /// Requests in flight at most, where that is not the default.
    pub concurrency: Option<u32>,
    /// Its role.
    pub role: &'a str,
    /// `retention.events`, where that is not the default.
    pub keep_events: Option<&'a str>,
}

/// A worker process, in the default configuration as far as nothing else is asked for.
pub struct WorkerProcess {
    child: Child,
    metrics: String,
    /// The URL of its API, if its role has one.
    pub api: Option<String>,
}

/// What a worker says when it is ready.
#[derive(Deserialize)]
struct Ready {
    metrics: String,
    api: Option<String>,
}

impl WorkerProcess {
    /// Starts a worker and waits until it says that it is ready.
    pub async fn start(options: &WorkerOptions<'_>) -> Result<Self> {
        let mut command = this_program()?;
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
        let said = BufReader::new(out)
            .lines()
            .next_line()
            .await?
            .context("the worker process ended at once")?;
        let ready: Ready = serde_json::from_str(&said)?;
        Ok(Self {
            child,
            metrics: ready.metrics,
            api: ready.api,
        })
    }

    /// Its processor time so far, in seconds, and the most memory it has held, in bytes.
    pub fn cost(&self) -> (f64, u64) {
        let Some(pid) = self.child.id() else {
            return (0.0, 0);
        };
        (
            process_cpu(pid).unwrap_or_default(),
            peak_memory(pid).unwrap_or_default(),
        )
    }

    /// What its `/metrics` say now.
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::of(&self.metrics).await
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
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
