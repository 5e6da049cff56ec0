use super::*;
use postrider_core::PAYLOAD_MAX_BYTES;
use postrider_store::Backend;
use postrider_tests::{Connection, TestStore, event, eventually, on_both};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;

on_both!(
    what_gathers_during_a_commit_shares_the_next,
    a_commit_takes_no_more_than_its_bytes,
    what_the_database_refuses_stands_alone,
    a_caller_that_goes_away_costs_nobody_anything,
    what_was_handed_in_is_committed_before_the_end,
    a_database_that_does_not_answer_keeps_nobody_waiting,
);

async fn what_gathers_during_a_commit_shares_the_next(backend: Backend) {
    let desk = Desk::on(backend).await;
    let held = desk.hold().await;
    let mut published = vec![desk.hand_in(event("first")).await];
    desk.all_taken().await;
    for n in 1..200 {
        published.push(desk.hand_in(event(&format!("n-{n}"))).await);
    }
    held.release().await;
    for (n, published) in published.into_iter().enumerate() {
        let id = published.await.unwrap().unwrap();
        let kept = desk.t.store.event(id).await.unwrap().event_type;
        let expected = match n {
            0 => "first".into(),
            n => format!("n-{n}"),
        };
        assert_eq!(kept, expected, "each caller is told its own event's id");
    }
    assert_eq!(desk.commits(), 2);
}

async fn a_commit_takes_no_more_than_its_bytes(backend: Backend) {
    let desk = Desk::on(backend).await;
    let held = desk.hold().await;
    let mut published = vec![desk.hand_in(event("first")).await];
    desk.all_taken().await;
    let large = NewEvent::new("large", &"x".repeat(PAYLOAD_MAX_BYTES - 2)).unwrap();
    for _ in 0..20 {
        published.push(desk.hand_in(large.clone()).await);
    }
    held.release().await;
    for published in published {
        published.await.unwrap().unwrap();
    }
    assert_eq!(desk.commits(), 1 + 3, "8 of 512 KiB are 4 MiB");
}

async fn what_the_database_refuses_stands_alone(backend: Backend) {
    let desk = Desk::on(backend).await;
    let cursed = "NEW.event_type = 'cursed'";
    desk.t.refuse("postrider_outbox", cursed).await;
    let held = desk.hold().await;
    let first = desk.hand_in(event("good")).await;
    desk.all_taken().await;
    let mut published = Vec::new();
    for n in 0..50 {
        published.push(match n {
            0 | 17 | 18 | 49 => desk.hand_in(event("cursed")).await,
            _ => desk.hand_in(event("good")).await,
        });
    }
    held.release().await;
    first.await.unwrap().unwrap();
    for (n, published) in published.into_iter().enumerate() {
        match (published.await.unwrap(), n) {
            (Err(PublishError::Store(error)), 0 | 17 | 18 | 49) => {
                assert!(matches!(*error, Error::Refused(_)), "{error:?}");
            }
            (Ok(id), _) => {
                assert_eq!(desk.t.store.event(id).await.unwrap().event_type, "good");
            }
            (Err(error), n) => panic!("{n}: {error}"),
        }
    }
    assert_eq!(desk.kept().await, 1 + 46);
}

async fn a_caller_that_goes_away_costs_nobody_anything(backend: Backend) {
    let desk = Desk::on(backend).await;
    let held = desk.hold().await;
    let first = desk.hand_in(event("a")).await;
    desk.all_taken().await;
    let gone = desk.hand_in(event("b")).await;
    let stays = desk.hand_in(event("c")).await;
    drop((first, gone));
    held.release().await;
    stays.await.unwrap().unwrap();
    assert_eq!(desk.kept().await, 3);
}

async fn what_was_handed_in_is_committed_before_the_end(backend: Backend) {
    let mut desk = Desk::on(backend).await;
    let held = desk.hold().await;
    let mut published = vec![desk.hand_in(event("a")).await];
    desk.all_taken().await;
    for _ in 0..10 {
        published.push(desk.hand_in(event("b")).await);
    }
    desk.closed.cancel();
    desk.publisher.0.closed().await;
    let late = desk.publisher.publish(event("late")).await;
    assert!(matches!(late, Err(PublishError::Closed)), "{late:?}");
    held.release().await;
    for published in published {
        published.await.unwrap().unwrap();
    }
    (&mut desk.task).await.unwrap();
    assert_eq!(desk.kept().await, 11);
}

async fn a_database_that_does_not_answer_keeps_nobody_waiting(backend: Backend) {
    let desk = Desk::on(backend).await;
    desk.t.store.close().await;
    for _ in 0..3 {
        let mut published = Vec::new();
        for _ in 0..10 {
            published.push(desk.hand_in(event("a")).await);
        }
        for published in published {
            match published.await.unwrap() {
                Err(PublishError::Store(error)) => assert!(error.is_no_answer(), "{error:?}"),
                told => panic!("{told:?}"),
            }
        }
    }
    assert_eq!(desk.commits(), 0);
}

/// A publisher that makes one commit at a time.
struct Desk {
    t: TestStore,
    publisher: Publisher,
    commits: Arc<AtomicUsize>,
    closed: CancellationToken,
    task: JoinHandle<()>,
}

/// Holds every insert into the outbox back.
struct Held(Connection);

impl Desk {
    async fn on(backend: Backend) -> Self {
        let t = TestStore::on(backend).await;
        let (commits, closed) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (publisher, publishing) = Publisher::start(PublisherParts {
            store: t.store.clone(),
            commits: 1,
            published: {
                let commits = commits.clone();
                Arc::new(move || {
                    commits.fetch_add(1, Ordering::Relaxed);
                })
            },
            trouble: Arc::default(),
            closed: closed.clone(),
        });
        Self {
            t,
            publisher,
            commits,
            closed,
            task: tokio::spawn(publishing),
        }
    }

    async fn hand_in(&self, event: NewEvent) -> Answered {
        self.publisher.hand_in(event).await.unwrap()
    }

    async fn hold(&self) -> Held {
        let mut sql = self.t.sql().await;
        sql.run(match self.t.backend() {
            Backend::Postgres => "BEGIN; LOCK TABLE postrider_outbox IN SHARE MODE",
            Backend::Sqlite => "BEGIN IMMEDIATE",
        })
        .await;
        Held(sql)
    }

    /// Waits until nothing waits to be taken into a commit.
    async fn all_taken(&self) {
        eventually(async || match WAITING_MAX - self.publisher.0.capacity() {
            0 => Ok(()),
            waiting => Err(format!("{waiting} events wait")),
        })
        .await;
    }

    fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }

    async fn kept(&self) -> i64 {
        let mut sql = self.t.sql().await;
        sql.number("SELECT count(*) FROM postrider_outbox").await
    }
}

impl Held {
    async fn release(mut self) {
        self.0.run("ROLLBACK").await;
    }
}
