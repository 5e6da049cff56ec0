//! How each profile handles each answer. The vectors are in tests/data/vectors.json.

use crate::profile_hooks::{PROFILES, edited, hook_of, of_profile, wait_of};
use crate::profile_vectors::{text, vector};
use postrider_core::{EventId, HookEdit, HookId, HookStatus, Span};
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{Answer, Manner, RawReceiver, Receiver, TestApp, hook_to, on_both};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpSocket;

on_both!(
    a_repeat_for_misskey_is_known_by_its_id,
    solapi_is_tried_for_two_days_and_made_inactive,
    misskey_is_tried_four_times_and_stays_active,
    each_profile_goes_on_in_its_own_way_after_each_answer,
    misskey_remembers_its_latest_answer,
    a_retry_goes_where_the_hook_points_by_then,
);

async fn a_repeat_for_misskey_is_known_by_its_id(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500, 200]).await;
    let hook = app.register(hook_of("misskey", &receiver)).await.id;
    let event = app.enqueue("note").await;
    app.tick().await;
    app.advance(72);
    app.tick().await;
    let got = receiver.requests();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].body, got[1].body);
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Delivered
    );
}

async fn solapi_is_tried_for_two_days_and_made_inactive(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([Answer::from(503).header("retry-after", "7")]).await;
    let hook = app.register(hook_of("solapi", &receiver)).await.id;
    let event = app.enqueue("SINGLE-REPORT").await;
    app.tick().await;
    let schedule = vector("solapi-retry-schedule");
    let delays = schedule["delays_s"].as_array().unwrap();
    for (attempts, delay) in (1..).zip(delays) {
        let delay = delay.as_u64().unwrap();
        assert_eq!(app.shown(hook).await.fail_count, attempts);
        assert_eq!(wait_of(&app, event, hook).await, Duration::from_secs(delay));
        app.advance(delay - 1);
        app.tick().await;
        assert_eq!(receiver.count(), attempts as usize, "not a second before");
        app.advance(1);
        app.tick().await;
        assert_eq!(receiver.count(), attempts as usize + 1);
    }
    let total = schedule["attempts_total"].as_u64().unwrap();
    assert_eq!(receiver.count() as u64, total);
    assert_eq!(
        ended(&app, event, hook).await,
        (DeliveryState::Failed, "exhausted".into())
    );
    let shown = app.shown(hook).await;
    assert_eq!(shown.status, "disabled");
    assert_eq!(shown.disabled_reason.as_deref(), Some("failures"));
    assert_eq!(u64::from(shown.fail_count), total);

    // What comes meanwhile is held, and goes on when the registrant makes it active again.
    let held = app.enqueue("SINGLE-REPORT").await;
    app.tick().await;
    assert_eq!(app.delivery(held, hook).await.state, DeliveryState::Held);
    receiver.answer([200]);
    let active = edited(&app, hook, active()).await;
    assert_eq!((active.fail_count, active.status.as_str()), (0, "active"));
    app.tick().await;
    assert_eq!(
        app.delivery(held, hook).await.state,
        DeliveryState::Delivered
    );
}

async fn misskey_is_tried_four_times_and_stays_active(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([503]).await;
    let hook = app.register(hook_of("misskey", &receiver)).await.id;
    let event = app.enqueue("note").await;
    app.tick().await;
    let schedule = vector("misskey-retry-schedule");
    for window in schedule["delay_windows_s"].as_array().unwrap() {
        let [least, most] = [0, 1].map(|end| Duration::from_secs(window[end].as_u64().unwrap()));
        let wait = wait_of(&app, event, hook).await;
        assert!((least..=most).contains(&wait), "{wait:?} in {window}");
        app.clock.advance(wait);
        app.tick().await;
    }
    assert_eq!(
        receiver.count() as u64,
        schedule["attempts_total"].as_u64().unwrap()
    );
    assert_eq!(
        ended(&app, event, hook).await,
        (DeliveryState::Failed, "exhausted".into())
    );
    let shown = app.shown(hook).await;
    assert_eq!((shown.status.as_str(), shown.phase), ("active", None));
}

