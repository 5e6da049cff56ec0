//! The states of a row of `postrider_deliveries` in SQL: see [`crate::row_state`].

/// `next_attempt_at` of a row that is blocked or holds its key:
/// [`NO_TIME`](crate::row_state::NO_TIME).
macro_rules! no_time {
    () => {
        "'9999-12-31 00:00:00Z'::timestamptz"
    };
}
pub(super) use no_time;

/// `next_attempt_at` of a batch member: [`WITH_LEADER`](crate::row_state::WITH_LEADER).
macro_rules! with_leader {
    () => {
        "'9999-12-30 00:00:00Z'::timestamptz"
    };
}
pub(super) use with_leader;

/// Assignments that let the row `$row` wait until `$at`, as a batch member if it is one.
macro_rules! waits_until {
    ($row:literal, $at:literal) => {
        concat!(
            "next_attempt_at = CASE WHEN ",
            $row,
            "batch_id <> ",
            $row,
            "id THEN ",
            super::row_state::with_leader!(),
            " ELSE ",
            $at,
            " END,
             turn_at = CASE WHEN ",
            $row,
            "batch_id <> ",
            $row,
            "id THEN ",
            $at,
            " END"
        )
    };
}
pub(super) use waits_until;

#[cfg(test)]
mod tests {
    use crate::row_state::{NO_TIME, WITH_LEADER};

    #[test]
    fn the_dates_are_those_of_the_states() {
        let literal = |at: postrider_core::Timestamp| {
            format!("'{}'::timestamptz", at.format("%Y-%m-%d %H:%M:%SZ"))
        };
        assert_eq!(no_time!(), literal(NO_TIME));
        assert_eq!(with_leader!(), literal(WITH_LEADER));
    }
}
