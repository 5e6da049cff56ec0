//! Which retry schedule a hook has.

use crate::{Hook, RetrySchedule};

/// The retry schedules of hooks.
pub trait Schedules: Sync {
    /// The schedule of `hook`; the default schedule for `None`, a hook that no longer exists.
    fn of<'a>(&'a self, hook: Option<&'a Hook>) -> &'a RetrySchedule;
}

/// This schedule for every hook without a schedule of its own.
impl Schedules for RetrySchedule {
    fn of<'a>(&'a self, hook: Option<&'a Hook>) -> &'a RetrySchedule {
        hook.and_then(|hook| hook.settings.retry_schedule.as_ref())
            .unwrap_or(self)
    }
}
