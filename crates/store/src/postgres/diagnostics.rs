//! The state of the tables, and what holds back their cleaning, for `postrider check`.

use super::PostgresStore;
use super::connection::Connection;
use super::upkeep::{made_by_hand, missing_days};
use crate::Result;
use crate::diagnostics::{Diagnostics, OUTBOX_COLUMNS, OldSnapshot, Producer, TableSize};
use postrider_core::Timestamp;
use std::time::Duration;

/// See [`Monitoring::diagnostics`](crate::Monitoring::diagnostics).
pub(super) async fn diagnostics(store: &PostgresStore, now: Timestamp) -> Result<Diagnostics> {
    let mut connection = store.calm.acquire().await?;
    Ok(Diagnostics {
        missing_partitions: missing_days(&mut connection, now).await?,
        foreign_partitions: made_by_hand(&mut connection).await?,
        tables: tables(&mut connection).await?,
        oldest_snapshot: oldest_snapshot(&mut connection).await?,
        sees_all_sessions: sees_all_sessions(&mut connection).await?,
        producers: producers(&mut connection).await?,
        unused: None,
    })
}

async fn tables(connection: &mut Connection) -> Result<Vec<TableSize>> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "-- postrider: examine_tables
        WITH ours AS (
            SELECT c.oid, c.relname FROM pg_class AS c
            WHERE c.relnamespace = (SELECT relnamespace FROM pg_class
                                    WHERE oid = 'postrider_outbox'::regclass)
              AND c.relname LIKE 'postrider\\_%' AND c.relkind IN ('r', 'p')
              AND NOT c.relispartition
        )
        SELECT o.relname::text,
               sum(pg_total_relation_size(t.relid))::bigint,
               coalesce(sum(s.n_dead_tup), 0)::bigint
        FROM ours AS o CROSS JOIN LATERAL (
            SELECT o.oid AS relid
            UNION
            SELECT inhrelid FROM pg_inherits WHERE inhparent = o.oid
        ) AS t
        LEFT JOIN pg_stat_user_tables AS s ON s.relid = t.relid
        GROUP BY o.relname ORDER BY 2 DESC, 1",
    )
    .fetch_all(connection)
    .await?;
    let tables = rows.into_iter().map(|(name, bytes, dead)| TableSize {
        name,
        bytes: bytes.unsigned_abs(),
        dead_rows: dead.unsigned_abs(),
    });
    Ok(tables.collect())
}

async fn sees_all_sessions(connection: &mut Connection) -> Result<bool> {
    let sees = sqlx::query_scalar(
        "-- postrider: examine_reach
        SELECT pg_has_role('pg_read_all_stats', 'USAGE')
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
    )
    .fetch_one(connection)
    .await?;
    Ok(sees)
}

/// The session, prepared transaction or replication slot that holds the oldest snapshot of this
/// database.
async fn oldest_snapshot(connection: &mut Connection) -> Result<Option<OldSnapshot>> {
    type Columns = (String, String, Option<Timestamp>, Option<f64>);
    let row: Option<Columns> = sqlx::query_as(
        "-- postrider: examine_snapshots
        SELECT what, remedy, since, extract(epoch FROM clock_timestamp() - since)::float8
        FROM (
            SELECT format('session %s of %s (%s, %s)', pid, usename,
                          coalesce(nullif(application_name, ''), 'no name'), state) AS what,
                   format('let it end, or end it with SELECT pg_terminate_backend(%s)', pid)
                       AS remedy,
                   xact_start AS since, age(coalesce(backend_xmin, backend_xid)) AS behind
            FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
              AND coalesce(backend_xmin, backend_xid) IS NOT NULL
              AND backend_type = 'client backend'
            UNION ALL
            SELECT format('prepared transaction %s of %s', gid, owner),
                   format('end it with ROLLBACK PREPARED %L or COMMIT PREPARED %L', gid, gid),
                   prepared, age(transaction)
            FROM pg_prepared_xacts WHERE database = current_database()
            UNION ALL
            SELECT format('replication slot %s', slot_name),
                   'let its subscriber catch up, or drop the slot if nobody uses it', NULL,
                   greatest(age(xmin), age(catalog_xmin))
            FROM pg_replication_slots
            WHERE xmin IS NOT NULL AND (database IS NULL OR database = current_database())
        ) AS held
        ORDER BY behind DESC, since LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(what, remedy, since, age)| OldSnapshot {
        what,
        since,
        age: Duration::try_from_secs_f64(age.unwrap_or_default()).unwrap_or_default(),
        remedy,
    }))
}

/// The roles other than the owner that may insert into the outbox.
async fn producers(connection: &mut Connection) -> Result<Vec<Producer>> {
    let rows: Vec<(String, Vec<String>, Vec<String>, bool)> = sqlx::query_as(
        "-- postrider: examine_grants
        WITH outbox AS (
            SELECT oid, relowner, relnamespace, relacl FROM pg_class
            WHERE oid = 'postrider_outbox'::regclass
        ), granted AS (
            SELECT a.grantee FROM outbox AS o CROSS JOIN LATERAL aclexplode(o.relacl) AS a
            WHERE a.privilege_type = 'INSERT' AND a.grantee <> o.relowner
            UNION
            SELECT a.grantee
            FROM outbox AS o JOIN pg_attribute AS c ON c.attrelid = o.oid
            CROSS JOIN LATERAL aclexplode(c.attacl) AS a
            WHERE a.privilege_type = 'INSERT' AND a.grantee <> o.relowner
        ), role AS (
            SELECT g.grantee, CASE g.grantee WHEN 0 THEN 'public' ELSE r.rolname::text END AS name
            FROM granted AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
        )
        SELECT CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.name END,
               ARRAY(SELECT d.name FROM unnest($1::text[]) AS d (name)
                     WHERE NOT has_column_privilege(r.name, o.oid, d.name, 'INSERT')),
               ARRAY(SELECT c.attname::text FROM pg_attribute AS c
                     WHERE c.attrelid = o.oid AND c.attnum > 0 AND NOT c.attisdropped
                       AND c.attname <> ALL ($1) AND c.attidentity = ''
                       AND has_column_privilege(r.name, o.oid, c.attnum, 'INSERT')
                     ORDER BY c.attnum),
               has_schema_privilege(r.name, o.relnamespace, 'USAGE')
        FROM role AS r CROSS JOIN outbox AS o WHERE r.name IS NOT NULL
        ORDER BY r.name",
    )
    .bind(&OUTBOX_COLUMNS[..])
    .fetch_all(connection)
    .await?;
    let producers = rows
        .into_iter()
        .map(|(role, missing, excess, uses_schema)| Producer {
            role,
            missing,
            excess,
            uses_schema,
        });
    Ok(producers.collect())
}
