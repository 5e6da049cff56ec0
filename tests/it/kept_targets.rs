//! Retries of Misskey's deliveries go to the URL, and with the secret, of the first attempt,
//! however the hook changes.

use crate::profile_vectors::text;
use postrider_core::{
    AliasForm, DeliveryId, EventId, HookEdit, HookId, KeyRing, NewHook, RetrySchedule,
    SettingsChange, Span,
};
use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{
    KEY, Postrider, Receiver, Registrant, TestApp, TestDatabase, hook_to, on_both, slots, start,
};
use serde_json::json;

on_both!(
    retries_go_where_the_hook_pointed_and_new_events_where_it_points,
    what_waits_for_its_first_attempt_goes_where_the_hook_points,
    what_a_person_sends_again_goes_where_the_hook_points,
    a_retry_that_was_held_goes_where_the_hook_pointed,
    nothing_more_is_sent_of_a_deleted_hook,
    a_hook_that_is_changed_over_misskeys_api_keeps_its_retries,
    a_move_keeps_the_targets_of_retries,
);

/// Longer than each of the waits between attempts.
const LATER: u64 = 600;

async fn retries_go_where_the_hook_pointed_and_new_events_where_it_points(backend: Backend) {
    let app = TestApp::on(backend).await;
    let first = Receiver::answering([503, 503, 200]).await;
    let (second, third) = (Receiver::accepting().await, Receiver::accepting().await);
    let hook = app.register(misskey(&first, "first")).await.id;
    let event = app.enqueue("note").await;
    app.tick().await;
    point(&app, hook, &second, "second").await;
    app.enqueue("note").await;
    app.tick().await;
    app.advance(LATER);
    app.tick().await;
    assert_eq!(secrets(&first), ["first", "first"]);
    assert_eq!(secrets(&second), ["second"]);

    // What the requests of the hook share is not what a retry was made of.
    app.enqueue("note").await;
    app.tick().await;
    assert_eq!(secrets(&second), ["second", "second"]);
    point(&app, hook, &third, "third").await;
    app.enqueue("note").await;
    app.advance(LATER);
    app.tick().await;
    assert_eq!(secrets(&first), ["first", "first", "first"]);
    assert_eq!((second.count(), secrets(&third)), (2, vec!["third".into()]));
    assert_eq!(state(&app, event, hook).await, DeliveryState::Delivered);
    let bodies: Vec<_> = first.requests().into_iter().map(|got| got.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "a repeat");
}

async fn what_waits_for_its_first_attempt_goes_where_the_hook_points(backend: Backend) {
    let app = TestApp::on(backend).await;
    let (first, second) = (
        Receiver::accepting().await,
        Receiver::answering([503, 200]).await,
    );
    let hook = app.register(misskey(&first, "first")).await.id;
    change(&app, hook, HookChange::Pause).await;
    let event = app.enqueue("note").await;
    app.tick().await;
    assert_eq!(state(&app, event, hook).await, DeliveryState::Held);
    point(&app, hook, &second, "second").await;
    change(&app, hook, HookChange::Enable).await;
    app.tick().await;
    point(&app, hook, &first, "first").await;
    app.advance(LATER);
    app.tick().await;
    assert_eq!(first.count(), 0);
    assert_eq!(secrets(&second), ["second", "second"]);
}

async fn what_a_person_sends_again_goes_where_the_hook_points(backend: Backend) {
    let app = TestApp::on(backend).await;
    let first = Receiver::answering([503, 404]).await;
    let second = Receiver::answering([200, 503, 200]).await;
    let hook = app.register(misskey(&first, "first")).await.id;
    let waits = app.enqueue("note").await;
    app.tick().await;
    let failed = app.enqueue("note").await;
    app.tick().await;
    assert_eq!(state(&app, waits, hook).await, DeliveryState::Pending);
    assert_eq!(state(&app, failed, hook).await, DeliveryState::Failed);
    point(&app, hook, &second, "second").await;
    for event in [failed, waits] {
        let id = DeliveryId::of(event, hook);
        app.store.redeliver(id, app.now()).await.unwrap();
        app.tick().await;
    }
    // The one that was refused again goes on from there.
    point(&app, hook, &first, "first").await;
    app.advance(LATER);
    app.tick().await;
    assert_eq!(first.count(), 2);
    assert_eq!(secrets(&second), ["second", "second", "second"]);
    assert_eq!(app.left().await, 0);
}

async fn a_retry_that_was_held_goes_where_the_hook_pointed(backend: Backend) {
    let app = TestApp::on(backend).await;
    let (first, second) = (
        Receiver::answering([503, 200]).await,
        Receiver::accepting().await,
    );
    let hook = app.register(misskey(&first, "first")).await.id;
    let event = app.enqueue("note").await;
    app.tick().await;
    change(&app, hook, HookChange::Pause).await;
    point(&app, hook, &second, "second").await;
    app.advance(LATER);
    app.tick().await;
    assert_eq!(state(&app, event, hook).await, DeliveryState::Held);
    change(&app, hook, HookChange::Enable).await;
    app.tick().await;
    assert_eq!(secrets(&first), ["first", "first"]);
    assert_eq!(second.count(), 0);
}

