//! Keys of the API, and credentials of registrants where they are listed and revoked.
//!
//! No token is stored. A revoked key stays, so that a listing shows when it was revoked.

use super::SqliteStore;
use super::values::{hex, micros, rows};
use crate::key_row::{key, key_columns, key_not_found, key_report};
use crate::{KeyFilter, KeyReport, Keys, Result};
use async_trait::async_trait;
use postrider_core::{Key, KeyId, NewKey, Timestamp, TokenHash};

#[async_trait]
impl Keys for SqliteStore {
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport> {
        key.check()?;
        let id = KeyId::draw(now);
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: create_key
            INSERT INTO postrider_keys (id, scope, account, name, hash, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(id.0)
        .bind(key.scope.name())
        .bind(&key.account)
        .bind(&key.name)
        .bind(hash.0.as_slice())
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(KeyReport::of_new(id, &key, now))
    }

    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>> {
        let after = filter.after.map(|id| id.0.as_bytes().to_vec());
        let rows = sqlx::query(concat!(
            "-- postrider: keys
            SELECT ",
            key_columns!(),
            " FROM postrider_keys WHERE id > ?1 ORDER BY id LIMIT ?2",
        ))
        .bind(after.unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(&self.readers)
        .await?;
        let reports = rows.iter().map(key_report);
        Ok(reports.collect::<sqlx::Result<_>>()?)
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        let mut tx = self.writer.begin().await?;
        let row = sqlx::query(concat!(
            "-- postrider: revoke_key
            UPDATE postrider_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1
            RETURNING ",
            key_columns!(),
        ))
        .bind(id.0)
        .bind(micros(now))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        let row = row.ok_or_else(|| key_not_found(id))?;
        Ok(key_report(&row)?)
    }

    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>> {
        let row = sqlx::query(
            "-- postrider: find_key
            SELECT id, scope, account FROM postrider_keys
            WHERE hash = ?1 AND system IS NULL AND revoked_at IS NULL",
        )
        .bind(hash.0.as_slice())
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.as_ref().map(key).transpose()?.flatten())
    }

    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
        if used.is_empty() {
            return Ok(());
        }
        let used = used
            .iter()
            .map(|(id, at)| (hex(id.0.as_bytes()), micros(*at)));
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: keys_used
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
            used (id, at) AS (SELECT unhex(v ->> 0), v ->> 1 FROM s)
            UPDATE postrider_keys SET last_used_at = used.at
            FROM used
            WHERE postrider_keys.id = used.id
              AND (last_used_at IS NULL OR used.at >= last_used_at + 60 * 1000000)",
        )
        .bind(rows(used))
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }
}
