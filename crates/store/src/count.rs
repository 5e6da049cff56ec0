//! Numbers of rows as they are reported.

/// The number, or the largest that can be reported.
pub(crate) fn count(rows: impl TryInto<u32>) -> u32 {
    rows.try_into().unwrap_or(u32::MAX)
}