/// What an answer leads to: the state of the delivery with the reason of its end, and whether
/// its hook is still active.
type Led = (DeliveryState, Option<&'static str>, bool);

const TAKEN: Led = (DeliveryState::Delivered, None, true);
const RETRIED: Led = (DeliveryState::Pending, None, true);
const DROPPED: Led = (DeliveryState::Failed, Some("refused"), true);
const GONE: Led = (DeliveryState::Failed, Some("gone"), false);

async fn each_profile_goes_on_in_its_own_way_after_each_answer(backend: Backend) {
    let app = TestApp::on(backend).await;
    // In the order of `PROFILES`.
    let table = [
        ("200", [TAKEN; 4]),
        ("204", [TAKEN; 4]),
        ("301", [RETRIED; 4]),
        ("400", [RETRIED, RETRIED, RETRIED, DROPPED]),
        ("404", [RETRIED, RETRIED, RETRIED, DROPPED]),
        ("410", [GONE, RETRIED, GONE, DROPPED]),
        ("429", [RETRIED; 4]),
        ("500", [RETRIED; 4]),
        ("503", [RETRIED; 4]),
        ("closes", [RETRIED; 4]),
        ("is slow", [RETRIED; 4]),
        ("does not listen", [RETRIED; 4]),
        ("has no address", [RETRIED; 4]),
    ];
    let mut tried = Vec::new();
    let mut servers = Vec::new();
    for (answer, leads_to) in table {
        for (profile, led) in PROFILES.iter().zip(leads_to) {
            let called = called(answer).await;
            let mut hook = of_profile(hook_to(&called.url), profile);
            hook.settings.timeout = called.timeout;
            let hook = app.register(hook).await.id;
            tried.push((*profile, answer, hook, led));
            servers.push(called);
        }
    }
    let event = app.enqueue("note").await;
    app.tick().await;
    for (profile, answer, hook, (state, reason, active)) in tried {
        let delivery = app.delivery(event, hook).await;
        let shown = app.shown(hook).await;
        let told = format!("{profile} after {answer}: {delivery:?}");
        assert_eq!(
            (delivery.state, delivery.reason.as_deref()),
            (state, reason),
            "{told}"
        );
        assert_eq!(delivery.attempts, 1, "{told}");
        assert_eq!(shown.status == "active", active, "{told}");
        assert_eq!(
            u32::from(state != DeliveryState::Delivered),
            shown.fail_count,
            "{told}"
        );
    }
}

async fn misskey_remembers_its_latest_answer(backend: Backend) {
    let app = TestApp::on(backend).await;
    let vector = vector("misskey-outcome-table");
    let mut tried = Vec::new();
    let mut servers = Vec::new();
    for case in vector["cases"].as_array().unwrap() {
        let called = called(text(&case["answer"])).await;
        let mut hook = of_profile(hook_to(&called.url), "misskey");
        hook.settings.timeout = called.timeout;
        let hook = app.register(hook).await;
        assert_eq!(hook.latest_sent_at, None);
        tried.push((case, hook.id));
        servers.push(called);
    }
    let standard = Receiver::accepting().await;
    let standard = app.hook(&standard).await;
    let event = app.enqueue("note").await;
    app.tick().await;
    for (case, hook) in tried {
        let shown = app.shown(hook).await;
        assert_eq!(shown.latest_sent_at, Some(app.now()), "{case}");
        // Where Misskey says 1 there was no answer.
        let status = case["latestStatus"].as_u64().filter(|status| *status != 1);
        assert_eq!(shown.latest_status.map(u64::from), status, "{case}");
        let retried = app.delivery(event, hook).await.state == DeliveryState::Pending;
        assert_eq!(json!(retried), case["retry"], "{case}");
    }
    assert_eq!(app.shown(standard).await.latest_sent_at, None);
}

async fn a_retry_goes_where_the_hook_points_by_then(backend: Backend) {
    // Misskey's retries do not: see kept_targets.rs.
    for profile in ["standard", "solapi", "thulium"] {
        let app = TestApp::on(backend).await;
        let (old, new) = (
            Receiver::answering([500]).await,
            Receiver::accepting().await,
        );
        let hook = app.register(hook_of(profile, &old)).await.id;
        app.enqueue("note").await;
        app.tick().await;
        let moved = HookEdit {
            url: Some(new.url()),
            token: Some(Some("changed".into())),
            ..HookEdit::default()
        };
        edited(&app, hook, moved).await;
        app.advance(1_000);
        app.tick().await;
        assert_eq!((old.count(), new.count()), (1, 1), "{profile}");
    }
}

/// Who is called, kept for as long as it is to answer.
struct Called {
    url: String,
    /// The deadline, for one that uses it up.
    timeout: Option<Span>,
    _server: Server,
}

enum Server {
    Web {
        _receiver: Receiver,
    },
    Raw {
        _receiver: RawReceiver,
    },
    /// A port that is taken, where nobody listens.
    Deaf {
        _socket: TcpSocket,
    },
    Nobody,
}

async fn called(answer: &str) -> Called {
    let mut timeout = None;
    let (url, server) = match answer {
        "closes" => {
            let receiver = RawReceiver::that(Manner::Close).await;
            (
                receiver.url(),
                Server::Raw {
                    _receiver: receiver,
                },
            )
        }
        "is slow" | "no answer within 5 s" => {
            timeout = Some(Span::millis(100));
            let late = Answer::from(200).after(Duration::from_secs(30));
            let receiver = Receiver::answering([late]).await;
            (
                receiver.url(),
                Server::Web {
                    _receiver: receiver,
                },
            )
        }
        "does not listen" | "connection refused" => {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let url = format!("http://{}/", socket.local_addr().unwrap());
            (url, Server::Deaf { _socket: socket })
        }
        "has no address" | "name not found" => ("http://nobody.invalid/".into(), Server::Nobody),
        status => {
            let status: u16 = status.parse().unwrap();
            let receiver = Receiver::answering([status]).await;
            (
                receiver.url(),
                Server::Web {
                    _receiver: receiver,
                },
            )
        }
    };
    Called {
        url,
        timeout,
        _server: server,
    }
}

fn active() -> HookEdit {
    HookEdit {
        status: Some(HookStatus::Active),
        ..HookEdit::default()
    }
}

async fn ended(app: &TestApp, event: EventId, hook: HookId) -> (DeliveryState, String) {
    let delivery = app.delivery(event, hook).await;
    (delivery.state, delivery.reason.unwrap_or_default())
}
