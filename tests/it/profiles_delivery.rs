//! What receivers of the profiles get, byte for byte, and how each profile handles each answer. The
//! vectors are in tests/data/vectors.json.

use crate::profile_vectors::{fields, text, vector};
use chrono::{TimeZone, Utc};
use postrider_compat::SystemSettings;
use postrider_core::{
    BasicAuth, EventId, HookEdit, HookId, HookStatus, NewEvent, NewHook, Phase, Span, sha1_hex,
};
use postrider_store::{Backend, DeliveryState, HookChange, HookReport};
use postrider_tests::{
    Answer, Manner, RawReceiver, Received, Receiver, TestApp, hook_defaults, hook_defaults_with,
    hook_to, on_both, start,
};
use postrider_worker::HookDefaults;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpSocket;

on_both!(
    solapi_gets_reports_in_an_array,
    solapi_gets_reports_in_envelopes_if_it_asks,
    thulium_gets_form_fields,
    thulium_gets_json_if_it_asks,
    thulium_gets_basic_credentials_at_once,
    misskey_gets_its_envelope,
    a_repeat_for_misskey_is_known_by_its_id,
    solapi_is_tried_for_two_days_and_made_inactive,
    misskey_is_tried_four_times_and_stays_active,
    each_profile_goes_on_in_its_own_way_after_each_answer,
    misskey_remembers_its_latest_answer,
    one_event_reaches_four_hooks_each_in_its_own_form,
    a_retry_goes_where_the_hook_points_by_then,
    header_names_are_written_as_each_service_writes_them,
);

const PROFILES: [&str; 4] = ["standard", "solapi", "thulium", "misskey"];

async fn header_names_are_written_as_each_service_writes_them(backend: Backend) {
    let app = TestApp::on(backend).await;
    let expected: [&[&str]; 4] = [
        &["host", "content-type", "webhook-id", "x-api-key"],
        &[
            "Host",
            "Content-Type",
            "X-Solapi-Event-Name",
            "X-Solapi-Secret",
        ],
        &["Host", "Content-Type", "Authorization"],
        &[
            "Host",
            "Content-Type",
            "User-Agent",
            "X-Misskey-Hook-Secret",
            "X-Misskey-Hook-Id",
        ],
    ];
    let mut receivers = Vec::new();
    for profile in PROFILES {
        let receiver = RawReceiver::that(Manner::Accept).await;
        let mut hook = of_profile(hook_to(&receiver.url()), profile);
        hook.credentials.token = match profile {
            "solapi" => Some(sha1_hex("s3cr3t")),
            "misskey" => Some("s3cr3t".into()),
            _ => None,
        };
        match profile {
            "standard" => {
                let own = ("X-API-Key".into(), "1".into());
                hook.credentials.headers.push(own);
            }
            "thulium" => {
                hook.credentials.basic = Some(BasicAuth {
                    user: "user".into(),
                    password: "password".into(),
                });
            }
            _ => {}
        }
        app.register(hook).await;
        receivers.push(receiver);
    }
    app.enqueue("reply").await;
    app.tick().await;
    for (receiver, names) in receivers.iter().zip(expected) {
        let head = receiver.heads().remove(0);
        let got: Vec<_> = head
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect();
        assert_eq!(got[0], names[0], "{head}");
        for name in names {
            assert!(got.contains(name), "{name} in {head}");
        }
    }
}

async fn solapi_gets_reports_in_an_array(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let vector = vector("solapi-delivery-single-report");
    let request = &vector["request"];
    let mut hook = hook_of("solapi", &receiver);
    hook.credentials.token = Some(sha1_hex(text(&request["registered_secret"])));
    app.register(hook).await;
    let report = request["json"][0].to_string();
    let name = text(&request["headers"]["X-Solapi-Event-Name"]);
    app.enqueue_all(&[NewEvent::from_json(name, report.clone()).unwrap()])
        .await;
    app.tick().await;
    let got = only(&receiver);
    for (header, value) in request["headers"].as_object().unwrap() {
        assert_eq!(got.header(header), text(value), "{header}");
    }
    assert_eq!(body(&got), format!("[{report}]"));
    assert_eq!(got.json(), request["json"]);
    for header in ["webhook-id", "webhook-signature", "authorization"] {
        assert!(!got.headers.contains_key(header), "{header}");
    }

    // Without a secret there is no header.
    let secretless = Receiver::accepting().await;
    app.register(hook_of("solapi", &secretless)).await;
    app.enqueue("GROUP-REPORT").await;
    app.tick().await;
    let got = only(&secretless);
    assert_eq!(got.header("x-solapi-event-name"), "GROUP-REPORT");
    assert!(!got.headers.contains_key("x-solapi-secret"));
}

