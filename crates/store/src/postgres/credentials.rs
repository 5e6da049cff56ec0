//! Credentials of registrants: made, changed, found by what a caller shows; and the signatures
//! they have shown.
//!
//! A secret that signs is sealed, bound to its row.

use super::PostgresStore;
use super::keys::{access_from, key_columns, report_from};
use crate::Result;
use crate::credential::{PURPOSE, Stored, no_credential, opened, taken};
use crate::{CredentialQuery, KeyReport};
use postrider_core::{AccessChange, Credential, KeyId, NewCredential, RegistrantStatus, Timestamp};
use sqlx::Row;

impl PostgresStore {
    pub(super) async fn create_credential(
        &self,
        new: &NewCredential,
        now: Timestamp,
    ) -> Result<KeyReport> {
        new.check()?;
        let id = KeyId::draw(now);
        let stored = Stored::of(new, |secret| self.keys.seal(PURPOSE, id.0, secret))?;
        let access = &new.access;
        let inserted = sqlx::query(
            "-- postrider: create_credential
            INSERT INTO postrider_keys
                (id, system, scope, account, name, hash, public_id, proof, may_read, may_write,
                 account_active, member_active, verified, created_at)
            VALUES ($1, $2, 'register', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT DO NOTHING",
        )
        .bind(id.0)
        .bind(&new.system)
        .bind(&new.account)
        .bind(&new.name)
        .bind(stored.hash.map(|hash| hash.0.to_vec()))
        .bind(&stored.public_id)
        .bind(&stored.proof)
        .bind(access.read)
        .bind(access.write)
        .bind(access.account_status == RegistrantStatus::Active)
        .bind(access.member_status == RegistrantStatus::Active)
        .bind(access.verified)
        .bind(now)
        .execute(&self.calm)
        .await?;
        match inserted.rows_affected() {
            0 => Err(taken(new)),
            _ => Ok(KeyReport::of_credential(id, new, now)),
        }
    }

    pub(super) async fn change_credential(
        &self,
        id: KeyId,
        change: AccessChange,
    ) -> Result<KeyReport> {
        let active =
            |standing: Option<RegistrantStatus>| standing.map(|s| s == RegistrantStatus::Active);
        let rows = sqlx::query(concat!(
            "-- postrider: change_credential
            UPDATE postrider_keys SET
                may_read = coalesce($2, may_read),
                may_write = coalesce($3, may_write),
                account_active = coalesce($4, account_active),
                member_active = coalesce($5, member_active),
                verified = coalesce($6, verified)
            WHERE id = $1 AND scope = 'register'
            RETURNING ",
            key_columns!(),
        ))
        .bind(id.0)
        .bind(change.permission.map(|(read, _)| read))
        .bind(change.permission.map(|(_, write)| write))
        .bind(active(change.account_status))
        .bind(active(change.member_status))
        .bind(change.verified)
        .fetch_all(&self.calm)
        .await?;
        match rows.first() {
            Some(row) => Ok(report_from(row)?),
            None => Err(no_credential(id)),
        }
    }

    pub(super) async fn find_credential(
        &self,
        query: &CredentialQuery,
    ) -> Result<Option<Credential>> {
        let row = sqlx::query(
            "-- postrider: find_credential
            SELECT id, account, hash, public_id, proof, may_read, may_write, account_active,
                   member_active, verified, last_used_at
            FROM postrider_keys
            WHERE system = $1 AND revoked_at IS NULL AND (public_id = $2 OR hash = $3)",
        )
        .bind(query.system())
        .bind(query.public_id())
        .bind(query.hash().map(|hash| hash.0.to_vec()))
        .fetch_optional(&self.calm)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let id = KeyId(row.try_get("id")?);
        let stored = Stored {
            hash: query.hash(),
            public_id: row.try_get("public_id")?,
            proof: row.try_get("proof")?,
        };
        let proof = opened(stored, |sealed| self.keys.open(PURPOSE, id.0, sealed))?;
        Ok(Some(Credential {
            id,
            account: row.try_get("account")?,
            proof,
            access: access_from(&row)?,
            last_used_at: row.try_get("last_used_at")?,
        }))
    }

    pub(super) async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        let inserted = sqlx::query(
            "-- postrider: take_signature
            WITH outlived AS (
                DELETE FROM postrider_signatures WHERE (key_id, signature) IN (
                    SELECT key_id, signature FROM postrider_signatures WHERE until < $3
                    ORDER BY until LIMIT 16 FOR UPDATE SKIP LOCKED
                )
            )
            INSERT INTO postrider_signatures (key_id, signature, until) VALUES ($1, $2, $4)
            ON CONFLICT DO NOTHING",
        )
        .bind(key.0)
        .bind(signature)
        .bind(now)
        .bind(until)
        .execute(&self.calm)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }
}
