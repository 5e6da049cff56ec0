//! PostgreSQL as the source or the target of a move.

use super::PostgresStore;
use super::connection::Connection;
use super::days::HistoryExtent;
use super::servers::Setting;
use crate::Result;
use crate::transfer::value::{ValueKind, quoted};
use crate::transfer::{
    APPLICATION, CatalogRow, CopyState, Endpoint, OutboxLock, TransferColumn, TransferRow,
    TransferSource, TransferTable, TransferTarget, tables_of,
};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::KeyRing;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeSet;
use std::time::Duration;

/// For connections that read and write values as text.
const LIMITS: [Setting; 6] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "0"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("jit", "off"),
];

/// How often, and how far apart, a worker is looked for: one that has just started does other
/// things before it looks for work.
const LOOKS_FOR_WORKERS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

impl PostgresStore {
    /// Copying takes its time, and a person waits for it: its calls have no bound.
    async fn mover(&self) -> Result<Connection> {
        self.connect_with(&LIMITS, None).await
    }
}

struct LockedOutbox(Connection);

#[async_trait]
impl OutboxLock for LockedOutbox {
    async fn mark_moved(mut self: Box<Self>, to: &str) -> Result<()> {
        sqlx::query(
            "-- postrider: move_mark
            UPDATE postrider_meta SET moved_to = $1 WHERE singleton",
        )
        .bind(to)
        .execute(&mut self.0)
        .await?;
        sqlx::raw_sql(
            "ALTER TABLE postrider_outbox
                 ADD CONSTRAINT \"postrider: everything has moved to another database\"
                 CHECK (false) NOT VALID;
             COMMIT",
        )
        .execute(&mut self.0)
        .await?;
        self.0.close().await;
        Ok(())
    }
}

#[async_trait]
impl Endpoint for PostgresStore {
    fn is_sqlite(&self) -> bool {
        false
    }

    fn key_ring(&self) -> &KeyRing {
        &self.keys
    }

    async fn tables(&self) -> Result<Vec<TransferTable>> {
        let rows: Vec<(String, String, String, bool, Option<i64>)> = sqlx::query_as(
            "-- postrider: move_tables
            SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL),
                   a.attidentity <> '', array_position(i.indkey::smallint[], a.attnum)::bigint
            FROM pg_class AS c
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
            WHERE c.relnamespace = (SELECT relnamespace FROM pg_class
                                    WHERE oid = 'postrider_outbox'::regclass)
              AND c.relname LIKE 'postrider\\_%' AND c.relkind IN ('r', 'p')
              AND NOT c.relispartition
            ORDER BY c.relname, a.attnum",
        )
        .fetch_all(&self.calm)
        .await?;
        let columns = rows
            .into_iter()
            .map(|(table, name, declared, drawn, key_place)| CatalogRow {
                table,
                key_place,
                column: TransferColumn {
                    name,
                    declared,
                    postgres: true,
                    drawn,
                },
            });
        Ok(tables_of(columns))
    }

    async fn number(&self, statement: String) -> Result<u64> {
        let mut connection = self.mover().await?;
        let number: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut connection)
            .await?;
        Ok(number.unsigned_abs())
    }

    async fn copy_state(&self) -> Result<CopyState> {
        let (slots, hooks_version, last_seq): (i16, i64, i64) = sqlx::query_as(
            "-- postrider: move_state
            SELECT slots, hooks_version, greatest(
                (SELECT coalesce(max(seq), 0) FROM postrider_outbox),
                (SELECT coalesce(max(seq), 0) FROM postrider_events),
                (SELECT coalesce(max(event_seq), 0) FROM postrider_deliveries))
            FROM postrider_meta WHERE singleton",
        )
        .fetch_one(&self.calm)
        .await?;
        Ok(CopyState {
            slots: slots.unsigned_abs(),
            hooks_version,
            last_seq,
        })
    }
}

