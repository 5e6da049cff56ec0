//! Events accepted over HTTP by a server that is killed in the next instant are all delivered. A
//! success is reported only after the commit.
//!
//! `POSTRIDER_TEST_ROUNDS=500` kills that many servers instead of a few.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, TestDatabase, eventually, on_both};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

on_both!(what_was_accepted_survives_a_server_killed_in_the_next_instant);

/// Servers killed, unless the environment says.
const ROUNDS: usize = 4;

/// Calls under way at a time: enough for several commits.
const CALLS: usize = 40;

/// After so many rounds everything is waited for, so that not all of it gathers for the end.
const WAITED_FOR: usize = 50;

const EVENT: &str = r#"{"event_type":"invoice.paid","payload":{}}"#;

async fn what_was_accepted_survives_a_server_killed_in_the_next_instant(backend: Backend) {
    let rounds = std::env::var("POSTRIDER_TEST_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "5s")
        .with("POSTRIDER_WORKER__LEASE", "10s")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", ["1s"; 20].join(","));
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    postrider.json(&add).await;
    let key = postrider
        .json(&["key", "create", "--scope", "publish"])
        .await;
    let token = key["token"].as_str().expect("a token");
    let mut accepted = BTreeSet::new();
    for round in 0..rounds {
        let serving = postrider.serve().await;
        if round % WAITED_FOR == 0 {
            receiver.wait_for_events(&accepted).await;
        }
        let caller = Caller::of(&serving, token).await;
        let mut publishing = JoinSet::new();
        for _ in 0..CALLS {
            let caller = caller.clone();
            publishing.spawn(async move { caller.try_publish(EVENT).await });
        }
        // Killed after the first answer in one round, after some more in another.
        for _ in 0..=(round * 7) % CALLS {
            let reply = publishing.join_next().await.expect("a call");
            accepted.insert(reply.expect("a task").expect("an answer").accepted());
        }
        serving.kill().await;
        // Others had been answered by then, or never are.
        for reply in publishing.join_all().await.into_iter().flatten() {
            accepted.insert(reply.accepted());
        }
    }
    let mut sql = database.connect().await;
    let kept = "SELECT (SELECT count(*) FROM postrider_outbox) \
                + (SELECT count(*) FROM postrider_events)";
    let kept = sql.number(kept).await;
    let accepted_count = i64::try_from(accepted.len()).expect("a count");
    assert!(
        kept >= accepted_count,
        "{kept} of {accepted_count} are kept"
    );
    let _last = postrider.serve().await;
    receiver.wait_for_events(&accepted).await;
}

/// The moment between an answer and a commit would be too short to be hit by killing.
#[tokio::test]
async fn on_postgres_no_caller_gets_an_answer_before_the_commit_is_over() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    caller.publish(EVENT).await.accepted();
    let mut sql = database.connect().await;
    // The insert itself goes through; its commit waits for the lock.
    sql.run(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON postrider_outbox
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock(7)",
    )
    .await;
    let publishing = tokio::spawn(async move { caller.try_publish(EVENT).await });
    let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database \
                   WHERE NOT granted AND locktype = 'advisory' \
                   AND d.datname = current_database()";
    eventually(async || match sql.number(waiting).await {
        1 => Ok(()),
        waiting => Err(format!("{waiting} commits wait instead of 1")),
    })
    .await;
    serving.kill().await;
    let told = publishing.await.expect("a task");
    assert!(told.is_err(), "told before the commit: {told:?}");
}
