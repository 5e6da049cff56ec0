//! Keys of the API: made, listed, found by the hash of their token, revoked. Credentials of
//! registrants are listed and revoked among them.
//!
//! No token is stored. A revoked key stays, so that a listing tells what became of it.

use super::SqliteStore;
use super::values::{hex, micros, moment, rows};
use crate::{Error, KeyFilter, KeyReport, RegistrantReport, Result};
use postrider_core::{
    Access, Key, KeyId, KeyScope, NewKey, RegistrantStatus, Timestamp, TokenHash,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// What a key is shown by.
macro_rules! key_columns {
    () => {
        "id, system, scope, account, name, public_id, may_read, may_write, account_active, \
         member_active, verified, created_at, last_used_at, revoked_at"
    };
}
pub(super) use key_columns;

impl SqliteStore {
    pub(super) async fn insert_key(
        &self,
        key: &NewKey,
        hash: TokenHash,
        now: Timestamp,
    ) -> Result<KeyReport> {
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
        Ok(KeyReport::of_new(id, key, now))
    }

    pub(super) async fn list_keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>> {
        let after = filter.after.map(|id| id.0.as_bytes().to_vec());
        let found: Vec<ReportRow> = sqlx::query_as(concat!(
            "-- postrider: keys
            SELECT ",
            key_columns!(),
            " FROM postrider_keys WHERE id > ?1 ORDER BY id LIMIT ?2",
        ))
        .bind(after.unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(&self.readers)
        .await?;
        Ok(found.into_iter().map(|row| row.0).collect())
    }

    pub(super) async fn end_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        let mut tx = self.writer.begin().await?;
        let found: Option<ReportRow> = sqlx::query_as(concat!(
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
        found.map(|row| row.0).ok_or_else(|| Error::NotFound {
            what: "key",
            id: id.to_string(),
        })
    }

    pub(super) async fn key_of(&self, hash: TokenHash) -> Result<Option<Key>> {
        let found: Option<(Uuid, String, Option<String>)> = sqlx::query_as(
            "-- postrider: find_key
            SELECT id, scope, account FROM postrider_keys
            WHERE hash = ?1 AND system IS NULL AND revoked_at IS NULL",
        )
        .bind(hash.0.as_slice())
        .fetch_optional(&self.readers)
        .await?;
        // A scope that this release does not know allows nothing.
        Ok(found.and_then(|(id, scope, account)| {
            Some(Key {
                id: KeyId(id),
                scope: KeyScope::from_name(&scope)?,
                account,
            })
        }))
    }

    pub(super) async fn note_uses(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
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

pub(super) struct ReportRow(pub KeyReport);

impl FromRow<'_, SqliteRow> for ReportRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let at = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(moment));
        let system: Option<String> = row.try_get("system")?;
        let registrant = match system {
            Some(system) => Some(RegistrantReport::new(
                system,
                row.try_get("public_id")?,
                access_from(row)?,
            )),
            None => None,
        };
        Ok(Self(KeyReport {
            id: KeyId(row.try_get("id")?),
            scope: row.try_get("scope")?,
            account: row.try_get("account")?,
            name: row.try_get("name")?,
            registrant,
            created_at: moment(row.try_get("created_at")?),
            last_used_at: at("last_used_at")?,
            revoked_at: at("revoked_at")?,
        }))
    }
}

/// What a registrant may do.
pub(super) fn access_from(row: &SqliteRow) -> sqlx::Result<Access> {
    let standing = |column| {
        row.try_get(column).map(|active| match active {
            true => RegistrantStatus::Active,
            false => RegistrantStatus::Inactive,
        })
    };
    Ok(Access {
        read: row.try_get("may_read")?,
        write: row.try_get("may_write")?,
        account_status: standing("account_active")?,
        member_status: standing("member_active")?,
        verified: row.try_get("verified")?,
    })
}
