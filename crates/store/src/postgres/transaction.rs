//! Transactions on PostgreSQL. A transaction within another is not needed, and there is none.

use super::connection::Connection;
use sqlx::Executor;
use std::ops::{Deref, DerefMut};

/// An open transaction; dropped without a commit, it is rolled back.
#[derive(Debug)]
pub(super) struct Transaction<C: DerefMut<Target = Connection>> {
    connection: C,
    open: bool,
}

impl Connection {
    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> sqlx::Result<Transaction<&mut Self>> {
        self.begin_with("BEGIN").await
    }

    /// Begins a transaction with this statement instead of `BEGIN`.
    pub(super) async fn begin_with(
        &mut self,
        statement: &'static str,
    ) -> sqlx::Result<Transaction<&mut Self>> {
        Transaction::begin(self, statement).await
    }
}

impl<C: DerefMut<Target = Connection>> Transaction<C> {
    /// Begins a transaction with this statement. There is none within another.
    pub(super) async fn begin(mut connection: C, statement: &'static str) -> sqlx::Result<Self> {
        connection.execute(statement).await?;
        Ok(Self {
            connection,
            open: true,
        })
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        self.connection.execute("COMMIT").await?;
        self.open = false;
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> sqlx::Result<()> {
        self.connection.execute("ROLLBACK").await?;
        self.open = false;
        Ok(())
    }
}

impl<C: DerefMut<Target = Connection>> Deref for Transaction<C> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<C: DerefMut<Target = Connection>> DerefMut for Transaction<C> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl<C: DerefMut<Target = Connection>> Drop for Transaction<C> {
    fn drop(&mut self) {
        if self.open {
            self.connection.leave_transaction();
        }
    }
}
