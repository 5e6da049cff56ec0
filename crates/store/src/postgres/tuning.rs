//! The bounds of calls to PostgreSQL.

use std::time::Duration;

/// The bounds of calls to PostgreSQL. They are not configuration; a test may set others.
#[derive(Clone, Copy, Debug)]
pub struct PostgresTuning {
    /// After this time the server cancels a statement that workers make all the time.
    pub hot_statement: Duration,
    /// The same for all other statements.
    pub calm_statement: Duration,
    /// The same for the statements of pruning.
    pub prune_statement: Duration,
    /// A call waits for its answer this much longer than the server works on it.
    pub margin: Duration,
    /// How long getting a connection waits for a place in its pool, and again for a server.
    pub connect: Duration,
    /// How long the test of an unused connection waits for its answer.
    pub test: Duration,
}

impl Default for PostgresTuning {
    fn default() -> Self {
        Self {
            hot_statement: Duration::from_secs(30),
            calm_statement: Duration::from_secs(60),
            prune_statement: Duration::from_secs(600),
            margin: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            test: Duration::from_secs(2),
        }
    }
}
