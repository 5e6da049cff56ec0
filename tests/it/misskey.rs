//! Misskey's API from outside: its routes, its refusals, and its own client.

use crate::profile_vectors::{text, vector};
use postrider_store::Backend;
use postrider_tests::{
    Postrider, Process, Receiver, Registrant, Reply, TestDatabase, ended, eventually, node, on_both,
};
use serde_json::{Value, json};

on_both!(
    hooks_are_registered_listed_changed_and_deleted,
    misskeys_own_client_is_understood,
    refusals_have_misskeys_codes,
    a_user_has_no_more_hooks_than_allowed,
    a_hook_is_paused_and_goes_on,
    a_test_is_sent_once_whatever_the_hook_asks_for,
    what_a_token_may_not_do_is_refused_in_misskeys_order,
);

const USER: &str = "9vaew1esmfme0001";
const CREATE: &str = "/api/i/webhooks/create";
const LIST: &str = "/api/i/webhooks/list";
const SHOW: &str = "/api/i/webhooks/show";
const UPDATE: &str = "/api/i/webhooks/update";
const DELETE: &str = "/api/i/webhooks/delete";
const TEST: &str = "/api/i/webhooks/test";

struct Setting {
    // Dropped in this order: first who uses the database.
    caller: Registrant,
    serving: Process,
    postrider: Postrider,
    _database: TestDatabase,
}

async fn setting(backend: Backend) -> Setting {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve().await;
    let caller = Registrant::of(&postrider, &serving, "misskey", USER).await;
    Setting {
        caller,
        serving,
        postrider,
        _database: database,
    }
}

impl Setting {
    /// The answer to a call with the token in the body, as Misskey's client sends it.
    async fn call(&self, path: &str, mut body: Value) -> Reply {
        body["i"] = json!(self.caller.part("token"));
        let json = [("content-type", "application/json")];
        self.caller
            .send("POST", path, &json, &body.to_string())
            .await
    }

    async fn register(&self, url: &str, on: &[&str]) -> String {
        let body = json!({"name": "hook", "url": url, "secret": "s3cr3t", "on": on});
        text(&answered(&self.call(CREATE, body).await)["id"]).to_owned()
    }

    async fn shown(&self, id: &str) -> Value {
        answered(&self.call(SHOW, json!({"webhookId": id})).await)
    }
}

async fn hooks_are_registered_listed_changed_and_deleted(backend: Backend) {
    let t = setting(backend).await;
    let created = vector("misskey-create");
    let reply = t
        .call(
            text(&created["request"]["path"]),
            created["request"]["json"].clone(),
        )
        .await;
    let made = answered(&reply);
    let id = text(&made["id"]).to_owned();
    assert!(
        id.len() == 16
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    );
    let mut expected = created["response"]["json"].clone();
    (expected["id"], expected["userId"]) = (json!(id), json!(USER));
    assert_eq!(made, expected);
    let places: Vec<_> = created["response"]["key_order"]
        .as_array()
        .expect("names")
        .iter()
        .map(|key| reply.body.find(&format!("{key}:")).expect("the member"))
        .collect();
    assert!(places.is_sorted(), "{}", reply.body);

    // With the token in the header, the body needs none.
    let listed = vector("misskey-list");
    let path = text(&listed["request"]["path"]);
    assert_eq!(
        answered(&t.caller.call("POST", path, &json!({})).await),
        json!([made])
    );
    assert_eq!(
        answered(&t.caller.call("POST", path, &Value::Null).await),
        json!([made])
    );
    let young = t.register("https://example.com/young", &[]).await;
    let ids: Vec<_> = answered(&t.call(LIST, json!({})).await)
        .as_array()
        .expect("a list")
        .iter()
        .map(|hook| text(&hook["id"]).to_owned())
        .collect();
    assert_eq!(ids, [id.clone(), young.clone()]);

    let updated = vector("misskey-update-204");
    let mut body = updated["request"]["json"].clone();
    body["webhookId"] = json!(id);
    nothing(&t.call(text(&updated["request"]["path"]), body).await);
    let shown = t.shown(&id).await;
    for (name, value) in updated["then"]["show_subset"]
        .as_object()
        .expect("an object")
    {
        assert_eq!(shown[name], *value, "{name}");
    }
    for name in ["name", "url", "on", "userId", "latestSentAt"] {
        assert_eq!(shown[name], made[name], "{name} stays");
    }
    let body = json!({"webhookId": id, "name": "other", "url": "https://example.com/other",
                      "secret": "new", "on": ["reaction"], "active": true});
    nothing(&t.call(UPDATE, body).await);
    let shown = t.shown(&id).await;
    assert_eq!(
        shown,
        json!({"id": id, "userId": USER, "name": "other", "on": ["reaction"],
               "url": "https://example.com/other", "secret": "new", "active": true,
               "latestSentAt": null, "latestStatus": null})
    );

    let deleted = vector("misskey-delete-204");
    let mut body = deleted["request"]["json"].clone();
    body["webhookId"] = json!(id);
    nothing(&t.call(text(&deleted["request"]["path"]), body).await);
    let left = answered(&t.call(LIST, json!({})).await);
    assert_eq!(left[0]["id"], young);
    assert_eq!(left.as_array().map(Vec::len), Some(1));
}