async fn nothing_more_is_sent_of_a_deleted_hook(backend: Backend) {
    let app = TestApp::on(backend).await;
    let first = Receiver::answering([503]).await;
    let hook = app.register(misskey(&first, "first")).await.id;
    let event = app.enqueue("note").await;
    app.tick().await;
    let removed = app.store.remove_hook(hook, "test", app.now()).await;
    removed.unwrap();
    app.advance(LATER);
    app.tick().await;
    app.store.upkeep(app.now(), 10).await.unwrap();
    assert_eq!(state(&app, event, hook).await, DeliveryState::Cancelled);
    assert_eq!(first.count(), 1);
}

async fn a_hook_that_is_changed_over_misskeys_api_keeps_its_retries(backend: Backend) {
    let app = TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    let serving = postrider.serve().await;
    let user = "9vaew1esmfme0001";
    let caller = Registrant::of(&postrider, &serving, "misskey", user).await;
    let (first, second) = (
        Receiver::answering([503, 200]).await,
        Receiver::accepting().await,
    );
    let hook = json!({"name": "n", "url": first.url(), "secret": "the-first", "on": ["note"]});
    let made = caller.call("POST", "/api/i/webhooks/create", &hook).await;
    let made = made.json();
    let listed = postrider.listing(&["hook", "list"]).await;
    // Long enough for the change to come first.
    let soon = SettingsChange {
        retry_schedule: Some(Some(RetrySchedule::new(vec![Span::secs(4)]))),
        ..SettingsChange::default()
    };
    let id = text(&listed[0]["id"]).parse().expect("an id");
    change(&app, id, HookChange::Set(soon)).await;
    let send = ["event", "send", "--type", "note", "--account", user];
    let send = [&send[..], &["--payload", "{}"]].concat();
    postrider.json(&send).await;
    first.wait_for(1).await;
    let edit = json!({"webhookId": made["id"], "url": second.url(), "secret": "the-second"});
    let reply = caller.call("POST", "/api/i/webhooks/update", &edit).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    postrider.json(&send).await;
    second.wait_for(1).await;
    first.wait_for(2).await;
    assert_eq!(secrets(&first), ["the-first", "the-first"]);
    assert_eq!(secrets(&second), ["the-second"]);
    let [refused, retry] = [0, 1].map(|n| first.requests()[n].body.clone());
    assert_eq!(refused, retry, "a repeat");
    let said = [serving.stderr(), serving.stdout()].concat().join("\n");
    for secret in ["the-first", "the-second"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

async fn a_move_keeps_the_targets_of_retries(from: Backend) {
    let to = match from {
        Backend::Postgres => Backend::Sqlite,
        Backend::Sqlite => Backend::Postgres,
    };
    let app = TestApp::on(from).await;
    let (first, second) = (
        Receiver::answering([503, 200]).await,
        Receiver::accepting().await,
    );
    let hook = app.register(misskey(&first, "first")).await.id;
    app.enqueue("note").await;
    app.tick().await;
    point(&app, hook, &second, "second").await;
    let target = TestDatabase::empty(to).await;
    let new_key = KeyRing::generate_key();
    let there = Postrider::on(&target).with("POSTRIDER_SECRETS__KEY", &new_key);
    if to == Backend::Postgres && slots(from) > 1 {
        // Both must have as many.
        let slots = slots(from).to_string();
        there.run(&["migrate", "--slots", &slots]).await.succeeded();
    }
    let moving = Postrider::on(&app.database)
        .with("POSTRIDER_SECRETS__KEY", &new_key)
        .with("POSTRIDER_SECRETS__PREVIOUS_KEYS", KEY);
    moving.json(&["move", "--to", target.url()]).await;
    let _serving = there.serve().await;
    first.wait_for(2).await;
    assert_eq!(secrets(&first), ["first", "first"]);
    assert_eq!(second.count(), 0);
}

/// A hook as Misskey's API would register it.
fn misskey(receiver: &Receiver, secret: &str) -> NewHook {
    let mut hook = NewHook {
        profile: "misskey".into(),
        alias: Some(AliasForm::Aidx.draw(start())),
        ..hook_to(&receiver.url())
    };
    hook.credentials.secrets.clear();
    hook.credentials.token = Some(secret.into());
    hook
}

async fn point(app: &TestApp, hook: HookId, receiver: &Receiver, secret: &str) {
    let edit = HookEdit {
        url: Some(receiver.url()),
        token: Some(Some(secret.into())),
        ..HookEdit::default()
    };
    change(app, hook, HookChange::Edit(Box::new(edit))).await;
}

async fn change(app: &TestApp, hook: HookId, change: HookChange) {
    let changed = app.store.change_hook(hook, change, "test", app.now()).await;
    changed.expect("change the hook");
}

async fn state(app: &TestApp, event: EventId, hook: HookId) -> DeliveryState {
    app.delivery(event, hook).await.state
}

/// The secrets that have come, in their order.
fn secrets(receiver: &Receiver) -> Vec<String> {
    let requests = receiver.requests();
    let secrets = requests
        .iter()
        .map(|got| got.header("x-misskey-hook-secret").to_owned());
    secrets.collect()
}
