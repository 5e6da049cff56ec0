//! The columns that a move copies, and those that it derives.

use super::tables::{TransferColumn, TransferTable};
use super::value::ValueKind;
use crate::{Error, Result};
use postrider_core::HookSettings;

/// A fact that the settings of a hook contain.
type SettingFlag = fn(&HookSettings) -> bool;

/// Columns of hooks on PostgreSQL whose values SQLite has only in the settings.
const DERIVED: [(&str, SettingFlag); 2] = [
    ("limited", HookSettings::is_limited),
    ("ordered", |settings| settings.ordered.is_some()),
];

type TypedColumns = Vec<(TransferColumn, ValueKind)>;

/// The columns that are copied, with the kinds of their values, and those derived from them.
pub(super) fn pair(
    source: &TransferTable,
    target: &TransferTable,
) -> Result<(TypedColumns, TypedColumns)> {
    let (mut travelling, mut derived) = (Vec::new(), Vec::new());
    for column in target.columns.iter().filter(|column| !column.drawn) {
        match source.columns.iter().find(|from| from.name == column.name) {
            Some(from) => travelling.push((column.clone(), ValueKind::of(from, column))),
            None if target.name == "postrider_hooks" && flag(column).is_some() => {
                derived.push((column.clone(), ValueKind::Bool));
            }
            None => {
                return Err(Error::Schema(format!(
                    "{} has no column {} in the source: run `postrider migrate` on it first",
                    source.name, column.name
                )));
            }
        }
    }
    Ok((travelling, derived))
}

fn flag(column: &TransferColumn) -> Option<SettingFlag> {
    let found = DERIVED.iter().find(|(name, _)| *name == column.name);
    found.map(|(_, flag)| *flag)
}

/// Adds the derived columns to each hook.
pub(super) fn derive(
    columns: &[(TransferColumn, ValueKind)],
    derived: &[(TransferColumn, ValueKind)],
    rows: &mut [Vec<Option<String>>],
) {
    let settings = columns
        .iter()
        .position(|(column, _)| column.name == "settings");
    for row in rows {
        let settings = settings.and_then(|place| row.get(place)?.as_deref());
        let settings = settings.and_then(|text| serde_json::from_str::<HookSettings>(text).ok());
        for (column, _) in derived {
            let flag = flag(column).zip(settings.as_ref());
            let flag = flag.is_some_and(|(flag, settings)| flag(settings));
            row.push(Some(flag.to_string()));
        }
    }
}
