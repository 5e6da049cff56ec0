//! The table "Answer by answer" of docs/deliveries.md, tried row by row.

use postrider_core::{DeliveryId, EventId, HookId, Phase, RetrySchedule, Span, Timestamp};
use postrider_store::{AttemptReport, Backend, DeliveryState};
use postrider_tests::{
    Answer, Authority, Manner, Postrider, RawReceiver, Receiver, TestApp, eventually, hook_to,
    on_both,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::net::TcpSocket;

on_both!(
    the_table_holds_for_every_answer,
    the_table_holds_for_every_certificate,
);

const PAGE: &str = include_str!("../../docs/deliveries.md");
const HEADING: &str = "## Answer by answer";

/// What the rows about certificates begin with.
const CERTIFICATE: [&str; 2] = ["has a certificate", "has a valid certificate"];

/// One row of the table.
#[derive(Debug)]
struct Row {
    receiver: String,
    recorded: String,
    delivery: String,
    hook: String,
}

/// Who is called for a row, kept for as long as the row is tried.
struct Called {
    url: String,
    /// The deadline, for those who use it up.
    timeout: Option<Span>,
    server: Server,
}

enum Server {
    Web(Receiver),
    Raw(RawReceiver),
    /// A port that is taken, where nobody listens.
    Deaf {
        _socket: TcpSocket,
    },
    Nobody,
}

async fn the_table_holds_for_every_answer(backend: Backend) {
    let app = TestApp::on(backend).await;
    let elsewhere = Receiver::accepting().await;
    let rows = rows().into_iter().filter(|row| !row.is_of_certificates());
    let mut tried = Vec::new();
    for row in rows {
        let called = called(&row.receiver, app.now(), &elsewhere).await;
        let mut hook = hook_to(&called.url);
        hook.settings.timeout = called.timeout;
        tried.push((row, app.register(hook).await.id, called.server));
    }
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;

    let settled_at = app.now()..=app.now();
    for (row, hook, server) in tried {
        row.holds(&app, event, hook, settled_at.clone()).await;
        match server {
            Server::Web(receiver) => assert_eq!(receiver.count(), 1, "{row:?}"),
            Server::Raw(receiver) => receiver.wait_until_closed().await,
            Server::Deaf { .. } | Server::Nobody => {}
        }
    }
    assert_eq!(elsewhere.count(), 0, "a redirect is not followed");
}

async fn the_table_holds_for_every_certificate(backend: Backend) {
    let app = TestApp::on(backend).await;
    let (trusted, stranger) = (Authority::named("trusted"), Authority::named("stranger"));
    let servers = BTreeMap::from([
        (
            "has a valid certificate, and answers 200",
            trusted.server("localhost", 2999),
        ),
        (
            "has a valid certificate, offers HTTP/2 and HTTP/1.1, and answers 200 by HTTP/1.1",
            trusted.server_of("localhost", 2999, &["h2", "http/1.1"]),
        ),
        (
            "has a valid certificate, answers 200, and closes the connection without `close_notify`",
            trusted.server("localhost", 2999),
        ),
        (
            "has a certificate for another name",
            trusted.server("elsewhere.example", 2999),
        ),
        (
            "has a certificate that has expired",
            trusted.server("localhost", 2001),
        ),
        (
            "has a certificate of an unknown authority",
            stranger.server("localhost", 2999),
        ),
    ]);
    let rows = rows().into_iter().filter(Row::is_of_certificates);
    let mut tried = Vec::new();
    for row in rows {
        let tls = servers.get(row.receiver.as_str());
        let tls = tls.unwrap_or_else(|| panic!("nobody to try {row:?} with"));
        let manner = match row.receiver.contains("closes the connection") {
            true => Manner::EndByClosing,
            false => Manner::Accept,
        };
        let receiver = RawReceiver::over_tls(manner, tls.clone()).await;
        let hook = app.register(hook_to(&receiver.tls_url())).await.id;
        tried.push((row, hook, receiver));
    }
    assert_eq!(tried.len(), servers.len(), "a row is missing");
    let event = app.enqueue("invoice.paid").await;

    // The roots that a process trusts are read from its environment.
    let postrider = Postrider::on(&app.database);
    let roots = trusted.write(postrider.folder());
    let postrider = postrider.with("SSL_CERT_FILE", roots.to_string_lossy());
    let _worker = postrider.serve().await;
    eventually(async || {
        for (row, hook, _) in &tried {
            // There is none before the event is fanned out.
            let attempts = app.store.attempts(DeliveryId::of(event, *hook)).await;
            if attempts.unwrap_or_default().is_empty() {
                return Err(format!("no attempt for {row:?}"));
            }
        }
        Ok(())
    })
    .await;
    for (row, hook, _) in &tried {
        let at = app.attempts(event, *hook).await[0].at;
        let settled_at = at..=at + Duration::from_secs(60);
        row.holds(&app, event, *hook, settled_at).await;
    }
}

/// Who behaves as a row says.
async fn called(receiver: &str, now: Timestamp, elsewhere: &Receiver) -> Called {
    let ten_minutes_ahead = (now + Duration::from_secs(600))
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let after = |status, wait: &str| Answer::from(status).header("retry-after", wait);
    let manner = match receiver {
        "answers 301 with a `Location`" => {
            return web(Answer::from(301).header("location", elsewhere.url())).await;
        }
        "answers 429 with `Retry-After: 120`" => return web(after(429, "120")).await,
        "answers 429 with `Retry-After: 86400`" => return web(after(429, "86400")).await,
        "answers 503 with a date in `Retry-After`, 10 minutes ahead" => {
            return web(after(503, &ten_minutes_ahead)).await;
        }
        "closes the connection without an answer" => Manner::Close,
        "resets the connection within the body of a 200" => Manner::ResetMidBody(200),
        "resets the connection within the body of a 503" => Manner::ResetMidBody(503),
        "answers 200 with malformed headers" => Manner::MalformedHeaders,
        "sends headers a byte at a time, past the deadline" => Manner::DripHeaders,
        "sends the body of a 200 a byte at a time, past the deadline" => Manner::DripBody,
        "answers 200 with a body of 10 GB" => Manner::Flood,
        "answers 200 with a gzip bomb" => Manner::GzipBomb,
        "does not listen" => {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket
                .bind(([127, 0, 0, 1], 0).into())
                .expect("a free port");
            let address = socket.local_addr().expect("the port");
            return Called {
                url: format!("http://{address}/"),
                timeout: None,
                server: Server::Deaf { _socket: socket },
            };
        }
        "has a name that does not exist" => {
            return Called {
                url: "http://nobody.invalid/".into(),
                timeout: None,
                server: Server::Nobody,
            };
        }
        _ => {
            let status = receiver.strip_prefix("answers ").map(str::parse::<u16>);
            let Some(Ok(status)) = status else {
                panic!("nobody to try {receiver:?} with");
            };
            return web(status.into()).await;
        }
    };
    let receiver = RawReceiver::that(manner).await;
    let dawdles = matches!(manner, Manner::DripHeaders | Manner::DripBody);
    Called {
        url: receiver.url(),
        timeout: dawdles.then(|| Span::millis(500)),
        server: Server::Raw(receiver),
    }
}

async fn web(answer: Answer) -> Called {
    let receiver = Receiver::answering([answer]).await;
    Called {
        url: receiver.url(),
        timeout: None,
        server: Server::Web(receiver),
    }
}

/// The rows of the table, at least as many as there were once.
fn rows() -> Vec<Row> {
    let (_, section) = PAGE.split_once(HEADING).expect("the section");
    let table = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = table.skip(2).map(Row::parse).collect();
    assert!(rows.len() >= 30, "rows are missing: {rows:#?}");
    rows
}

impl Row {
    fn parse(line: &str) -> Self {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [receiver, recorded, delivery, hook] = cells[..] else {
            panic!("four cells: {line}");
        };
        let plain = |text: &str| text.replace('`', "");
        Self {
            receiver: receiver.into(),
            recorded: plain(recorded),
            delivery: plain(delivery),
            hook: plain(hook),
        }
    }

    fn is_of_certificates(&self) -> bool {
        CERTIFICATE
            .iter()
            .any(|begin| self.receiver.starts_with(begin))
    }

    /// Checks every cell after the one attempt there was, settled within this time.
    async fn holds(
        &self,
        app: &TestApp,
        event: EventId,
        hook: HookId,
        settled_at: RangeInclusive<Timestamp>,
    ) {
        let attempts = app.attempts(event, hook).await;
        assert_eq!(attempts.len(), 1, "{self:?}: {attempts:?}");
        self.is_recorded(&attempts[0]);

        let delivery = app.delivery(event, hook).await;
        let wait = match self.delivery.as_str() {
            "delivered" | "failed (gone)" => None,
            "retried by the schedule" => {
                RetrySchedule::default().delay_after(DeliveryId::of(event, hook), 1)
            }
            retried => {
                let seconds = retried
                    .strip_prefix("retried after ")
                    .and_then(|rest| rest.strip_suffix(" s")?.parse().ok());
                Some(Duration::from_secs(seconds.expect("a wait in seconds")))
            }
        };
        let (state, reason) = match (wait, self.delivery.as_str()) {
            (Some(_), _) => (DeliveryState::Pending, None),
            (None, "delivered") => (DeliveryState::Delivered, None),
            (None, _) => (DeliveryState::Failed, Some("gone")),
        };
        assert_eq!(delivery.state, state, "{self:?}");
        assert_eq!(delivery.reason.as_deref(), reason, "{self:?}");
        if let Some(wait) = wait {
            let next = delivery.next_attempt_at.expect("a next attempt");
            let settled = next - wait;
            assert!(settled_at.contains(&settled), "{self:?}: {next} ({wait:?})");
        }

        let shown = app.shown(hook).await;
        let (status, why, failures) = match self.hook.as_str() {
            "nothing" => ("active", None, 0),
            "counted" | "throttled" => ("active", None, 1),
            "disabled (gone)" => ("disabled", Some("gone"), 1),
            other => panic!("what is {other:?}?"),
        };
        assert_eq!(shown.status, status, "{self:?}");
        assert_eq!(shown.disabled_reason.as_deref(), why, "{self:?}");
        assert_eq!(shown.fail_count, failures, "{self:?}");
        let backed_off = shown.phase == Some(Phase::BackedOff);
        assert_eq!(backed_off, self.hook == "throttled", "{self:?}");
    }

    fn is_recorded(&self, attempt: &AttemptReport) {
        let recorded = match attempt.status {
            Some(status) => format!("{} {status}", attempt.outcome),
            None => attempt.outcome.clone(),
        };
        assert_eq!(recorded, self.recorded, "{self:?}: {attempt:?}");
        let response = attempt.response.as_deref().unwrap_or_default();
        let error = attempt.error.as_deref().unwrap_or_default();
        match self.receiver.as_str() {
            "answers 200 with a body of 10 GB" => {
                assert_eq!(response, "x".repeat(16 * 1024));
            }
            // The bytes that came, those that are not UTF-8 replaced.
            "answers 200 with a gzip bomb" => {
                assert!(response.starts_with("\u{1f}\u{fffd}\u{8}"), "{response:?}");
                assert_eq!(response.chars().count(), 16 * 1024);
            }
            // Each is refused for its own reason.
            "has a certificate for another name" => {
                assert!(error.contains("not valid for name"), "{error}");
            }
            "has a certificate that has expired" => assert!(error.contains("expired"), "{error}"),
            "has a certificate of an unknown authority" => {
                assert!(error.contains("UnknownIssuer"), "{error}");
            }
            _ => {}
        }
    }
}
