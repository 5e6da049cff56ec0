//! Every route of the compatible APIs requires a credential and hides the resources of other
//! accounts. A new route of a dialect fails here until it is in the table.

use crate::profile_vectors::text;
use postrider_api::Dialect;
use postrider_compat::SystemSettings;
use postrider_store::Backend;
use postrider_tests::{Postrider, Process, Receiver, Registrant, Reply, TestDatabase, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;

on_both!(
    no_route_shows_or_changes_what_is_another_accounts,
    what_nothing_can_be_named_by_names_nothing,
);

/// What a call by another account must come to.
#[derive(Clone, Copy)]
enum Kind {
    /// About one hook: others do not find it.
    OfOne,
    /// Lists hooks: those of others are not among them.
    Listing,
    /// Makes a hook, in the caller's own account whatever the body says.
    Making,
    /// About no hook.
    OfNone,
}

struct Route {
    system: &'static str,
    method: &'static str,
    path: &'static str,
    /// What is asked beside the path.
    query: &'static str,
    kind: Kind,
    /// What would be accepted of the owner; `ID` stands for its hook, `URL` for a receiver.
    body: &'static str,
}

const SHOWN: &str = "/webhook/v1/outgoing/{id}";
const SHOWN_BY_THULIUM: &str = "/api/webhooks/{id}";

const ROUTES: &[Route] = &[
    route("solapi", "POST", "/webhook/v1/outgoing", Kind::Making)
        .with(r#"{"eventId":"SINGLE-REPORT","url":"URL","accountId":"owner","webhookId":"ID"}"#),
    route("solapi", "GET", "/webhook/v1/outgoing", Kind::Listing)
        .asking("?startKey=ID&accountId=owner&webhookId=ID"),
    route("solapi", "GET", SHOWN, Kind::OfOne),
    route("solapi", "PUT", SHOWN, Kind::OfOne).with(r#"{"url":"URL","accountId":"owner"}"#),
    route("solapi", "DELETE", SHOWN, Kind::OfOne),
    route("solapi", "POST", "/webhook/v1/outgoing-test", Kind::OfNone)
        .with(r#"{"url":"URL","webhookId":"ID","accountId":"owner"}"#),
    route("solapi", "GET", "/webhook/v1/events", Kind::OfNone),
    route("thulium", "POST", "/api/webhooks", Kind::Making)
        .with(r#"{"actions":["A"],"subscription_url":"URL","account":"owner","id":"ID"}"#),
    route("thulium", "GET", "/api/webhooks", Kind::Listing).asking("?account=owner&id=ID"),
    route("thulium", "GET", SHOWN_BY_THULIUM, Kind::OfOne),
    route("thulium", "PUT", SHOWN_BY_THULIUM, Kind::OfOne)
        .with(r#"{"subscription_url":"URL","account":"owner"}"#),
    route("thulium", "DELETE", SHOWN_BY_THULIUM, Kind::OfOne),
    route("misskey", "POST", "/api/i/webhooks/create", Kind::Making)
        .with(r#"{"name":"n","url":"URL","on":["note"],"userId":"owner","webhookId":"ID"}"#),
    route("misskey", "POST", "/api/i/webhooks/list", Kind::Listing)
        .with(r#"{"userId":"owner","webhookId":"ID"}"#),
    route("misskey", "POST", "/api/i/webhooks/show", Kind::OfOne)
        .with(r#"{"webhookId":"ID","userId":"owner"}"#),
    route("misskey", "POST", "/api/i/webhooks/update", Kind::OfOne)
        .with(r#"{"webhookId":"ID","name":"stolen","userId":"owner"}"#),
    route("misskey", "POST", "/api/i/webhooks/test", Kind::OfOne)
        .with(r#"{"webhookId":"ID","type":"note","userId":"owner"}"#),
    route("misskey", "POST", "/api/i/webhooks/delete", Kind::OfOne)
        .with(r#"{"webhookId":"ID","userId":"owner"}"#),
];

const fn route(
    system: &'static str,
    method: &'static str,
    path: &'static str,
    kind: Kind,
) -> Route {
    Route {
        system,
        method,
        path,
        query: "",
        kind,
        body: "",
    }
}

impl Route {
    const fn with(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    const fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// The path and the body for this hook and this receiver.
    fn about(&self, id: &str, url: &str) -> (String, Value) {
        let path = format!("{}{}", self.path, self.query);
        let body = self.body.replace("ID", id).replace("URL", url);
        let body = match body.as_str() {
            "" => Value::Null,
            body => serde_json::from_str(body).expect("JSON"),
        };
        (path.replace("{id}", id).replace("ID", id), body)
    }
}

fn dialects() -> Vec<Dialect> {
    SystemSettings::default().dialects("localhost")
}

#[test]
fn every_route_of_every_dialect_is_in_the_table() {
    let served = dialects().into_iter().flat_map(|dialect| {
        let paths: Vec<_> = dialect.paths().collect();
        let name = dialect.name;
        let paths = paths.into_iter();
        paths.map(move |(method, path)| (name.to_owned(), method.to_owned(), path))
    });
    let served: BTreeSet<_> = served.collect();
    let known = ROUTES.iter().map(|route| {
        let Route {
            system,
            method,
            path,
            ..
        } = *route;
        (system.to_owned(), method.to_owned(), path.to_owned())
    });
    let known: BTreeSet<_> = known.collect();
    assert_eq!(known.len(), ROUTES.len(), "each once");
    assert_eq!(known, served, "the table has every route, and no other");
}

async fn no_route_shows_or_changes_what_is_another_accounts(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let (owners, others) = (Receiver::accepting().await, Receiver::accepting().await);
    for dialect in dialects() {
        let t = Accounts::of(&postrider, &serving, dialect.name, &owners.url()).await;
        let before = t.hooks_of("owner").await;
        assert_eq!(before.len(), 1);
        for route in ROUTES.iter().filter(|route| route.system == dialect.name) {
            let (path, body) = route.about(&t.id, &others.url());
            let what = format!("{} {path}", route.method);
            let nobodys = t.without_credential(route.method, &path, &body).await;
            turned_away(&nobodys, &what);
            let reply = t.other.call(route.method, &path, &body).await;
            match route.kind {
                Kind::OfOne => not_there(dialect.name, &reply, &what),
                Kind::Listing => assert_eq!(listed(&reply), json!([]), "{what}"),
                Kind::Making | Kind::OfNone => assert_eq!(reply.status, 200, "{what}: {reply:?}"),
            }
            assert_eq!(
                t.hooks_of("owner").await,
                before,
                "{what} changed something"
            );
            if let Kind::Making = route.kind {
                let made = t.hooks_of("other").await;
                assert_eq!(made.len(), 1, "{what}");
                postrider
                    .json(&["hook", "remove", text(&made[0]["id"]), "--yes"])
                    .await;
            } else {
                assert!(!reply.body.contains("owner"), "{what}: {reply:?}");
            }
        }
        assert_eq!(t.hooks_of("other").await, [] as [Value; 0]);
        t.the_owner_and_its_colleagues_find_it().await;
    }
    assert_eq!(owners.count(), 0, "nothing was sent to the owner's hooks");
    assert_eq!(
        others.count(),
        1,
        "the test of an address of the other's own"
    );
}

async fn what_nothing_can_be_named_by_names_nothing(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    for dialect in dialects() {
        let owner = Registrant::of(&postrider, &serving, dialect.name, "owner").await;
        for route in ROUTES.iter().filter(|route| route.system == dialect.name) {
            for (in_path, in_body) in [("%00", r"\u0000"), ("a%00b", r"a\u0000b"), ("%2f", "/")] {
                let (path, _) = route.about(in_path, "");
                let (_, body) = route.about(in_body, "https://example.com");
                let what = format!("{} {path}", route.method);
                let reply = owner.call(route.method, &path, &body).await;
                match route.kind {
                    // Misskey looks at the form of an id first.
                    Kind::OfOne if dialect.name == "misskey" => {
                        assert!(reply.body.contains("INVALID_PARAM"), "{what}: {reply:?}");
                    }
                    Kind::OfOne => not_there(dialect.name, &reply, &what),
                    Kind::Listing => assert_eq!(reply.status, 200, "{what}: {reply:?}"),
                    Kind::Making | Kind::OfNone => {}
                }
            }
        }
    }
    let owner = Registrant::of(&postrider, &serving, "thulium", "owner").await;
    let nobody = [("authorization", "Basic AABhOmI=")];
    let reply = owner.send("GET", "/api/webhooks", &nobody, "").await;
    turned_away(&reply, "a user with NUL in its name");
    serving.terminate().await;
    let said = serving.stderr().join("\n");
    assert!(!said.contains("database"), "{said}");
}

/// An account with a hook, and another.
struct Accounts<'a> {
    postrider: &'a Postrider,
    serving: &'a Process,
    owner: Registrant,
    other: Registrant,
    /// The owner's hook, as its system names it.
    id: String,
}

impl<'a> Accounts<'a> {
    async fn of(postrider: &'a Postrider, serving: &'a Process, system: &str, url: &str) -> Self {
        let owner = Registrant::of(postrider, serving, system, "owner").await;
        let making = ROUTES
            .iter()
            .find(|route| route.system == system && matches!(route.kind, Kind::Making));
        let making = making.expect("a route that makes hooks");
        let (path, body) = making.about("none", url);
        let reply = owner.call(making.method, &path, &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let made = reply.json();
        let id = match made.get("webhookId").unwrap_or(&made["id"]) {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        Self {
            other: Registrant::of(postrider, serving, system, "other").await,
            postrider,
            serving,
            owner,
            id,
        }
    }

    /// All that the operator sees of an account's hooks of this system.
    async fn hooks_of(&self, account: &str) -> Vec<Value> {
        let mut hooks = self.postrider.listing(&["hook", "list"]).await;
        let profile = self.owner.part("for");
        hooks.retain(|hook| hook["account"] == account && hook["profile"] == profile);
        hooks
    }

    async fn without_credential(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let json = [("content-type", "application/json")];
        self.other.send(method, path, &json, &body).await
    }

    async fn the_owner_and_its_colleagues_find_it(&self) {
        let system = self.owner.part("for");
        let colleague = Registrant::of(self.postrider, self.serving, system, "owner").await;
        let is_listing =
            |route: &&Route| route.system == system && matches!(route.kind, Kind::Listing);
        let listing = ROUTES.iter().find(is_listing).expect("a listing");
        for caller in [&self.owner, &colleague] {
            let reply = caller
                .call(listing.method, listing.path, &Value::Null)
                .await;
            assert_eq!(
                listed(&reply).as_array().map(Vec::len),
                Some(1),
                "{reply:?}"
            );
            assert!(reply.body.contains(&self.id), "{reply:?}");
        }
    }
}

/// Checks that the caller is not known, or has no right to this.
fn turned_away(reply: &Reply, what: &str) {
    // That is how Misskey says it of what applications may not call.
    let is_denied = reply.status == 400 && reply.body.contains("ACCESS_DENIED");
    let is_refused = (401..=403).contains(&reply.status);
    assert!(is_denied || is_refused, "{what}: {reply:?}");
}

/// Checks that it says, in its system's form, that there is no such hook.
fn not_there(system: &str, reply: &Reply, what: &str) {
    let (status, words) = match system {
        "misskey" => (400, "NO_SUCH_WEBHOOK"),
        "solapi" => (404, "ResourceNotFound"),
        _ => (404, "404001"),
    };
    assert_eq!(reply.status, status, "{what}: {reply:?}");
    assert!(reply.body.contains(words), "{what}: {reply:?}");
}

/// The hooks in the answer to a listing, which is the list or has it.
fn listed(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    body.get("webhookList").unwrap_or(&body).clone()
}
