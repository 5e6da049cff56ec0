//! Connections that are idle, to be used again.
//!
//! The pool is small and short-lived by intent. Receivers close idle connections, most of them after 5
//! to 75 seconds, networks forget them silently, and each takes a file descriptor. The bound holds over all hosts together: whoever has many takes from nobody else,
//! because the connection that has been idle for longest is closed first.

use super::connection::Connection;
use super::target::Origin;
use postrider_core::monotonic_now;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a connection may be idle. Who closes it earlier causes a repeat, no failure.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(10);
/// Idle connections at most, over all hosts.
pub const IDLE_MAX: usize = 512;
/// How often connections that have been idle for too long are closed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The idle connections of a client.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<IdleConnections>,
    max: usize,
}

#[derive(Debug, Default)]
struct IdleConnections {
    /// The connections to each origin, the one that has been idle for longest first. Queues that
    /// are empty are removed by the sweep.
    origins: HashMap<Arc<Origin>, VecDeque<Idle>>,
    count: usize,
    /// Whether a task sweeps: it ends when there is nothing to sweep.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// Whether it may be used at `now`.
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < IDLE_FOR
            && !self.connection.is_old(now)
            && self.connection.is_ready()
    }
}

impl Pool {
    /// A pool of at most `max` connections.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            max,
        })
    }

    /// The connection to `origin` that was used last, of those that may still be used.
    pub(super) fn take(&self, origin: &Arc<Origin>, now: Instant) -> Option<Connection> {
        let mut idle = self.lock();
        loop {
            let latest = idle.pop(origin, VecDeque::pop_back)?;
            match latest.is_good(now) {
                true => return Some(latest.connection),
                false => latest.connection.close(),
            }
        }
    }

    /// Keeps a connection that was used until `now`.
    pub(super) fn put(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        connection: Connection,
        now: Instant,
    ) {
        let mut idle = self.lock();
        let since = now;
        let kept = Idle { connection, since };
        match idle.origins.get_mut(origin) {
            Some(queue) => queue.push_back(kept),
            None => drop(idle.origins.insert(origin.clone(), VecDeque::from([kept]))),
        }
        idle.count += 1;
        if idle.count > self.max {
            idle.evict();
        }
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes the connections to `origin` of which `unwanted` holds: it is given each connection
    /// and since when it has been idle.
    pub(super) fn close(
        &self,
        origin: &Arc<Origin>,
        unwanted: impl Fn(&Connection, Instant) -> bool,
    ) {
        let mut idle = self.lock();
        if let Some(queue) = idle.origins.get_mut(origin) {
            let before = queue.len();
            queue.retain(|idle| !unwanted(&idle.connection, idle.since));
            let closed = before - queue.len();
            idle.count -= closed;
        }
    }

    /// Closes all connections.
    pub(super) fn clear(&self) {
        let mut idle = self.lock();
        idle.origins.clear();
        idle.count = 0;
    }

    /// Closes what may not be used any more at `now`. Returns whether any connection is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut idle = self.lock();
        let mut count = 0;
        idle.origins.retain(|_, queue| {
            for _ in 0..queue.len() {
                match queue.pop_front() {
                    Some(idle) if idle.is_good(now) => queue.push_back(idle),
                    Some(idle) => idle.connection.close(),
                    None => {}
                }
            }
            count += queue.len();
            !queue.is_empty()
        });
        idle.count = count;
        idle.swept = count > 0;
        idle.swept
    }

    fn lock(&self) -> MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sweeps a pool for as long as it holds connections.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let left = pool
            .upgrade()
            .is_some_and(|pool| pool.sweep(monotonic_now()));
        if !left {
            return;
        }
    }
}

impl IdleConnections {
    fn pop(
        &mut self,
        origin: &Arc<Origin>,
        end: impl Fn(&mut VecDeque<Idle>) -> Option<Idle>,
    ) -> Option<Idle> {
        let popped = end(self.origins.get_mut(origin)?)?;
        self.count -= 1;
        Some(popped)
    }