#[async_trait]
impl TransferSource for PostgresStore {
    async fn worker_at_work(&self) -> Result<Option<String>> {
        for look in 1..=LOOKS_FOR_WORKERS {
            let found = sqlx::query_scalar(
                "-- postrider: move_workers
                SELECT format('session %s of %s from %s', pid, usename,
                              coalesce(host(client_addr), 'this machine'))
                FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND application_name <> $1 AND query ~ '^-- postrider: '
                  AND (state <> 'idle'
                       OR (state_change > clock_timestamp() - interval '2 seconds'
                           AND query ~ '(peek|slots|due_hooks|recover|lease|settle|fan_out)'))
                ORDER BY pid LIMIT 1",
            )
            .bind(APPLICATION)
            .fetch_optional(&self.calm)
            .await?;
            if found.is_some() || look == LOOKS_FOR_WORKERS {
                return Ok(found);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(None)
    }

    async fn days(&self) -> Result<Vec<NaiveDate>> {
        let mut connection = self.calm.acquire().await?;
        Ok(HistoryExtent::read(&mut connection).await?.days)
    }

    async fn read(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<TransferRow>> {
        let key = table
            .key
            .iter()
            .map(|column| (column, ValueKind::of(column, column)));
        let key: Vec<_> = key.collect();
        let others = columns.iter().map(|(column, kind)| (column, *kind));
        let selected = key.iter().copied().chain(others);
        let selected = selected.map(|(column, kind)| as_text(&column.name, kind));
        let bounds = after.map(|_| {
            let bounds = key.iter().enumerate();
            let bounds =
                bounds.map(|(n, (column, kind))| from_text(&format!("${}", n + 1), column, *kind));
            bounds.collect()
        });
        let sql = table.select(selected, bounds, limit);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for bound in after.into_iter().flatten() {
            query = query.bind(bound);
        }
        let mut connection = self.mover().await?;
        let keys = key.len();
        query
            .try_map(move |row: PgRow| {
                let mut cells = Vec::with_capacity(row.len());
                for n in 0..row.len() {
                    cells.push(row.try_get::<Option<String>, _>(n)?);
                }
                let others = cells.split_off(keys);
                Ok(TransferRow {
                    key: cells.into_iter().flatten().collect(),
                    cells: others,
                })
            })
            .fetch_all(&mut connection)
            .await
            .map_err(Into::into)
    }

    async fn lock_outbox(&self) -> Result<Box<dyn OutboxLock + '_>> {
        let mut connection = self.mover().await?;
        sqlx::raw_sql("BEGIN; LOCK TABLE postrider_outbox IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut connection)
            .await?;
        Ok(Box::new(LockedOutbox(connection)))
    }
}

#[async_trait]
impl TransferTarget for PostgresStore {
    async fn begin_move(&self, from: &str, source: &CopyState) -> Result<()> {
        let mut tx = self.calm.begin().await?;
        sqlx::query(
            "-- postrider: move_begin
            UPDATE postrider_meta SET moving_from = $1, hooks_version = $2 + 1 WHERE singleton",
        )
        .bind(from)
        .bind(source.hooks_version)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "-- postrider: move_seq
            SELECT setval(s.name, greatest($1, nextval(s.name)))
            FROM pg_get_serial_sequence('postrider_outbox', 'seq') AS s (name)",
        )
        .bind(source.last_seq)
        .execute(&mut *tx)
        .await?;
        tx.commit().await.map_err(Into::into)
    }

    async fn make_days_ready(&self, days: &[NaiveDate]) -> Result<()> {
        let mut connection = self.mover().await?;
        let days: BTreeSet<_> = days.iter().copied().collect();
        let days: Vec<_> = days.into_iter().collect();
        Ok(self.make_days(&mut connection, &days).await?)
    }

    async fn reached(&self, table: &str) -> Result<(Option<Vec<String>>, u64)> {
        let row: Option<(sqlx::types::Json<Vec<String>>, i64)> = sqlx::query_as(
            "-- postrider: move_reached
            SELECT reached, rows FROM postrider_moves WHERE name = $1",
        )
        .bind(table)
        .fetch_optional(&self.calm)
        .await?;
        Ok(row.map_or((None, 0), |(reached, rows)| {
            (Some(reached.0), rows.unsigned_abs())
        }))
    }

    async fn write(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        rows: Vec<Vec<Option<String>>>,
        cursor: &[String],
        total: u64,
    ) -> Result<()> {
        let names: Vec<_> = columns
            .iter()
            .map(|(column, _)| quoted(&column.name))
            .collect();
        let values = columns.iter().enumerate();
        let values: Vec<_> = values
            .map(|(n, (column, kind))| from_text(&format!("r.c{n}"), column, *kind))
            .collect();
        let given = (1..=columns.len()).map(|n| format!("${n}::text[]"));
        let given: Vec<_> = given.collect();
        let taken: Vec<_> = (0..columns.len()).map(|n| format!("c{n}")).collect();
        let sql = format!(
            "-- postrider: move_write\nINSERT INTO {} ({}) SELECT {} \
             FROM unnest({}) WITH ORDINALITY AS r ({}, nth) ORDER BY r.nth",
            table.name,
            names.join(", "),
            values.join(", "),
            given.join(", "),
            taken.join(", ")
        );
        let mut by_column: Vec<Vec<Option<String>>> =
            vec![Vec::with_capacity(rows.len()); columns.len()];
        for row in rows {
            for (column, cell) in by_column.iter_mut().zip(row) {
                column.push(cell);
            }
        }
        let mut connection = self.mover().await?;
        let mut tx = connection.begin().await?;
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for column in by_column {
            query = query.bind(column);
        }
        query.execute(&mut *tx).await?;
        sqlx::query(
            "-- postrider: move_keep
            INSERT INTO postrider_moves (name, reached, rows) VALUES ($1, $2::json, $3)
            ON CONFLICT (name) DO UPDATE SET reached = excluded.reached, rows = excluded.rows",
        )
        .bind(&table.name)
        .bind(serde_json::Value::from(cursor.to_vec()).to_string())
        .bind(i64::try_from(total).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        tx.commit().await.map_err(Into::into)
    }

    async fn complete(&self) -> Result<()> {
        let mut tx = self.calm.begin().await?;
        sqlx::raw_sql(
            "UPDATE postrider_meta SET moving_from = NULL WHERE singleton;
             DELETE FROM postrider_moves",
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await.map_err(Into::into)
    }
}

/// A column as it travels.
fn as_text(name: &str, kind: ValueKind) -> String {
    let name = quoted(name);
    match kind {
        ValueKind::Bytes => format!("encode({name}, 'hex')"),
        ValueKind::Texts => format!("array_to_json({name})::text"),
        _ => format!("{name}::text"),
    }
}

/// What travelled, as the column takes it.
fn from_text(value: &str, column: &TransferColumn, kind: ValueKind) -> String {
    match kind {
        ValueKind::Bytes => format!("decode({value}, 'hex')"),
        ValueKind::Texts => format!(
            "CASE WHEN {value} IS NOT NULL \
             THEN ARRAY(SELECT json_array_elements_text({value}::json)) END"
        ),
        _ => format!("{value}::{}", column.declared),
    }
}
