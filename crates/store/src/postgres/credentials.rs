//! Credentials of registrants, and the signatures they have presented.
//!
//! A secret that signs is sealed, bound to its row.

use super::PostgresStore;
use crate::credential::{
    AccessPatch, StoredProof, credential, credential_exists, credential_not_found,
};
use crate::key_row::{key_columns, key_report};
use crate::{CredentialQuery, Credentials, KeyReport, Result};
use async_trait::async_trait;
use postrider_core::{AccessChange, Credential, KeyId, NewCredential, RegistrantStatus, Timestamp};

#[async_trait]
impl Credentials for PostgresStore {
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport> {
        new.check()?;
        let id = KeyId::draw(now);
        let stored = StoredProof::of(&new, id, &self.keys)?;
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
            0 => Err(credential_exists(&new)),
            _ => Ok(KeyReport::of_credential(id, &new, now)),
        }
    }

    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport> {
        let patch = AccessPatch::from(change);
        let row = sqlx::query(concat!(
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
        .bind(patch.may_read)
        .bind(patch.may_write)
        .bind(patch.account_active)
        .bind(patch.member_active)
        .bind(patch.verified)
        .fetch_optional(&self.calm)
        .await?;
        let row = row.ok_or_else(|| credential_not_found(id))?;
        Ok(key_report(&row)?)
    }

    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>> {
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
        row.map(|row| credential(&row, &query, &self.keys))
            .transpose()
    }

    async fn take_signature(
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
                    SELECT key_id, signature FROM postrider_signatures
                    WHERE until < $3 AND (key_id, signature) <> ($1, $2)
                    ORDER BY until LIMIT 16 FOR UPDATE SKIP LOCKED
                )
            )
            INSERT INTO postrider_signatures AS known (key_id, signature, until)
            VALUES ($1, $2, $4)
            ON CONFLICT (key_id, signature) DO UPDATE SET until = excluded.until
            WHERE known.until < $3",
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