async fn solapi_gets_reports_in_envelopes_if_it_asks(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500, 200]).await;
    let vector = vector("solapi-delivery-single-report-envelope");
    let expected = &vector["request"]["json"][0];
    app.register(with_setting(hook_of("solapi", &receiver), "envelope"))
        .await;
    let report = expected["data"].to_string();
    let report = NewEvent::from_json("SINGLE-REPORT", report).unwrap();
    let id = app.enqueue_all(&[report]).await[0];
    app.tick().await;
    app.advance(900);
    app.tick().await;
    let got = receiver.requests();
    assert_eq!(got.len(), 2);
    for (request, retries) in got.iter().zip([0, 1]) {
        let items = request.json();
        assert_eq!(items.as_array().unwrap().len(), 1);
        let item = &items[0];
        assert_eq!(keys(item), ["data", "eventDataId", "retryCount"]);
        assert_eq!(item["data"], expected["data"]);
        assert_eq!(item["eventDataId"], json!(id.to_string()));
        assert_eq!(item["retryCount"], retries);
    }
}

async fn thulium_gets_form_fields(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.register(hook_of("thulium", &receiver)).await;
    let names = [
        "thulium-delivery-customer-updated",
        "thulium-delivery-chat-conversation-created",
        "thulium-delivery-chat-agent-assigned",
    ];
    for name in names {
        let request = &vector(name)["request"];
        let raw = text(&request["raw"]);
        app.enqueue_all(&[published(raw)]).await;
        app.tick().await;
        let got = receiver.requests().pop().unwrap();
        assert_eq!(body(&got), raw, "{name}");
        assert_eq!(
            got.header("content-type"),
            text(&request["headers"]["Content-Type"])
        );
        for header in ["webhook-id", "authorization"] {
            assert!(!got.headers.contains_key(header), "{header}");
        }
    }
    assert_eq!(receiver.count(), names.len());
}

async fn thulium_gets_json_if_it_asks(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.register(with_setting(hook_of("thulium", &receiver), "json"))
        .await;
    let payload = r#"{"ticket_id": 12, "agent_login": null, "direction":"in_behalf_of"}"#;
    app.enqueue_all(&[NewEvent::from_json("TICKET_CREATED", payload.into()).unwrap()])
        .await;
    app.tick().await;
    let got = only(&receiver);
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(
        body(&got),
        r#"{"action":"TICKET_CREATED","ticket_id":12,"agent_login":null,"direction":"in_behalf_of"}"#
    );
}

async fn thulium_gets_basic_credentials_at_once(backend: Backend) {
    let app = TestApp::on(backend).await;
    let vector = vector("thulium-delivery-basic");
    let expected = text(&vector["header"]).strip_prefix("Authorization: ");
    let (user, password) = (text(&vector["user"]), text(&vector["password"]));
    // "użytkownik:" in UTF-8, and nothing at all when both are empty.
    for (user, password, header) in [
        (user, password, expected),
        ("użytkownik", "", Some("Basic dcW8eXRrb3duaWs6")),
        ("", "secret", Some("Basic OnNlY3JldA==")),
        ("", "", None),
    ] {
        let receiver = Receiver::accepting().await;
        let mut hook = hook_of("thulium", &receiver);
        hook.credentials.basic = Some(BasicAuth {
            user: user.into(),
            password: password.into(),
        });
        let hook = app.register(hook).await.id;
        app.enqueue("AGENT_RINGING").await;
        app.tick().await;
        let got = only(&receiver);
        let sent = got.headers.get("authorization");
        assert_eq!(sent.map(|value| value.to_str().unwrap()), header);
        app.store
            .remove_hook(hook, "test", app.now())
            .await
            .unwrap();
    }
}

async fn misskey_gets_its_envelope(backend: Backend) {
    let app = TestApp::with_hooks(backend, of_server("https://mi.example:3000")).await;
    let (receiver, secretless) = (Receiver::accepting().await, Receiver::accepting().await);
    let vector = vector("misskey-delivery-seed");
    let request = &vector["request"];
    let mut hook = hook_of("misskey", &receiver);
    let secret = text(&request["headers"]["X-Misskey-Hook-Secret"]);
    hook.credentials.token = Some(secret.into());
    let hook = app.register(hook).await;
    app.register(hook_of("misskey", &secretless)).await;
    let happened = Utc.timestamp_millis_opt(1_730_138_740_207).unwrap();
    let note = r#"{"note": {"id":"9zrajfd0cq2o01rz", "text": null}}"#;
    let reply = NewEvent::from_json("reply", note.into()).unwrap();
    app.enqueue_all(&[reply.occurred_at(happened)]).await;
    app.tick().await;

    let got = only(&receiver);
    for (header, value) in request["headers"].as_object().unwrap() {
        assert_eq!(got.header(header), text(value), "{header}");
    }
    let alias = hook.alias.unwrap();
    assert_eq!(got.header("user-agent"), "Misskey-Hooks");
    assert_eq!(got.header("x-misskey-host"), "mi.example:3000");
    assert_eq!(got.header("x-misskey-hook-id"), alias);
    let sent = got.json();
    let id = text(&sent["eventId"]);
    assert_eq!(
        body(&got),
        format!(
            r#"{{"server":"https://mi.example:3000","hookId":"{alias}","userId":"default","eventId":"{id}","createdAt":1730138740207,"type":"reply","body":{note}}}"#
        )
    );
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    assert!(!got.headers.contains_key("webhook-id"));

    // The header is there for an empty secret too, and the id is another one.
    let other = only(&secretless);
    assert_eq!(other.header("x-misskey-hook-secret"), "");
    assert_ne!(other.json()["eventId"], sent["eventId"]);
}

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

