//! Keys of the API: made, listed, found by the hash of their token, revoked. Credentials of
//! registrants are listed and revoked among them.
//!
//! No token is stored. A revoked key stays, so that a listing tells what became of it.

use super::PostgresStore;
use crate::Result;
use crate::{Error, KeyFilter, KeyReport, RegistrantReport};
use postrider_core::{
    Access, Key, KeyId, KeyScope, NewKey, RegistrantStatus, Timestamp, TokenHash,
};
use sqlx::Row;
use sqlx::postgres::{PgBindIterExt, PgRow};
use uuid::Uuid;

/// What a key is shown by.
macro_rules! key_columns {
    () => {
        "id, system, scope, account, name, public_id, may_read, may_write, account_active, \
         member_active, verified, created_at, last_used_at, revoked_at"
    };
}
pub(super) use key_columns;

impl PostgresStore {
    pub(super) async fn create_key(
        &self,
        key: &NewKey,
        hash: TokenHash,
        now: Timestamp,
    ) -> Result<KeyReport> {
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
        Ok(KeyReport::of_new(id, key, now))
    }

    pub(super) async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyReport>> {
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
        let reports = rows.iter().map(report_from);
        Ok(reports.collect::<std::result::Result<_, _>>()?)
    }

    pub(super) async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        let rows = sqlx::query(concat!(
            "-- postrider: revoke_key
            UPDATE postrider_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
            RETURNING ",
            key_columns!(),
        ))
        .bind(id.0)
        .bind(now)
        .fetch_all(&self.calm)
        .await?;
        match rows.first() {
            Some(row) => Ok(report_from(row)?),
            None => Err(Error::NotFound {
                what: "key",
                id: id.to_string(),
            }),
        }
    }

    pub(super) async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>> {
        let found: Option<(Uuid, String, Option<String>)> = sqlx::query_as(
            "-- postrider: find_key
            SELECT id, scope, account FROM postrider_keys
            WHERE hash = $1 AND system IS NULL AND revoked_at IS NULL",
        )
        .bind(hash.0.as_slice())
        .fetch_optional(&self.intake)
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

    pub(super) async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
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
                -- Whoever holds one is recording it too.
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

pub(super) fn report_from(row: &PgRow) -> std::result::Result<KeyReport, sqlx::Error> {
    let system: Option<String> = row.try_get("system")?;
    let registrant = match system {
        Some(system) => Some(RegistrantReport::new(
            system,
            row.try_get("public_id")?,
            access_from(row)?,
        )),
        None => None,
    };
    Ok(KeyReport {
        id: KeyId(row.try_get("id")?),
        scope: row.try_get("scope")?,
        account: row.try_get("account")?,
        name: row.try_get("name")?,
        registrant,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

/// What a registrant may do.
pub(super) fn access_from(row: &PgRow) -> std::result::Result<Access, sqlx::Error> {
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
