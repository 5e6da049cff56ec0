//! What receivers of the profiles get, byte for byte. The vectors are in tests/data/vectors.json.

use crate::profile_hooks::{PROFILES, hook_of, of_profile, wait_of};
use crate::profile_vectors::{fields, text, vector};
use chrono::{TimeZone, Utc};
use postrider_compat::SystemSettings;
use postrider_core::{BasicAuth, NewEvent, NewHook, Phase, sha1_hex};
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{
    Manner, RawReceiver, Received, Receiver, TestApp, hook_defaults_with, hook_to, on_both,
};
use postrider_worker::HookDefaults;
use serde_json::{Value, json};

on_both!(
    solapi_gets_reports_in_an_array,
    solapi_gets_reports_in_envelopes_if_it_asks,
    thulium_gets_form_fields,
    thulium_gets_json_if_it_asks,
    thulium_gets_basic_credentials_at_once,
    misskey_gets_its_envelope,
    one_event_reaches_four_hooks_each_in_its_own_form,
    header_names_are_written_as_each_service_writes_them,
);

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

async fn one_event_reaches_four_hooks_each_in_its_own_form(backend: Backend) {
    let app = TestApp::on(backend).await;
    let mut hooks = Vec::new();
    for profile in PROFILES {
        let receiver = Receiver::answering([429, 200]).await;
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
