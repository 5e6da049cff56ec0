//! Keys of the API, and credentials of registrants where they are listed and revoked.
//!
//! No token is stored. A revoked key stays, so that a listing shows when it was revoked.

use super::PostgresStore;
use crate::key_row::{key, key_columns, key_not_found, key_report};
use crate::{KeyFilter, KeyReport, Keys, Result};
use async_trait::async_trait;
use postrider_core::{Key, KeyId, NewKey, Timestamp, TokenHash};
use sqlx::postgres::PgBindIterExt;

#[async_trait]
impl Keys for PostgresStore {
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport> {
        key.check()?;
        let id = KeyId::draw(now);
        sqlx::query(
            "-- postrider: create_key
            INSERT INTO postrider_keys (id, scope, account, name, hash, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id.0)
        .bind(key.scope.name())
        .bind(&key.account)
        .bind(&key.name)
        .bind(hash.0.as_slice())
        .bind(now)
        .execute(&self.calm)
        .await?;
        Ok(KeyReport::of_new(id, &key, now))
    }

    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>> {
        let rows = sqlx::query(concat!(
            "-- postrider: keys
            SELECT ",
            key_columns!(),
            " FROM postrider_keys WHERE $1::uuid IS NULL OR id > $1
            ORDER BY id LIMIT $2",
        ))
        .bind(filter.after.map(|id| id.0))
        .bind(i64::from(filter.limit))
        .fetch_all(&self.calm)
        .await?;
        let reports = rows.iter().map(key_report);
        Ok(reports.collect::<sqlx::Result<_>>()?)
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        let row = sqlx::query(concat!(
            "-- postrider: revoke_key
            UPDATE postrider_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
            RETURNING ",
            key_columns!(),
        ))
        .bind(id.0)
        .bind(now)
        .fetch_optional(&self.calm)
        .await?;
        let row = row.ok_or_else(|| key_not_found(id))?;
        Ok(key_report(&row)?)
    }

    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>> {
        let row = sqlx::query(
            "-- postrider: find_key
            SELECT id, scope, account FROM postrider_keys
            WHERE hash = $1 AND system IS NULL AND revoked_at IS NULL",
        )
        .bind(hash.0.as_slice())
        .fetch_optional(&self.intake)
        .await?;
        Ok(row.as_ref().map(key).transpose()?.flatten())
    }

    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
        if used.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "-- postrider: keys_used
            WITH stale AS (
                SELECT k.id, u.at
                FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at)
                JOIN postrider_keys AS k ON k.id = u.id
                WHERE k.last_used_at IS NULL OR u.at >= k.last_used_at + interval '1 minute'
                ORDER BY k.id
                -- A row that is locked is being recorded by another process.
                FOR NO KEY UPDATE OF k SKIP LOCKED
            )
            UPDATE postrider_keys AS k SET last_used_at = stale.at
            FROM stale WHERE k.id = stale.id",
        )
        .bind(used.iter().map(|(id, _)| id.0).bind_iter())
        .bind(used.iter().map(|(_, at)| *at).bind_iter())
        .execute(&self.calm)
        .await?;
        Ok(())
    }
}
