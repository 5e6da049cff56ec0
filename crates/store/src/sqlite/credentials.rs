//! Credentials of registrants: made, changed, found by what a caller shows; and the signatures
//! they have shown.
//!
//! A secret that signs is sealed, bound to its row.

use super::SqliteStore;
use super::keys::{ReportRow, access_from, key_columns};
use super::values::{micros, moment};
use crate::credential::{PURPOSE, Stored, no_credential, opened, taken};
use crate::{CredentialQuery, KeyReport, Result};
use postrider_core::{AccessChange, Credential, KeyId, NewCredential, RegistrantStatus, Timestamp};
use sqlx::Row;

impl SqliteStore {
    pub(super) async fn insert_credential(
        &self,
        new: &NewCredential,
        now: Timestamp,
    ) -> Result<KeyReport> {
        new.check()?;
        let id = KeyId::draw(now);
        let stored = Stored::of(new, |secret| self.keys.seal(PURPOSE, id.0, secret))?;
        let access = &new.access;
        let mut tx = self.writer.begin().await?;
        let inserted = sqlx::query(
            "-- postrider: create_credential
            INSERT INTO postrider_keys
                (id, system, scope, account, name, hash, public_id, proof, may_read, may_write,
                 account_active, member_active, verified, created_at)
            VALUES (?1, ?2, 'register', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
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
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        match inserted.rows_affected() {
            0 => Err(taken(new)),
            _ => Ok(KeyReport::of_credential(id, new, now)),
        }
    }

    pub(super) async fn update_credential(
        &self,
        id: KeyId,
        change: AccessChange,
    ) -> Result<KeyReport> {
        let active =
            |standing: Option<RegistrantStatus>| standing.map(|s| s == RegistrantStatus::Active);
        let mut tx = self.writer.begin().await?;
        let found: Option<ReportRow> = sqlx::query_as(concat!(
            "-- postrider: change_credential
            UPDATE postrider_keys SET
                may_read = coalesce(?2, may_read),
                may_write = coalesce(?3, may_write),
                account_active = coalesce(?4, account_active),
                member_active = coalesce(?5, member_active),
                verified = coalesce(?6, verified)
            WHERE id = ?1 AND scope = 'register'
            RETURNING ",
            key_columns!(),
        ))
        .bind(id.0)
        .bind(change.permission.map(|(read, _)| read))
        .bind(change.permission.map(|(_, write)| write))
        .bind(active(change.account_status))
        .bind(active(change.member_status))
        .bind(change.verified)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        found.map(|row| row.0).ok_or_else(|| no_credential(id))
    }

    pub(super) async fn credential_of(
        &self,
        query: &CredentialQuery,
    ) -> Result<Option<Credential>> {
        let row = sqlx::query(
            "-- postrider: find_credential
            SELECT id, account, hash, public_id, proof, may_read, may_write, account_active,
                   member_active, verified, last_used_at
            FROM postrider_keys
            WHERE system = ?1 AND revoked_at IS NULL AND (public_id = ?2 OR hash = ?3)",
        )
        .bind(query.system())
        .bind(query.public_id())
        .bind(query.hash().map(|hash| hash.0.to_vec()))
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let id = KeyId(row.try_get("id")?);
        let stored = Stored {
            hash: query.hash(),
            public_id: row.try_get("public_id")?,
            proof: row.try_get("proof")?,
        };
        let proof = opened(stored, |sealed| self.keys.open(PURPOSE, id.0, sealed))?;
        let last_used_at: Option<i64> = row.try_get("last_used_at")?;
        Ok(Some(Credential {
            id,
            account: row.try_get("account")?,
            proof,
            access: access_from(&row)?,
            last_used_at: last_used_at.map(moment),
        }))
    }

    pub(super) async fn note_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: forget_signatures
            DELETE FROM postrider_signatures WHERE (key_id, signature) IN (
                SELECT key_id, signature FROM postrider_signatures WHERE until < ?1
                ORDER BY until LIMIT 16
            )",
        )
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
        let inserted = sqlx::query(
            "-- postrider: take_signature
            INSERT INTO postrider_signatures (key_id, signature, until) VALUES (?1, ?2, ?3)
            ON CONFLICT DO NOTHING",
        )
        .bind(key.0)
        .bind(signature)
        .bind(micros(until))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(inserted.rows_affected() == 1)
    }
}
