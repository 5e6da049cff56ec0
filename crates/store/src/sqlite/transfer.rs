//! SQLite as the source or the target of a move.

use super::SqliteStore;
use super::values::{day_number, day_of, micros, moment, parse_time};
use super::writer::Writing;
use crate::Result;
use crate::transfer::value::{ValueKind, from_hex, plain, quoted, read_time, to_hex, written_time};
use crate::transfer::{
    CatalogRow, CopyState, Endpoint, OutboxLock, TransferColumn, TransferRow, TransferSource,
    TransferTable, TransferTarget, tables_of,
};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::KeyRing;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, TypeInfo, ValueRef};
use uuid::Uuid;

struct LockedOutbox<'a>(Writing<'a>);

#[async_trait]
impl OutboxLock for LockedOutbox<'_> {
    async fn mark_moved(mut self: Box<Self>, to: &str) -> Result<()> {
        sqlx::query(
            "-- postrider: move_mark
            UPDATE postrider_meta SET moved_to = ?1",
        )
        .bind(to)
        .execute(&mut *self.0)
        .await?;
        sqlx::raw_sql(
            "CREATE TRIGGER postrider_moved BEFORE INSERT ON postrider_outbox
             BEGIN SELECT RAISE(ABORT, 'postrider: everything has moved to another database'); END",
        )
        .execute(&mut *self.0)
        .await?;
        self.0.commit().await
    }
}

#[async_trait]
impl Endpoint for SqliteStore {
    fn is_sqlite(&self) -> bool {
        true
    }

    fn key_ring(&self) -> &KeyRing {
        &self.keys
    }

    async fn tables(&self) -> Result<Vec<TransferTable>> {
        let rows: Vec<(String, String, String, i64, bool)> = sqlx::query_as(
            "-- postrider: move_tables
            SELECT t.name, c.name, c.type, c.pk, t.sql LIKE '%AUTOINCREMENT%'
            FROM sqlite_schema AS t CROSS JOIN pragma_table_info(t.name) AS c
            WHERE t.type = 'table' AND t.name GLOB 'postrider_*'
            ORDER BY t.name, c.cid",
        )
        .fetch_all(&self.readers)
        .await?;
        let columns = rows
            .into_iter()
            .map(|(table, name, declared, place, numbered)| CatalogRow {
                table,
                key_place: Some(place).filter(|place| *place > 0),
                column: TransferColumn {
                    name,
                    declared,
                    postgres: false,
                    drawn: numbered && place > 0,
                },
            });
        Ok(tables_of(columns))
    }

    async fn number(&self, statement: String) -> Result<u64> {
        let number: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&self.readers)
            .await?;
        Ok(number.unsigned_abs())
    }

    async fn copy_state(&self) -> Result<CopyState> {
        let (hooks_version, last_seq): (i64, i64) = sqlx::query_as(
            "-- postrider: move_state
            SELECT hooks_version, max(
                (SELECT coalesce(max(seq), 0) FROM postrider_outbox),
                (SELECT coalesce(max(seq), 0) FROM postrider_events),
                (SELECT coalesce(max(event_seq), 0) FROM postrider_deliveries))
            FROM postrider_meta",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(CopyState {
            slots: 1,
            hooks_version,
            last_seq,
        })
    }
}

#[async_trait]
impl TransferSource for SqliteStore {
    async fn worker_at_work(&self) -> Result<Option<String>> {
        // The lock beside the file tells.
        Ok(None)
    }

    async fn days(&self) -> Result<Vec<NaiveDate>> {
        let days: Vec<i32> = sqlx::query_scalar(
            "-- postrider: move_days
            SELECT day FROM postrider_events UNION SELECT day FROM postrider_attempts
            UNION SELECT day FROM postrider_ended",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(days.into_iter().map(day_of).collect())
    }

    async fn read(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<TransferRow>> {
        // In a key what is stored is enough: it comes back to this database.
        let kinds: Vec<_> = table
            .key
            .iter()
            .map(|key| ValueKind::of(key, key))
            .collect();
        let others = columns.iter().map(|(column, _)| column);
        let selected = table.key.iter().chain(others);
        let selected = selected.map(|column| quoted(&column.name));
        let bounds = after.map(|_| (1..=kinds.len()).map(|n| format!("?{n}")).collect());
        let sql = table.select(selected, bounds, limit);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (bound, (column, kind)) in after
            .into_iter()
            .flatten()
            .zip(table.key.iter().zip(&kinds))
        {
            query = bound_to(query, Some(bound.clone()), column, *kind);
        }
        let rows = query.fetch_all(&self.readers).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let mut key = Vec::with_capacity(kinds.len());
            for (n, kind) in kinds.iter().enumerate() {
                key.extend(cell(&row, n, *kind)?);
            }
            let mut cells = Vec::with_capacity(columns.len());
            for (n, (_, kind)) in columns.iter().enumerate() {
                cells.push(cell(&row, kinds.len() + n, *kind)?);
            }
            found.push(TransferRow { key, cells });
        }
        Ok(found)
    }

    async fn lock_outbox(&self) -> Result<Box<dyn OutboxLock + '_>> {
        Ok(Box::new(LockedOutbox(self.writer.begin().await?)))
    }
}