async fn one_event_reaches_four_hooks_each_in_its_own_form(backend: Backend) {
    let app = TestApp::on(backend).await;
    let mut hooks = Vec::new();
    for profile in PROFILES {
        let receiver = Receiver::answering([503, 200]).await;
        let hook = app.register(hook_of(profile, &receiver)).await.id;
        hooks.push((hook, receiver));
    }
    let note = NewEvent::from_json("note", r#"{"id":7,"text":"a b"}"#.into()).unwrap();
    let event = app.enqueue_all(&[note]).await[0];
    app.tick().await;
    let [standard, solapi, thulium, misskey] = [0, 1, 2, 3].map(|n| only(&hooks[n].1));
    assert_eq!(standard.id(), event.to_string());
    assert_eq!(standard.json()["data"], json!({"id": 7, "text": "a b"}));
    assert_eq!(body(&solapi), r#"[{"id":7,"text":"a b"}]"#);
    assert_eq!(body(&thulium), "action=note&id=7&text=a+b");
    assert_eq!(misskey.json()["body"], json!({"id": 7, "text": "a b"}));

    // The first wait of each schedule, with its jitter; a busy standard hook waits as a whole.
    for ((hook, _), (least, most)) in hooks.iter().zip([(4, 6), (900, 900), (4, 6), (60, 72)]) {
        let wait = wait_of(&app, event, *hook).await.as_secs_f64();
        assert!(
            (f64::from(least)..=f64::from(most)).contains(&wait),
            "{wait}"
        );
    }
    for ((hook, _), phase) in hooks.iter().zip([Some(Phase::BackedOff), None].repeat(2)) {
        assert_eq!(app.shown(*hook).await.phase, phase, "left alone as a whole");
    }
    for (seconds, counts) in [(10, [2, 1, 2, 1]), (65, [2, 1, 2, 2]), (830, [2; 4])] {
        app.advance(seconds);
        app.tick().await;
        let got: Vec<_> = hooks.iter().map(|(_, receiver)| receiver.count()).collect();
        assert_eq!(got, counts);
    }
    for (hook, _) in &hooks {
        assert_eq!(
            app.delivery(event, *hook).await.state,
            DeliveryState::Delivered
        );
    }
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

fn hook_of(profile: &str, receiver: &Receiver) -> NewHook {
    of_profile(hook_to(&receiver.url()), profile)
}

/// The hook as its profile's API would register it.
fn of_profile(hook: NewHook, profile: &str) -> NewHook {
    let mut hook = NewHook {
        profile: profile.into(),
        alias: hook_defaults()
            .profiles
            .named(profile)
            .unwrap()
            .alias
            .map(|form| form.draw(start())),
        ..hook
    };
    if hook.alias.is_some() {
        hook.credentials.secrets.clear();
    }
    hook
}

fn with_setting(mut hook: NewHook, format: &str) -> NewHook {
    hook.settings.profile.insert("format".into(), format.into());
    hook
}

fn of_server(url: &str) -> HookDefaults {
    let mut systems = SystemSettings::default();
    systems.misskey.server_url = Some(url.to_owned());
    hook_defaults_with(&systems)
}

/// The event that Thulium's form stands for, as an application publishes it.
fn published(form: &str) -> NewEvent {
    let mut fields = fields(form).into_iter();
    let (_, action) = fields.next().unwrap();
    let members = fields.map(|(name, value)| {
        let value = match value.as_str() {
            "null" => Value::Null,
            number if number.parse::<u64>().is_ok() => serde_json::from_str(number).unwrap(),
            text => text.into(),
        };
        format!("{}: {value}", Value::from(name))
    });
    let members: Vec<_> = members.collect();
    NewEvent::from_json(action, format!("{{{}}}", members.join(", "))).unwrap()
}

fn active() -> HookEdit {
    HookEdit {
        status: Some(HookStatus::Active),
        ..HookEdit::default()
    }
}

async fn edited(app: &TestApp, hook: HookId, edit: HookEdit) -> HookReport {
    let change = HookChange::Edit(Box::new(edit));
    let changed = app.store.change_hook(hook, change, "test", app.now()).await;
    changed.expect("change the hook")
}

/// The one request that came.
fn only(receiver: &Receiver) -> Received {
    let mut requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

fn body(request: &Received) -> &str {
    std::str::from_utf8(&request.body).expect("text")
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

async fn wait_of(app: &TestApp, event: EventId, hook: HookId) -> Duration {
    let next = app.delivery(event, hook).await.next_attempt_at;
    let wait = next.expect("it waits") - app.now();
    wait.to_std().expect("it is not due")
}

async fn ended(app: &TestApp, event: EventId, hook: HookId) -> (DeliveryState, String) {
    let delivery = app.delivery(event, hook).await;
    (delivery.state, delivery.reason.unwrap_or_default())
}
