//! The state of the file, for `postrider check`.

use super::SqliteStore;
use crate::Result;
use crate::diagnostics::{Diagnostics, TableSize, Unused};

/// See [`Monitoring::diagnostics`](crate::Monitoring::diagnostics).
pub(super) async fn diagnostics(store: &SqliteStore) -> Result<Diagnostics> {
    let (pages, free, page): (i64, i64, i64) = sqlx::query_as(
        "-- postrider: examine_free
        SELECT n.page_count, f.freelist_count, p.page_size
        FROM pragma_page_count AS n CROSS JOIN pragma_freelist_count AS f
        CROSS JOIN pragma_page_size AS p",
    )
    .fetch_one(&store.readers)
    .await?;
    let mut log = store.path.clone().into_os_string();
    log.push("-wal");
    Ok(Diagnostics {
        tables: vec![TableSize {
            name: "the file".into(),
            bytes: (pages * page).unsigned_abs(),
            dead_rows: 0,
        }],
        sees_all_sessions: true,
        unused: Some(Unused {
            free: (free * page).unsigned_abs(),
            log: std::fs::metadata(log).map_or(0, |file| file.len()),
        }),
        ..Diagnostics::default()
    })
}
