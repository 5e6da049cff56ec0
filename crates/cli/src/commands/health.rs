//! `postrider health`: asks the process on this machine whether it is ready, for container health
//! checks.

use crate::failure::{Result, Silent};
use crate::globals::Globals;
use crate::http;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// How long the process may take to answer; `/readyz` itself waits 2 s for the database.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Ask the process on this machine whether it is ready.
///
/// Requests /readyz (or /livez) at metrics.listen of this command's configuration. Exit code 0 when
/// the process is ready, 1 when it is not or does not answer. Meant for the health checks of
/// containers, which then need no other program.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider health
  postrider health --live
  POSTRIDER_METRICS__LISTEN=127.0.0.1:9999 postrider health")]
pub struct Health {
    /// Ask whether it is alive instead of ready
    #[arg(long)]
    live: bool,
}

#[derive(Serialize)]
struct HealthAnswer<'a> {
    ok: bool,
    url: &'a str,
    /// The body of the answer, or why there was none.
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
        let shown = HealthAnswer {
            ok,
            url: &url,
            answer: answer.trim_end(),
        };
        globals
            .output()
            .result(&shown, || format!("{}: {}", shown.url, shown.answer))?;
        match ok {
            true => Ok(()),
            false => Err(Silent.into()),
        }
    }
}

async fn ask(address: &str, path: &str) -> (bool, String) {
    match tokio::time::timeout(TIMEOUT, http::get(address, path)).await {
        Ok(Ok((status, answer))) => (status == 200, answer),
        Ok(Err(error)) => (false, format!("no answer: {error}")),
        Err(_) => (false, format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

/// The address at which a process that listens on `listen` can be reached from this machine: the
/// loopback if it listens on all addresses.
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
    fn a_process_on_all_addresses_is_asked_at_the_loopback() {
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
