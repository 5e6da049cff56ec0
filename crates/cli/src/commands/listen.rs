//! `postrider listen`: a receiver for experiments.

use super::value_parsers::text_argument;
use crate::clock::wall_clock;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::output::{Output, moment, notice, printable, shortened};
use crate::receiver::{Answers, Arrival, Receiver};
use anyhow::Context;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use postrider_core::{SigningSecret, Span};
use serde::Deserialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Number of characters of a body that are shown.
const BODY_CHARS: usize = 160;

/// Receive webhooks: verify signatures and print what arrives.
///
/// Accepts every path and method. With --secret, a request whose Standard Webhooks signature does
/// not match, or whose timestamp is more than 5 minutes off, is answered 401 and not counted. Ends
/// on Ctrl-C.
///
/// With --json each arrival is one object a line: id, timestamp, verified (null without
/// --secret), repeat (number of earlier arrivals of the id), status_answered, headers, body.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider listen
  postrider listen --secret whsec_… --json
  postrider listen --status 500                   always fail
  postrider listen --fail-first 3                 fail the first 3 requests with 500, then accept
  postrider listen --fail-first 3 --status 503    fail them with 503
  postrider listen --listen 127.0.0.1:0 --count 1 any free port; end after one is accepted

Workers call local addresses only if allowed:
  POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8,::1/128 postrider serve")]
pub struct Listen {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: String,
    /// Verify with this secret (whsec_…, or whpk_… for ed25519); @FILE keeps it off the command
    /// line; may be repeated, one of them must match
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// Answer with this status; with --fail-first only the requests that fail
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// Delay before each answer
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    delay: Span,
    /// Fail the first N requests, whatever their ids, with 500 or --status; then accept
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    fail_first: u64,
    /// End, with success, after N requests were accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Listen {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let output = globals.output();
        let secrets = self.secrets.iter().map(|text| verification_key(text));
        let secrets: Vec<_> = secrets.collect::<Result<_>>()?;
        let answers = self.answers()?;
        let listener = TcpListener::bind(&self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let verifying = match secrets.as_slice() {
            [] => "not verifying signatures (no --secret)",
            _ => "verifying signatures",
        };
        notice(format_args!(
            "Listening on http://{address}, {verifying}. Ctrl-C ends it."
        ));
        let done = CancellationToken::new();
        let printer = Printer::new(output, self.count, done.clone());
        let receiver = Receiver::new(secrets, answers, wall_clock, {
            let printer = printer.clone();
            move |arrival| printer.print(&arrival)
        });
        axum::serve(listener, receiver.router())
            .with_graceful_shutdown(ended(done))
            .await?;
        printer.finish()
    }

    fn answers(&self) -> Result<Answers> {
        let given = self.status.map(StatusCode::from_u16).transpose()?;
        let status = match given {
            Some(status) if self.fail_first == 0 => status,
            _ => StatusCode::OK,
        };
        Ok(Answers {
            status,
            fail_first: self.fail_first,
            failure: given.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            delay: self.delay.get(),
        })
    }
}

/// The key of a `--secret` argument, checked so that a typing error does not look like a forged
/// signature.
fn verification_key(argument: &str) -> Result<String> {
    let text = text_argument(argument)?.trim().to_owned();
    if let Some(public) = text.strip_prefix("whpk_") {
        return match BASE64.decode(public) {
            Ok(bytes) if bytes.len() == 32 => Ok(text),
            _ => Err(Misuse::new(
                "--secret: the public key is not base64 of 32 bytes: write whpk_ and the key",
            )),
        };
    }
    match text.parse::<SigningSecret>() {
        Ok(_) => Ok(text),
        Err(error) => Err(Misuse::new(format!("--secret: {error}"))),
    }
}

async fn ended(done: CancellationToken) {
    tokio::select! {
        () = done.cancelled() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Prints arrivals, and ends the command when enough were accepted or standard output is closed.
#[derive(Clone)]
struct Printer(Arc<PrinterState>);

struct PrinterState {
    output: Output,
    enough: Option<u64>,
    accepted: AtomicU64,
    failure: Mutex<Option<anyhow::Error>>,
    done: CancellationToken,
}

impl Printer {
    fn new(output: Output, enough: Option<u64>, done: CancellationToken) -> Self {
        Self(Arc::new(PrinterState {
            output,
            enough,
            accepted: AtomicU64::new(0),
            failure: Mutex::new(None),
            done,
        }))
    }

    fn print(&self, arrival: &Arrival) {
        let inner = &self.0;
        if let Err(error) = inner.output.result(arrival, || sentence(arrival)) {
            *inner.failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(error);
            inner.done.cancel();
            return;
        }
        let accepted = (200..300).contains(&arrival.status_answered);
        let count = inner
            .accepted
            .fetch_add(u64::from(accepted), Ordering::Relaxed)
            + u64::from(accepted);
        if inner.enough.is_some_and(|enough| count >= enough) {
            inner.done.cancel();
        }
    }

    fn finish(&self) -> Result<()> {
        let mut failure = self.0.failure.lock().unwrap_or_else(|e| e.into_inner());
        failure.take().map_or(Ok(()), Err)
    }
}

/// The field of an envelope that is shown.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    event_type: String,
}

fn sentence(arrival: &Arrival) -> String {
    let envelope = serde_json::from_str::<Envelope>(&arrival.body).ok();
    let what = envelope.map_or("no event type".into(), |envelope| {
        printable(&envelope.event_type)
    });
    let verified = match (arrival.verified, &arrival.problem) {
        (Some(true), _) => "verified".to_owned(),
        (_, Some(problem)) => format!("NOT VERIFIED: {problem}"),
        _ => "unverified".to_owned(),
    };
    let again = match arrival.repeat {
        0 => String::new(),
        repeat => format!(", arrival {} of this id", repeat + 1),
    };
    let id = arrival.id.as_deref().map_or("none".into(), printable);
    format!(
        "{}  {what}  {verified}, answered {}{again}\n  webhook-id {id}\n  {}",
        moment(arrival.at),
        arrival.status_answered,
        shortened(&arrival.body, BODY_CHARS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_secret_is_refused_without_being_repeated() {
        let problem = verification_key("whsec_hunter2").unwrap_err().to_string();
        assert!(problem.starts_with("--secret: "), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
        assert!(verification_key("whpk_aGk=").is_err());
        assert!(verification_key(&SigningSecret::generate().reveal()).is_ok());
    }

    #[test]
    fn arrivals_are_sentences_that_cannot_control_the_terminal() {
        let arrival = Arrival {
            at: Default::default(),
            id: Some("a\u{1b}[2J".into()),
            timestamp: None,
            verified: None,
            problem: None,
            repeat: 1,
            status_answered: 200,
            headers: Default::default(),
            body: "{\"type\":\"invoice.paid\"}".into(),
        };
        assert_eq!(
            sentence(&arrival),
            "1970-01-01T00:00:00Z  invoice.paid  unverified, answered 200, arrival 2 of this \
             id\n  webhook-id a [2J\n  {\"type\":\"invoice.paid\"}"
        );
    }
}