#[async_trait]
impl TransferTarget for SqliteStore {
    async fn begin_move(&self, from: &str, source: &CopyState) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: move_begin
            UPDATE postrider_meta SET moving_from = ?1, hooks_version = ?2 + 1",
        )
        .bind(from)
        .bind(source.hooks_version)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "-- postrider: move_seq
            INSERT INTO sqlite_sequence (name, seq)
            SELECT 'postrider_outbox', 0
            WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'postrider_outbox')",
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "-- postrider: move_seq
            UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'postrider_outbox'",
        )
        .bind(source.last_seq)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn make_days_ready(&self, _: &[NaiveDate]) -> Result<()> {
        Ok(())
    }

    async fn reached(&self, table: &str) -> Result<(Option<Vec<String>>, u64)> {
        let row: Option<(sqlx::types::Json<Vec<String>>, i64)> = sqlx::query_as(
            "-- postrider: move_reached
            SELECT reached, rows FROM postrider_moves WHERE name = ?1",
        )
        .bind(table)
        .fetch_optional(&self.readers)
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
        let values: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let sql = format!(
            "-- postrider: move_write\nINSERT INTO {} ({}) VALUES ({})",
            table.name,
            names.join(", "),
            values.join(", ")
        );
        let mut tx = self.writer.begin().await?;
        for row in rows {
            let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
            for (cell, (column, kind)) in row.into_iter().zip(columns) {
                query = bound_to(query, cell, column, *kind);
            }
            query.execute(&mut *tx).await?;
        }
        sqlx::query(
            "-- postrider: move_keep
            INSERT INTO postrider_moves (name, reached, rows) VALUES (?1, ?2, ?3)
            ON CONFLICT (name) DO UPDATE SET reached = excluded.reached, rows = excluded.rows",
        )
        .bind(&table.name)
        .bind(sqlx::types::Json(cursor))
        .bind(i64::try_from(total).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn complete(&self) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        sqlx::raw_sql("UPDATE postrider_meta SET moving_from = NULL; DELETE FROM postrider_moves")
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}

/// A stored value as it travels.
fn cell(row: &SqliteRow, n: usize, kind: ValueKind) -> sqlx::Result<Option<String>> {
    let value = row.try_get_raw(n)?;
    if value.is_null() {
        return Ok(None);
    }
    let stored = value.type_info().name().to_owned();
    Ok(Some(match (stored.as_str(), kind) {
        ("INTEGER", kind) => {
            let number: i64 = row.try_get_unchecked(n)?;
            match kind {
                ValueKind::Time => written_time(moment(number)),
                ValueKind::Day => day_of(i32::try_from(number).unwrap_or_default()).to_string(),
                ValueKind::Bool => (number != 0).to_string(),
                _ => number.to_string(),
            }
        }
        ("BLOB", kind) => {
            let bytes: Vec<u8> = row.try_get_unchecked(n)?;
            match (kind, Uuid::from_slice(&bytes)) {
                (ValueKind::Uuid, Ok(id)) => id.to_string(),
                _ => to_hex(&bytes),
            }
        }
        (_, kind) => {
            let text = plain(&row.try_get_unchecked::<Vec<u8>, _>(n)?);
            match kind {
                ValueKind::Time => {
                    written_time(parse_time(&text).unwrap_or_else(|| read_time(&text)))
                }
                _ => text,
            }
        }
    }))
}

type Statement<'a> = Query<'a, Sqlite, SqliteArguments>;

/// Binds what travelled, as the column takes it.
fn bound_to<'a>(
    query: Statement<'a>,
    cell: Option<String>,
    column: &TransferColumn,
    kind: ValueKind,
) -> Statement<'a> {
    let Some(text) = cell else {
        return query.bind(None::<i64>);
    };
    match (kind, column.declared.as_str()) {
        (ValueKind::Time, "INTEGER") => query.bind(micros(read_time(&text))),
        (ValueKind::Time, _) => {
            query.bind(read_time(&text).to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
        }
        (ValueKind::Day, _) => query.bind(day_number(text.parse().unwrap_or_default())),
        (ValueKind::Bool, _) => query.bind(i64::from(text == "true")),
        (ValueKind::Number, _) => query.bind(text.parse::<i64>().unwrap_or_default()),
        (ValueKind::Uuid, "BLOB") => {
            query.bind(text.parse::<Uuid>().unwrap_or_default().as_bytes().to_vec())
        }
        (ValueKind::Bytes, _) => query.bind(from_hex(&text)),
        _ => query.bind(text),
    }
}
