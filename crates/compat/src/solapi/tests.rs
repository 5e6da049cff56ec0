//! What each route asks for; and signatures of fixed dates, under a clock that is set to them, the
//! whole way through a route.

use super::*;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, TimeDelta};
use postrider_api::{RegistrarParts, TestSender};
use postrider_core::{Access, Attempt, Hook, NewCredential, Proof, SharedSecret, TestClock};
use postrider_store::Backend;
use postrider_tests::TestStore;
use serde_json::Value;
use tower_service::Service;

const API_KEY: &str = "NCSTESTKEY000001";
const API_SECRET: &str = "TESTSECRET0000000000000000000001";

struct Nowhere;

#[async_trait]
impl TestSender for Nowhere {
    async fn send_test(&self, _: &Hook) -> Result<Attempt, String> {
        Err("not here".into())
    }

    async fn send_sample(&self, _: &Hook, _: &str, _: &str) -> Result<Attempt, String> {
        Err("not here".into())
    }
}

/// The routes at this moment, and the clock that they go by.
async fn at(store: &TestStore, moment: Timestamp) -> (Router, Arc<TestClock>) {
    let clock = Arc::new(TestClock::at(moment));
    let registrar = Registrar::new(RegistrarParts {
        store: store.store.clone(),
        clock: clock.clone(),
        tests: Arc::new(Nowhere),
    });
    (
        dialect(Settings::default().entries().into())
            .router()
            .with_state(Arc::new(registrar)),
        clock,
    )
}

async fn with_the_key_of_the_vectors() -> TestStore {
    let store = TestStore::on(Backend::Sqlite).await;
    let credential = NewCredential {
        system: NAME.into(),
        account: "12925149".into(),
        name: None,
        proof: Proof::Secret {
            id: API_KEY.into(),
            secret: SharedSecret::new(API_SECRET),
        },
        access: Access::default(),
    };
    let made = store.store.create_credential(credential, store.now()).await;
    made.unwrap();
    store
}

async fn asked(router: &mut Router, authorization: &str) -> (StatusCode, Value) {
    let request = Request::get("/webhook/v1/events")
        .header(header::AUTHORIZATION, authorization)
        .body(Body::empty())
        .unwrap();
    let response: Response = router.call(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await;
    (status, serde_json::from_slice(&body.unwrap()).unwrap())
}

fn vectors(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../../tests/data/vectors.json");
    let all: Value = serde_json::from_str(text).unwrap();
    let of_kind = |v: &&Value| v["system"] == "solapi" && v["kind"] == kind;
    all["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(of_kind)
        .cloned()
        .collect()
}

fn moment(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap().replace("+0900", "+09:00");
    DateTime::parse_from_rfc3339(&text).unwrap().to_utc()
}

#[tokio::test]
async fn a_signature_of_the_vectors_is_taken_once() {
    let store = with_the_key_of_the_vectors().await;
    let vectors = vectors("hmac");
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let header = vector["header"].as_str().unwrap();
        let date = moment(&vector["date"]);
        let (mut router, clock) = at(&store, date - TimeDelta::minutes(15)).await;
        let (status, body) = asked(&mut router, header).await;
        assert_eq!(status, 200, "{header} {body}");
        // As long as its date would be taken, which is longer than since it was.
        for minutes in [0, 15, 30] {
            clock.set(date + TimeDelta::minutes(minutes - 15));
            let (status, body) = asked(&mut router, header).await;
            assert_eq!(
                (status.as_u16(), &body["errorCode"]),
                (403, &"DuplicatedSignature".into())
            );
        }
    }
}

#[tokio::test]
async fn what_the_vectors_refuse_is_refused_and_not_remembered() {
    let store = with_the_key_of_the_vectors().await;
    let vectors = vectors("auth_reject");
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let header = vector["header"].as_str().unwrap();
        let (mut router, _) = at(&store, moment(&vector["server_clock"])).await;
        for _ in 0..2 {
            let (status, body) = asked(&mut router, header).await;
            let expected = &vector["expect"];
            assert_eq!(status.as_u16(), expected["status"], "{header}");
            match &expected["errorCode"] {
                Value::Null => assert_eq!(body["errorCode"], "SignatureDoesNotMatch"),
                code => assert_eq!(body["errorCode"], *code, "{header}"),
            }
            for key in expected["body_keys"].as_array().unwrap() {
                let text = body[key.as_str().unwrap()].as_str();
                assert!(text.is_some_and(|text| !text.is_empty()), "{body}");
            }
        }
    }
}

#[test]
fn each_route_asks_for_what_the_documents_say() {
    let all = Scope {
        writes: true,
        account: true,
        member: true,
        verified: true,
    };
    let looking = Scope {
        writes: false,
        member: false,
        ..all
    };
    let open = Scope {
        writes: false,
        account: false,
        member: false,
        verified: false,
    };
    let hooks = "/v1/outgoing";
    for (method, path, scope) in [
        (Method::POST, hooks, all),
        (Method::PUT, "/v1/outgoing/WH01", all),
        (Method::DELETE, "/v1/outgoing/events", all),
        (Method::POST, "/v1/outgoing-test", all),
        (Method::GET, hooks, looking),
        (Method::GET, "/v1/outgoing/WH01", looking),
        (Method::GET, "/v1/events", open),
    ] {
        let asked = routes_scope(&method, path);
        assert_eq!(asked, scope, "{method} {path}");
    }
}
