//! `postrider serve`: the worker pool, the HTTP interface, and their end.
//!
//! The first signal drains: nothing more is leased, what is in flight is finished and
//! recorded. The second, or the deadline, cuts; what is cut is repeated by the next worker.

use super::hook_test;
use super::readiness::{Counted, Watched};
use crate::cli::Globals;
use crate::config::Settings;
use crate::database::{self, try_write};
use crate::failure::{Result, Silent};
use crate::sd_notify::Supervisor;
use crate::secrets::Need;
use crate::traces::Traces;
use anyhow::Context;
use async_trait::async_trait;
use clap::{Args, ValueEnum};
use postrider_api::{Api, ApiLimits, ApiParts, Readiness, TestSender, probes, serve as answer};
use postrider_core::{Attempt, Hook, SystemMonotonicClock};
use postrider_store::{Backend, Store, WorkerClaim};
use postrider_worker::{
    DatabaseClock, Metrics, Pruner, Sampler, Sender, Shutdown, Waker, Worker, WorkerParts,
};
use serde::Serialize;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// How much longer than the longest request a drain may take.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// How long requests get to be answered at the end, and after a cut.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const LAST_ANSWERS_CUT: Duration = Duration::from_secs(1);

/// Deliver, and take events over HTTP: run the worker pool and the API until stopped.
///
/// Opens metrics.listen with /metrics, /livez and /readyz in every role, and api.listen with the
/// API and the two probes in the roles all and api. SIGTERM or Ctrl-C drains: nothing new is
/// started, what is in flight is finished and recorded, at most worker.request_timeout and 5 s;
/// then the API answers what it has accepted and closes. A second signal cuts; what is cut is
/// delivered again, and the exit code is 1.
///
/// Says on standard output where it listens and when it is ready; with --json one object:
/// ready, role, database, metrics, api.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider serve
  postrider serve --role worker --database postgres://postrider@db/app
  postrider serve --role api --database postgres://postrider@db/app
  POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8,::1/128 postrider serve    try with local receivers

PostgreSQL takes any number of worker processes, SQLite one for each file.")]
pub struct Serve {
    /// What this process does
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Everything
    All,
    /// Deliver
    Worker,
    /// Serve the API
    Api,
}

/// What is said when the process is ready.
#[derive(Serialize)]
struct Started {
    ready: bool,
    role: Role,
    database: String,
    metrics: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<String>,
}

impl Serve {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let traces = Traces::start()?;
        let signals = Signals::new()?;
        let works = self.role != Role::Api;
        // Without a key the API still takes events; what concerns secrets it refuses.
        let keyless = settings.backend()? == Backend::Postgres && settings.secrets.key.is_none();
        let need = match works || !keyless {
            true => Need::Secrets,
            false => Need::Nothing,
        };
        let store = database::open(&settings, need).await?;
        try_write(store.as_ref()).await?;
        let claim = match works {
            true => store.claim_worker().await?,
            false => WorkerClaim::default(),
        };
        let outcome = self
            .serve(globals, &settings, &store, signals, &traces)
            .await;
        drop(claim);
        tokio::join!(store.close(), traces.finish());
        outcome
    }

    async fn serve(
        self,
        globals: &Globals,
        settings: &Settings,
        store: &Arc<dyn Store>,
        signals: Signals,
        traces: &Traces,
    ) -> Result<()> {
        let metrics_listener = bind("metrics", &settings.metrics.listen).await?;
        let api_listener = match self.role {
            Role::Worker => None,
            Role::All | Role::Api => Some(bind("api", &settings.api.listen).await?),
        };
        let metrics = Arc::new(Metrics::new());
        let clock = DatabaseClock::start(store.clone()).await?;
        metrics.show_retention(
            settings.retention.events.get(),
            settings.retention.attempts().get(),
        );
        let sampler = Sampler::new(store.clone(), clock.clone(), metrics.clone());
        let _sampling = AbortOnDropHandle::new(tokio::spawn(sampler.run()));
        let worker = match self.role {
            Role::Api => None,
            Role::All | Role::Worker => Some(worker(
                settings,
                store,
                clock.clone(),
                metrics.clone(),
                traces,
            )?),
        };
        let keeper = Pruner {
            store: store.clone(),
            clock: clock.clone(),
            keep: settings.retention.keep(),
            metrics: metrics.clone(),
        };
        let started = Started {
            ready: true,
            role: self.role,
            database: store.describe(),
            metrics: url_of(&metrics_listener)?,
            api: api_listener.as_ref().map(url_of).transpose()?,
        };
        let shutdown = Shutdown::default();
        let watched = Watched {
            store: store.clone(),
            metrics: metrics.clone(),
            progress: worker.as_ref().map(Worker::progress),
            drain: shutdown.drain.clone(),
        };
        let readiness: Arc<dyn Readiness> = Arc::new(watched.readiness(&settings.worker));
        let closed = CancellationToken::new();
        let mut servers = JoinSet::new();
        let metrics_router = watched.routes().merge(probes(readiness.clone()));
        servers.spawn(answer(metrics_listener, metrics_router, closed.clone()));
        let mut api = None;
        if let Some(listener) = api_listener {
            let waker = worker.as_ref().map(Worker::waker);
            let tests = hook_test::sender(settings, clock.clone(), metrics.clone())?;
            let started = Api::start(ApiParts {
                store: store.clone(),
                clock,
                keep_events: settings.retention.events,
                commits: match settings.backend()? {
                    Backend::Postgres => 2,
                    Backend::Sqlite => 1,
                },
                published: Arc::new(move || waker.iter().for_each(Waker::wake)),
                tests: Arc::new(Tests(tests)),
                limits: ApiLimits {
                    publishing: settings.api.publish_limit,
                    managing: settings.api.rate_limit,
                },
                cors_origins: settings.api.cors_origins.clone(),
                observer: Arc::new(Counted(metrics)),
                traces: traces.publishing(),
                dialects: settings.dialects(),
            });
            let router = started.router().merge(probes(readiness));
            servers.spawn(answer(listener, router, closed.clone()));
            api = Some(started);
        }
        let deadline = settings.worker.request_timeout.get() + DRAIN_MARGIN;
        let cut = shutdown.cut.clone();
        let supervisor = Arc::new(Supervisor::from_environment());
        let signals = signals.obey(shutdown.clone(), deadline, supervisor.clone());
        let signals = tokio::spawn(signals);
        globals
            .output()
            .result(&started, || said(&started, settings))?;
        supervisor.ready();
        let _alive =
            AbortOnDropHandle::new(tokio::spawn(async move { supervisor.keep_alive().await }));
        let was_cut = match worker {
            Some(worker) => {
                let drain = shutdown.drain.clone();
                tokio::spawn(async move { keeper.run(drain).await });
                let drained = worker.run(shutdown).await;
                info!(
                    released = drained.released,
                    cut = drained.cut,
                    "Stopped: {} unstarted leases given back, {} requests cut",
                    drained.released,
                    drained.cut
                );
                drained.cut > 0
            }
            None => {
                shutdown.drain.cancelled().await;
                false
            }
        };
        closed.cancel();
        let answered = async {
            while servers.join_next().await.is_some() {}
            if let Some(api) = api {
                api.finish().await;
            }
        };
        tokio::select! {
            () = answered => {}
            () = tokio::time::sleep(LAST_ANSWERS) => {}
            () = async { cut.cancelled().await; tokio::time::sleep(LAST_ANSWERS_CUT).await } => {}
        }
        signals.abort();
        match was_cut {
            true => Err(Silent.into()),
            false => Ok(()),
        }
    }
}

