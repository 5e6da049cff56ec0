//! A day past its retention is pruned while deliveries run and a long transaction reads history.
//!
//! How fast deliveries run meanwhile is measured by `postrider bench retention`.

use postrider_core::{Clock, DeliveryId, EventId, HookId};
use postrider_store::{Backend, DeliveryState, HookChange, Retention};
use postrider_tests::{
    Connection, Postrider, Process, Receiver, TestApp, event, eventually, hook_to, value_of,
};
use postrider_worker::{Metrics, Pruner};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DAY: u64 = 24 * 3600;
const DAYS: u64 = 60;
/// What is held of the first day, and of each of the others.
const HELD_FIRST: usize = 40;
const HELD: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_day_goes_while_deliveries_run_and_a_reader_reads() {
    let app = Arc::new(TestApp::on(Backend::Postgres).await);
    let receiver = Arc::new(Receiver::accepting().await);
    let (held, first) = sixty_days(&app, &receiver).await;
    let mut sql = app.sql().await;
    let (day, tables) = (first.day.clone(), tables_of(&mut sql, &first.day).await);
    assert_eq!(tables, ["attempts", "ended", "events"]);

    let postrider = Postrider::on(&app.database);
    let workers = [postrider.serve().await, postrider.serve().await];
    let before = receiver.count();
    let (stop, load) = load(&app, &receiver);
    receiver.wait_for(before + 100).await;

    let mut reader = app.sql().await;
    let read = "BEGIN; SELECT count(*) FROM postrider_events";
    reader.run(read).await;
    let metrics = Arc::new(Metrics::new());
    let keeper = Pruner {
        store: app.store.clone(),
        clock: app.clock.clone(),
        // The first of the days is past, and no other.
        keep: Retention {
            events: Duration::from_secs((DAYS - 2) * DAY),
            attempts: Duration::from_secs((DAYS - 2) * DAY),
        },
        metrics: metrics.clone(),
    };
    for _ in 0..3 {
        // A worker may have the turn at this moment.
        eventually(async || {
            let pruned = keeper.turn().await.map_err(|error| error.to_string())?;
            assert!(pruned.days.is_empty(), "{pruned:?}");
            match pruned.waiting {
                Some(reason) if reason.contains("open for long") => Ok(()),
                other => Err(format!("it does not wait for the reader: {other:?}")),
            }
        })
        .await;
        // Deliveries go on beside the reader and those who wait for it.
        receiver.wait_for(receiver.count() + 100).await;
    }
    assert_eq!(tables_of(&mut sql, &day).await, tables);
    reader.run("COMMIT").await;
    // A worker may have the turn at this moment; what ended is told for a week longer, and the
    // rest gives back its disk.
    eventually(async || {
        let pruned = keeper.turn().await.map_err(|error| error.to_string())?;
        match tables_of(&mut sql, &day).await.as_slice() {
            [ended] if ended == "ended" => Ok(()),
            left => Err(format!("there are {left:?}, {:?}", pruned.waiting)),
        }
    })
    .await;
    receiver.wait_for(receiver.count() + 100).await;
    stop.store(true, Ordering::Relaxed);
    let sent = load.await.expect("the load");
    receiver.wait_for_events(&sent).await;

    // Nothing that referred to the day was lost in silence, and nothing else was touched.
    let counted = value_of(&metrics.encode(), "postrider_deliveries_expired_total");
    assert!((counted - HELD_FIRST as f64).abs() < 0.5, "{counted}");
    for event in first.held {
        let report = app.store.delivery(DeliveryId::of(event, held)).await;
        let report = report.expect("what became of it");
        assert_eq!(report.state, DeliveryState::Expired);
        assert_eq!(report.reason.as_deref(), Some("expired"));
    }
    let left = (DAYS as usize - 1) * HELD;
    assert_eq!(app.count(held, DeliveryState::Held).await, left);
    eventually(async || match app.left().await - left as i64 {
        0 => Ok(()),
        more => Err(format!("{more} are left that are not held")),
    })
    .await;
    let arrivals = receiver.arrivals();
    assert!(arrivals.values().all(|times| *times == 1), "each came once");
    for worker in &workers {
        assert_eq!(troubles(worker), Vec::<String>::new());
    }
}

/// What is known of the first of the days.
struct First {
    /// As it ends the names of its tables.
    day: String,
    /// Its events that are held.
    held: Vec<EventId>,
}

/// History of sixty days up to today, of deliveries that arrived and some that are held. The
/// clock shows the real time afterwards. Returns the hook that is paused.
async fn sixty_days(app: &TestApp, receiver: &Receiver) -> (HookId, First) {
    app.hook(receiver).await;
    let mut other = hook_to(&receiver.url());
    other.events = vec!["held.*".parse().expect("a pattern")];
    other.account = "other".into();
    let held = app.register(other).await.id;
    let paused = app
        .store
        .change_hook(held, HookChange::Pause, "test", app.now());
    paused.await.expect("pause the hook");
    let real = app.store.now().await.expect("the database's time");
    let ahead = real - app.clock.now() - chrono::TimeDelta::days(DAYS as i64 - 1);
    app.clock
        .advance(ahead.to_std().expect("later than the test's time"));
    let mut first = None;
    for number in 0..DAYS {
        app.store.upkeep(app.now(), 100).await.expect("upkeep");
        app.enqueue_all(&vec![event("invoice.paid"); 5]).await;
        let mut of_other = event("held.here");
        of_other.account = "other".into();
        let count = if number == 0 { HELD_FIRST } else { HELD };
        let ids = app.enqueue_all(&vec![of_other; count]).await;
        app.tick().await;
        first.get_or_insert_with(|| First {
            day: app.now().format("%Y%m%d").to_string(),
            held: ids,
        });
        if number + 1 < DAYS {
            app.advance(DAY);
        }
    }
    (held, first.expect("a first day"))
}

/// Inserts without end until it is told to stop, always some ahead of the receiver.
fn load(
    app: &Arc<TestApp>,
    receiver: &Arc<Receiver>,
) -> (Arc<AtomicBool>, tokio::task::JoinHandle<BTreeSet<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (app, receiver, asked) = (app.clone(), receiver.clone(), stop.clone());
    let already = receiver.count();
    let load = tokio::spawn(async move {
        let mut sent = BTreeSet::new();
        while !asked.load(Ordering::Relaxed) {
            let ids = app.enqueue_all(&vec![event("invoice.paid"); 50]).await;
            sent.extend(ids.iter().map(ToString::to_string));
            let behind = already + sent.len().saturating_sub(200);
            receiver.wait_for(behind).await;
        }
        sent
    });
    (stop, load)
}

/// Of which of our tables there is something of a day, be it a partition or not.
async fn tables_of(sql: &mut Connection, day: &str) -> Vec<String> {
    let rows = sql
        .rows(format!(
            "SELECT substr(relname, 11, length(relname) - 19) FROM pg_class \
             WHERE relkind = 'r' AND relname LIKE 'postrider\\_%\\_{day}' ORDER BY 1"
        ))
        .await;
    rows.into_iter().flatten().flatten().collect()
}

/// What a worker complained about.
fn troubles(worker: &Process) -> Vec<String> {
    let mut lines = worker.stderr();
    lines.retain(|line| line.contains("ERROR") || line.contains("WARN"));
    lines
}