async fn misskeys_own_client_is_understood(backend: Backend) {
    let t = setting(backend).await;
    let receiver = Receiver::accepting().await;
    let mut client = node("misskey_client.mjs");
    client.args([&t.caller.url(""), t.caller.part("token"), &receiver.url()]);
    let said = ended(&mut client).await.succeeded().stdout;
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [made, listed, updated, shown, tested, refused, deleted] = lines.as_slice() else {
        panic!("{said}");
    };
    assert_eq!(made["userId"], USER);
    assert_eq!(listed, &json!([made]));
    assert_eq!(
        (updated, tested, deleted),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(shown["active"], false);
    assert_eq!(refused["code"], "NO_SUCH_WEBHOOK");
    assert_eq!(receiver.count(), 1);
}

async fn refusals_have_misskeys_codes(backend: Backend) {
    let t = setting(backend).await;
    for id in [
        "misskey-error-no-such-show",
        "misskey-error-no-such-update",
        "misskey-error-no-such-test",
        "misskey-error-credential-required",
        "misskey-error-auth-failed",
    ] {
        let vector = vector(id);
        let (request, response) = (&vector["request"], &vector["response"]);
        let mut body = request["json"].clone();
        if body["i"] == "TOKEN" {
            body["i"] = json!(t.caller.part("token"));
        }
        let json = [("content-type", "application/json")];
        let path = text(&request["path"]);
        let reply = t.caller.send("POST", path, &json, &body.to_string()).await;
        assert_eq!(
            Value::from(reply.status),
            response["status"],
            "{id} {reply:?}"
        );
        assert_eq!(reply.json(), response["json"], "{id}");
        let challenge = reply.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer realm=\"Misskey\""),
            "{challenge}"
        );
    }
    let refusal = t
        .call(DELETE, json!({"webhookId": "9wahlb3v36ut0004"}))
        .await;
    told(&refusal, 400, "NO_SUCH_WEBHOOK");
    assert_eq!(
        refusal.json()["error"]["id"],
        "bae73e5a-5522-4965-ae19-3a8688e71d82"
    );

    for (path, body, param) in [
        (CREATE, json!({"name": "n", "on": []}), "#/required"),
        (
            CREATE,
            json!({"name": "n", "url": "https://example.com", "on": ["like"]}),
            "#/properties/on/items/enum",
        ),
        (
            CREATE,
            json!({"name": "n", "url": "example.com", "on": []}),
            "#/properties/url/format",
        ),
        (
            CREATE,
            json!({"name": "n", "url": "https://example.com", "on": [], "secret": "a\nb"}),
            "#/properties/secret/pattern",
        ),
        (SHOW, json!({}), "#/required"),
        (
            SHOW,
            json!({"webhookId": "../x"}),
            "#/properties/webhookId/format",
        ),
        (
            UPDATE,
            json!({"webhookId": "a", "active": "yes"}),
            "#/properties/active/type",
        ),
        (
            TEST,
            json!({"webhookId": "a", "type": "like"}),
            "#/properties/type/enum",
        ),
        (
            TEST,
            json!({"webhookId": "a", "type": "note", "override": {"url": 1}}),
            "#/properties/override/properties/url/type",
        ),
    ] {
        let reply = t.call(path, body).await;
        told(&reply, 400, "INVALID_PARAM");
        let error = &reply.json()["error"];
        assert_eq!(error["info"]["param"], param);
        assert!(!text(&error["info"]["reason"]).is_empty());
    }
    let token = t.caller.authorization();
    let by_header = [("authorization", token.as_str())];
    told(
        &t.caller.send("POST", LIST, &by_header, "{").await,
        400,
        "INVALID_PARAM",
    );
    let unspeakable = t.caller.send("POST", LIST, &[], r#"{"i":7}"#).await;
    assert_eq!((unspeakable.status, unspeakable.body.as_str()), (400, ""));
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000));
    told(
        &t.caller.send("POST", LIST, &[], &large).await,
        413,
        "INVALID_PARAM",
    );
    let shouted = [("authorization", token.replace("Bearer", "bearer"))];
    let shouted = shouted
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    told(
        &t.caller.send("POST", LIST, &shouted, "").await,
        401,
        "CREDENTIAL_REQUIRED",
    );

    told(
        &t.call("/api/i/webhooks/nothing", json!({})).await,
        404,
        "UNKNOWN_API_ENDPOINT",
    );
    told(
        &t.call("/api/meta", json!({})).await,
        404,
        "UNKNOWN_API_ENDPOINT",
    );
    told(
        &t.caller.send("GET", LIST, &by_header, "").await,
        405,
        "METHOD_NOT_ALLOWED",
    );
}