fn worker(
    settings: &Settings,
    store: &Arc<dyn Store>,
    clock: Arc<DatabaseClock>,
    metrics: Arc<Metrics>,
    traces: &Traces,
) -> Result<Worker> {
    Worker::new(WorkerParts {
        store: store.clone(),
        clock,
        monotonic: Arc::new(SystemMonotonicClock),
        settings: settings.worker.clone(),
        hooks: settings.hook_defaults(),
        keep_events: settings.retention.events.get(),
        metrics,
        traces: traces.attempts(),
    })
    .context("the HTTP client cannot be set up")
}

async fn bind(section: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = format!("POSTRIDER_{}__LISTEN", section.to_uppercase());
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "another process listens there, perhaps another postrider: stop it, or set \
                 {section}.listen ({variable}) to another port"
            ),
            _ => {
                format!("{error}; set {section}.listen ({variable}) to an address of this machine")
            }
        };
        anyhow::anyhow!("cannot listen on {address}: {advice}")
    })
}

fn url_of(listener: &TcpListener) -> Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

fn said(started: &Started, settings: &Settings) -> String {
    let mut lines = vec![format!("Database: {}.", started.database)];
    lines.push(format!(
        "Metrics and health on {} (/metrics, /livez, /readyz).",
        started.metrics
    ));
    lines.extend(
        started
            .api
            .as_ref()
            .map(|url| format!("API on {url} (/docs, /openapi.json, /livez, /readyz).")),
    );
    lines.push(match started.role {
        Role::Api => "Ready. Ctrl-C stops.".into(),
        Role::All | Role::Worker => format!(
            "Ready: delivering, up to {} requests at a time. Ctrl-C drains and stops.",
            settings.worker.concurrency
        ),
    });
    lines.join("\n")
}

/// Sends the test events that the API is asked for.
struct Tests(Sender);

#[async_trait]
impl TestSender for Tests {
    async fn send_test(&self, hook: &Hook) -> std::result::Result<Attempt, String> {
        let attempt = self.0.send_test(hook).await;
        attempt.map_err(|error| error.to_string())
    }

    async fn send_sample(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> std::result::Result<Attempt, String> {
        let attempt = self.0.send_sample(hook, event_type, payload).await;
        attempt.map_err(|error| error.to_string())
    }
}

/// SIGTERM and SIGINT, heard from the beginning on.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Drains at the first signal, cuts at the second or after `deadline`.
    async fn obey(mut self, shutdown: Shutdown, deadline: Duration, told: Arc<Supervisor>) {
        self.next().await;
        shutdown.drain.cancel();
        told.stopping();
        info!(
            "Draining: finishing what is in flight, for at most {} s; a second signal cuts it",
            deadline.as_secs()
        );
        tokio::select! {
            () = self.next() => warn!("Cut by a second signal; what was in flight is repeated"),
            () = tokio::time::sleep(deadline) => {
                warn!("Cut at the deadline; what was in flight is repeated");
            }
        }
        shutdown.cut.cancel();
    }
}
