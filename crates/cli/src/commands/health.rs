//! `postrider health`: asks the process on this machine how it is, for container platforms.

use crate::failure::{Result, Silent};
use crate::globals::Globals;
use crate::http;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// How long the process may take to answer. `/readyz` itself waits 2 s for the database.
const PATIENCE: Duration = Duration::from_secs(4);

/// Ask the process that runs here whether it is ready.
///
/// Asks /readyz on metrics.listen (or /livez), as the configuration and the environment of this
/// command have it. Exit code 0 when the answer is yes, 1 when it is no or there is none. Meant
/// for the health checks of containers, which need no other program then.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider health
  postrider health --live
  POSTRIDER_METRICS__LISTEN=127.0.0.1:9999 postrider health")]
pub struct Health {
    /// Ask whether it is alive instead
    #[arg(long)]
    live: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    ok: bool,
    url: &'a str,
    /// What it said, or why there was no answer.
    answer: &'a str,
}

impl Health {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let path = if self.live { "/livez" } else { "/readyz" };
        let address = reachable(&settings.metrics.listen);
        let (ok, answer) = ask(&address, path).await;
        let url = format!("http://{address}{path}");
        let told = Told {
            ok,
            url: &url,
            answer: answer.trim_end(),
        };
        globals
            .output()
            .result(&told, || format!("{}: {}", told.url, told.answer))?;
        match ok {
            true => Ok(()),
            false => Err(Silent.into()),
        }
    }
}

async fn ask(address: &str, path: &str) -> (bool, String) {
    match tokio::time::timeout(PATIENCE, http::get(address, path)).await {
        Ok(Ok((status, answer))) => (status == 200, answer),
        Ok(Err(error)) => (false, format!("no answer: {error}")),
        Err(_) => (false, format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Where a process that listens on this address is reached from this machine: one that listens
/// on all addresses listens on the loopback too.
fn reachable(listen: &str) -> String {
    for (all, loopback) in [("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")] {
        if let Some(port) = listen.strip_prefix(all) {
            return format!("{loopback}{port}");
        }
    }
    listen.to_owned()
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("localhost:9464", "localhost:9464"),
        ] {
            assert_eq!(reachable(listen), asked);
        }
    }
}
