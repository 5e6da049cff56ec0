//! The tables of a database, as a move sees them.

use super::value::quoted;

/// The table that applications insert into; it is copied last.
pub(super) const OUTBOX: &str = "postrider_outbox";

/// Tables about the database itself or the workers on it, which are not copied.
pub(super) const STAYS: [&str; 7] = [
    "postrider_migrations",
    "postrider_meta",
    "postrider_moves",
    "postrider_leases",
    "postrider_lease_members",
    "postrider_gates",
    "postrider_gauges",
];

/// A table, as its database describes it.
#[derive(Clone, Debug)]
pub(crate) struct TransferTable {
    pub(crate) name: String,
    pub(crate) columns: Vec<TransferColumn>,
    /// The columns of the primary key, in its order.
    pub(crate) key: Vec<TransferColumn>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct TransferColumn {
    pub(crate) name: String,
    /// Its type in the words of its database.
    pub(crate) declared: String,
    /// Whether its type is one of PostgreSQL's, which say more about the values.
    pub(crate) postgres: bool,
    /// Whether the database generates its values.
    pub(crate) drawn: bool,
}

impl TransferTable {
    /// The statement that reads a page in the order of the key, after the key with these `bounds`.
    pub(crate) fn select(
        &self,
        selected: impl Iterator<Item = String>,
        bounds: Option<Vec<String>>,
        limit: u32,
    ) -> String {
        let selected: Vec<_> = selected.collect();
        let key: Vec<_> = self.key.iter().map(|column| quoted(&column.name)).collect();
        let (selected, key) = (selected.join(", "), key.join(", "));
        let condition = match bounds {
            None => "true".to_owned(),
            Some(bounds) => format!("({key}) > ({})", bounds.join(", ")),
        };
        format!(
            "-- postrider: move_read\nSELECT {selected} FROM {} WHERE {condition} ORDER BY {key} \
             LIMIT {limit}",
            self.name
        )
    }
}

/// A column as the catalog of a database lists it.
pub(crate) struct CatalogRow {
    pub(crate) table: String,
    pub(crate) column: TransferColumn,
    /// Its place in the primary key; `None` outside of it.
    pub(crate) key_place: Option<i64>,
}

/// The tables of a catalog that is ordered by table.
pub(crate) fn tables_of(rows: impl IntoIterator<Item = CatalogRow>) -> Vec<TransferTable> {
    let mut tables: Vec<TransferTable> = Vec::new();
    let mut places = Vec::new();
    for row in rows {
        if tables.last().is_none_or(|last| last.name != row.table) {
            tables.push(TransferTable {
                name: row.table,
                columns: Vec::new(),
                key: Vec::new(),
            });
            places.clear();
        }
        if let Some(table) = tables.last_mut() {
            if let Some(place) = row.key_place {
                let at = places.partition_point(|other| *other < place);
                places.insert(at, place);
                table.key.insert(at, row.column.clone());
            }
            table.columns.push(row.column);
        }
    }
    tables
}