async fn a_user_has_no_more_hooks_than_allowed(backend: Backend) {
    let t = setting(backend).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(t.register("https://example.com", &["note"]).await);
    }
    let vector = vector("misskey-error-too-many");
    let one_more = async || t.call(CREATE, vector["request"]["json"].clone()).await;
    let reply = one_more().await;
    assert_eq!(Value::from(reply.status), vector["response"]["status"]);
    assert_eq!(reply.json(), vector["response"]["json"]);
    let other = Registrant::of(&t.postrider, &t.serving, "misskey", "9vaew1esmfme0002").await;
    answered(
        &other
            .call(
                "POST",
                CREATE,
                &vector["request"]["json"].clone().without_token(),
            )
            .await,
    );
    nothing(&t.call(DELETE, json!({"webhookId": ids[0]})).await);
    answered(&one_more().await);

    let roomy =
        Postrider::with_url(t._database.url()).with("POSTRIDER_MISSKEY__WEBHOOK_LIMIT", "5");
    let roomy = roomy.with("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0");
    let serving = roomy.serve_as("api").await;
    let caller = t.caller.at(&serving).await;
    let body = vector["request"]["json"].clone().without_token();
    for _ in 0..2 {
        answered(&caller.call("POST", CREATE, &body).await);
    }
    told(
        &caller.call("POST", CREATE, &body).await,
        400,
        "TOO_MANY_WEBHOOKS",
    );
}

async fn a_hook_is_paused_and_goes_on(backend: Backend) {
    let t = setting(backend).await;
    let receiver = Receiver::answering([200, 404]).await;
    let id = t.register(&receiver.url(), &["note", "reply"]).await;
    let send = async |event_type: &str| {
        let send = ["event", "send", "--type", event_type, "--account", USER];
        let payload = ["--payload", r#"{"note":{"id":"n"}}"#];
        let sent = t.postrider.json(&[&send[..], &payload].concat()).await;
        text(&sent["id"]).to_owned()
    };
    send("note").await;
    send("follow").await;
    receiver.wait_for(1).await;
    let latest = async |status: u16| {
        eventually(async || {
            let shown = t.shown(&id).await;
            match shown["latestStatus"] == status {
                true => Ok(()),
                false => Err(format!("{shown}")),
            }
        })
        .await;
        t.shown(&id).await
    };
    let shown = latest(200).await;
    let at = chrono::DateTime::parse_from_rfc3339(text(&shown["latestSentAt"]));
    assert!(at.is_ok(), "{shown}");

    nothing(
        &t.call(UPDATE, json!({"webhookId": id, "active": false}))
            .await,
    );
    let event = send("reply").await;
    eventually(async || {
        let listed = t
            .postrider
            .listing(&["delivery", "list", "--event", &event])
            .await;
        match listed.first().map(|delivery| delivery["state"].clone()) {
            Some(state) if state == "held" => Ok(()),
            state => Err(format!("the delivery is {state:?}")),
        }
    })
    .await;
    assert_eq!(receiver.count(), 1);
    nothing(
        &t.call(UPDATE, json!({"webhookId": id, "active": true}))
            .await,
    );
    receiver.wait_for(2).await;
    let body = receiver.requests()[1].json();
    assert_eq!(
        (&body["type"], &body["hookId"], &body["userId"]),
        (&json!("reply"), &json!(id), &json!(USER))
    );
    latest(404).await;
}

async fn a_test_is_sent_once_whatever_the_hook_asks_for(backend: Backend) {
    let t = setting(backend).await;
    let receiver = Receiver::answering([500]).await;
    let id = t.register(&receiver.url(), &[]).await;
    nothing(
        &t.call(UPDATE, json!({"webhookId": id, "active": false}))
            .await,
    );
    nothing(
        &t.call(TEST, json!({"webhookId": id, "type": "follow"}))
            .await,
    );
    let request = receiver.requests().remove(0);
    assert_eq!(request.header("x-misskey-hook-secret"), "s3cr3t");
    let body = request.json();
    assert_eq!(
        (&body["type"], &body["hookId"]),
        (&json!("follow"), &json!(id))
    );
    assert_eq!(body["body"]["user"]["id"], "dummy-user-1");

    let other = Receiver::accepting().await;
    let instead = json!({"url": other.url(), "secret": "other"});
    let body = json!({"webhookId": id, "type": "note", "override": instead});
    nothing(&t.call(TEST, body).await);
    assert_eq!(other.requests()[0].header("x-misskey-hook-secret"), "other");
    nothing(
        &t.call(TEST, json!({"webhookId": id, "type": "reaction"}))
            .await,
    );
    assert_eq!(
        (receiver.count(), other.count()),
        (1, 1),
        "no test of a reaction, no repeat"
    );
    assert_eq!(
        t.shown(&id).await["latestSentAt"],
        Value::Null,
        "nothing is recorded"
    );
    for _ in 0..57 {
        nothing(&t.call(TEST, json!({"webhookId": id, "type": "note"})).await);
    }
    let reply = t.call(TEST, json!({"webhookId": id, "type": "note"})).await;
    told(&reply, 429, "RATE_LIMIT_EXCEEDED");
    let wait: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=900).contains(&wait), "{wait}");
    // That is seen before what is asked for.
    told(&t.call(TEST, json!({})).await, 429, "RATE_LIMIT_EXCEEDED");
}

