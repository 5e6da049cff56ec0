//! What a row of `postrider_keys` becomes: a key, a report, a credential of a registrant.

use crate::stored_row::StoredRow;
use crate::{Error, KeyReport, RegistrantReport};
use postrider_core::{Access, Key, KeyId, KeyScope, RegistrantStatus};

/// The columns of a [`KeyReport`].
macro_rules! key_columns {
    () => {
        "id, system, scope, account, name, public_id, may_read, may_write, account_active, \
         member_active, verified, created_at, last_used_at, revoked_at"
    };
}
pub(crate) use key_columns;

/// Reads a key. `None`: its scope is unknown to this release, and therefore allows nothing.
pub(crate) fn key(row: &impl StoredRow) -> sqlx::Result<Option<Key>> {
    let Some(scope) = KeyScope::from_name(&row.text("scope")?) else {
        return Ok(None);
    };
    Ok(Some(Key {
        id: KeyId(row.uuid("id")?),
        scope,
        account: row.text_or_null("account")?,
    }))
}

/// Reads a key, or a credential of a registrant, as it is shown.
pub(crate) fn key_report(row: &impl StoredRow) -> sqlx::Result<KeyReport> {
    let registrant = match row.text_or_null("system")? {
        Some(system) => Some(RegistrantReport::new(
            system,
            row.text_or_null("public_id")?,
            access(row)?,
        )),
        None => None,
    };
    Ok(KeyReport {
        id: KeyId(row.uuid("id")?),
        scope: row.text("scope")?,
        account: row.text_or_null("account")?,
        name: row.text_or_null("name")?,
        registrant,
        created_at: row.time("created_at")?,
        last_used_at: row.time_or_null("last_used_at")?,
        revoked_at: row.time_or_null("revoked_at")?,
    })
}

/// Reads what a registrant may do.
pub(crate) fn access(row: &impl StoredRow) -> sqlx::Result<Access> {
    let status = |column| {
        row.flag(column).map(|active| match active {
            true => RegistrantStatus::Active,
            false => RegistrantStatus::Inactive,
        })
    };
    Ok(Access {
        read: row.flag("may_read")?,
        write: row.flag("may_write")?,
        account_status: status("account_active")?,
        member_status: status("member_active")?,
        verified: row.flag("verified")?,
    })
}

pub(crate) fn key_not_found(id: KeyId) -> Error {
    Error::NotFound {
        what: "key",
        id: id.to_string(),
    }
}