    /// Closes the connection that has been idle for longest. Looks at every origin, of which there
    /// are no more than idle connections: little, beside opening the next one.
    fn evict(&mut self) {
        let oldest = self
            .origins
            .iter()
            .filter_map(|(origin, queue)| Some((queue.front()?.since, origin)))
            .min_by_key(|(since, _)| *since)
            .map(|(_, origin)| origin.clone());
        if let Some(evicted) = oldest.and_then(|origin| self.pop(&origin, VecDeque::pop_front)) {
            evicted.connection.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Stream;
    use super::super::target::{HeaderNames, Target};
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    const SECOND: Duration = Duration::from_secs(1);

    /// Makes connections that nobody answers.
    struct Peer {
        listener: TcpListener,
        accepted: Vec<TcpStream>,
    }

    impl Peer {
        async fn new() -> Self {
            Self {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                accepted: Vec::new(),
            }
        }

        async fn connection(&mut self, made: Instant) -> Connection {
            let address = self.listener.local_addr().unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            self.accepted.push(self.listener.accept().await.unwrap().0);
            let stream = Stream::Plain(stream);
            let connection = Connection::over(stream, HeaderNames::LowerCase, made).await;
            let mut connection = connection.unwrap();
            assert!(connection.is_settled().await);
            connection
        }
    }

    fn origin(host: &str) -> Arc<Origin> {
        Target::of(&format!("http://{host}/").parse().unwrap())
            .unwrap()
            .origin
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_used_next_until_it_has_been_idle_for_long() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let (pool, host) = (Pool::new(9), origin("a.example"));
        pool.put(&host, peer.connection(start).await, start);
        let second = start + SECOND;
        pool.put(&host, peer.connection(second).await, second);
        assert!(pool.take(&origin("b.example"), second).is_none());
        let almost = start + IDLE_FOR + SECOND / 2;
        let latest = pool.take(&host, almost).unwrap();
        assert!(!latest.is_old_after_refusal(second + 9 * SECOND));
        assert!(
            latest.is_old_after_refusal(second + 10 * SECOND),
            "the second"
        );
        assert!(
            pool.take(&host, almost).is_none(),
            "the first is idle for too long"
        );
    }

    #[tokio::test]
    async fn a_connection_that_the_peer_has_closed_is_not_used() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let (pool, host) = (Pool::new(9), origin("a.example"));
        let connection = peer.connection(start).await;
        peer.accepted.clear();
        while connection.is_ready() {
            tokio::task::yield_now().await;
        }
        pool.put(&host, connection, start);
        assert!(pool.take(&host, start).is_none());
    }

    #[tokio::test]
    async fn a_connection_is_not_used_for_longer_than_a_minute() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let (pool, host) = (Pool::new(9), origin("a.example"));
        let mut connection = peer.connection(start).await;
        let mut now = start;
        while !connection.is_old(now + SECOND) {
            now += SECOND;
            pool.put(&host, connection, now);
            connection = pool.take(&host, now).expect("it is not old");
        }
        assert!(
            (44..60).contains(&(now - start).as_secs()),
            "{:?}",
            now - start
        );
        pool.put(&host, connection, now);
        assert!(pool.take(&host, now + SECOND).is_none());
    }

    #[tokio::test]
    async fn over_the_bound_the_connection_that_has_been_idle_for_longest_is_closed() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let pool = Pool::new(2);
        let hosts = ["a.example", "b.example", "c.example"].map(origin);
        for (number, host) in (0..).zip(&hosts) {
            let connection = peer.connection(start).await;
            pool.put(host, connection, start + number * Duration::from_millis(1));
        }
        let now = start + SECOND;
        let kept = hosts.map(|host| pool.take(&host, now).is_some());
        assert_eq!(kept, [false, true, true]);
    }

    #[tokio::test]
    async fn what_is_unwanted_is_closed_and_nothing_else() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let pool = Pool::new(2);
        let (a, b) = (origin("a.example"), origin("b.example"));
        for host in [&a, &b] {
            pool.put(host, peer.connection(start).await, start);
        }
        pool.close(&a, |_, idle_since| idle_since <= start);
        assert!(pool.take(&a, start).is_none());
        // The bound counts what is left.
        pool.put(&a, peer.connection(start).await, start);
        assert!(pool.take(&b, start).is_some());
    }

    #[tokio::test]
    async fn a_sweep_closes_what_may_not_be_used_any_more() {
        let (mut peer, start) = (Peer::new().await, monotonic_now());
        let (pool, host) = (Pool::new(9), origin("a.example"));
        pool.put(&host, peer.connection(start).await, start);
        let later = start + 2 * SECOND;
        pool.put(&host, peer.connection(start).await, later);
        assert!(pool.sweep(start + IDLE_FOR), "one is left");
        assert!(pool.take(&host, later + SECOND).is_some());
        assert!(!pool.sweep(later), "none is left");
        assert!(pool.lock().origins.is_empty());
    }
}