async fn what_a_token_may_not_do_is_refused_in_misskeys_order(backend: Backend) {
    let t = setting(backend).await;
    let id = t.register("https://example.com", &["note"]).await;
    let body = json!({"webhookId": id, "type": "note"});
    let create = json!({"name": "n", "url": "https://example.com", "on": []});
    let with = async |arguments: &[&str]| {
        Registrant::with(&t.postrider, &t.serving, "misskey", USER, arguments).await
    };
    let reader = with(&["--permission", "read"]).await;
    answered(&reader.call("POST", LIST, &body).await);
    answered(&reader.call("POST", SHOW, &body).await);
    for (path, body) in [(CREATE, &create), (UPDATE, &body), (DELETE, &body)] {
        let reply = reader.call("POST", path, body).await;
        told(&reply, 403, "PERMISSION_DENIED");
        assert_eq!(reply.json()["error"]["kind"], "permission");
        assert!(
            reply
                .header("www-authenticate")
                .contains("insufficient_scope")
        );
    }
    told(
        &reader.call("POST", TEST, &body).await,
        400,
        "ACCESS_DENIED",
    );
    let nobody = t.caller.send("POST", TEST, &[], &body.to_string()).await;
    told(&nobody, 400, "ACCESS_DENIED");
    let writer = with(&["--permission", "write"]).await;
    told(
        &writer.call("POST", LIST, &body).await,
        403,
        "PERMISSION_DENIED",
    );
    let suspended = with(&["--account-status", "inactive", "--permission", "read"]).await;
    told(
        &suspended.call("POST", CREATE, &create).await,
        403,
        "YOUR_ACCOUNT_SUSPENDED",
    );
    let revoked = with(&[]).await;
    t.postrider
        .json(&["key", "revoke", revoked.part("id")])
        .await;
    let reply = revoked.call("POST", LIST, &body).await;
    told(&reply, 401, "AUTHENTICATION_FAILED");
    assert!(reply.header("www-authenticate").contains("invalid_token"));
}

trait WithoutToken {
    fn without_token(self) -> Value;
}

impl WithoutToken for Value {
    fn without_token(mut self) -> Value {
        self.as_object_mut().expect("an object").remove("i");
        self
    }
}

/// The body of a success.
fn answered(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Checks that it is a success that says nothing.
fn nothing(reply: &Reply) {
    assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
}

/// Checks that it is this refusal, in Misskey's form.
fn told(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{reply:?}");
    assert_eq!(text(&error["id"]).len(), 36);
    assert!(!text(&error["message"]).is_empty());
}
