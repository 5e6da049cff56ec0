//! What a hook sets for itself, and changes of it.

use crate::{BodyForm, Filter, HookError, Rate, RetrySchedule, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a hook sets for itself; what it leaves out follows the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookSettings {
    /// What stands in the body.
    pub body: BodyForm,
    /// Which payloads it asks for, of the events that its patterns match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The deadline of a whole exchange; never longer than the worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The waits between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_schedule: Option<RetrySchedule>,
    /// Requests in flight to it at most, over all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Requests to it in a time at most, over all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether it gets the events of one key in their order, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Ordered>,
    /// What becomes of the events behind one that has failed for good, if it is ordered; they
    /// wait, unless it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Failures in a row before it is backed off as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off_after: Option<u32>,
    /// Failures in a row before it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_failures: Option<u32>,
    /// The time those failures must span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after: Option<Span>,
    /// What only its profile knows, by name; the profile says what there is.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub profile: Map<String, Value>,
}

/// A change of what a hook sets for itself. What is `None` stays as it is; `Some(None)` takes
/// back what the hook had set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// What stands in the body.
    pub body: Option<BodyForm>,
    /// Which payloads it asks for; without one, all.
    pub filter: Option<Option<Filter>>,
    /// The deadline of a whole exchange.
    pub timeout: Option<Option<Span>>,
    /// The waits between attempts.
    pub retry_schedule: Option<Option<RetrySchedule>>,
    /// Requests in flight at most.
    pub in_flight: Option<Option<u32>>,
    /// Requests in a time at most.
    pub rate: Option<Option<Rate>>,
    /// Whether the events of one key come in their order. Without it, `on_failure` goes too.
    pub ordered: Option<Option<Ordered>>,
    /// What becomes of the events behind one that has failed for good.
    pub on_failure: Option<Option<OnFailure>>,
    /// Failures in a row before it is backed off.
    pub back_off_after: Option<Option<u32>>,
    /// Failures in a row before it is disabled.
    pub disable_after_failures: Option<Option<u32>>,
    /// The time those failures must span.
    pub disable_after: Option<Option<Span>>,
}

/// In what order a hook gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordered {
    /// Those of one `ordering_key` one after another, as they were inserted; others in any order.
    Key,
}

/// What becomes of the events behind one that has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Those of its key wait until a person sends it again and it is taken, or discards it.
    #[default]
    Hold,
    /// They go on.
    Skip,
}

impl HookSettings {
    /// Whether something is set that must hold over all workers together: a limit, or an order.
    pub fn is_limited(&self) -> bool {
        self.in_flight.is_some() || self.rate.is_some() || self.ordered.is_some()
    }

    /// What becomes of the events behind one that has failed for good, if the hook is ordered.
    pub fn after_failure(&self) -> Option<OnFailure> {
        self.ordered
            .map(|Ordered::Key| self.on_failure.unwrap_or_default())
    }

    /// Makes the change.
    pub fn apply(&mut self, change: SettingsChange) {
        self.body = change.body.unwrap_or(self.body);
        set(&mut self.filter, change.filter);
        set(&mut self.timeout, change.timeout);
        set(&mut self.retry_schedule, change.retry_schedule);
        set(&mut self.in_flight, change.in_flight);
        set(&mut self.rate, change.rate);
        set(&mut self.ordered, change.ordered);
        if self.ordered.is_none() {
            self.on_failure = None;
        }
        set(&mut self.on_failure, change.on_failure);
        set(&mut self.back_off_after, change.back_off_after);
        set(
            &mut self.disable_after_failures,
            change.disable_after_failures,
        );
        set(&mut self.disable_after, change.disable_after);
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), HookError> {
        if self.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            return Err(HookError::Timeout);
        }
        if self.on_failure.is_some() && self.ordered.is_none() {
            return Err(HookError::NotOrdered);
        }
        let counts = [
            ("in-flight limit", self.in_flight),
            ("number of failures to back off after", self.back_off_after),
            (
                "number of failures to disable after",
                self.disable_after_failures,
            ),
        ];
        match counts.into_iter().find(|(_, count)| *count == Some(0)) {
            Some((name, _)) => Err(HookError::Zero(name)),
            None => Ok(()),
        }
    }
}

impl SettingsChange {
    /// Whether anything is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names of what is to change, in words for people.
    pub fn names(&self) -> String {
        let names = [
            ("body", self.body.is_some()),
            ("filter", self.filter.is_some()),
            ("timeout", self.timeout.is_some()),
            ("retry_schedule", self.retry_schedule.is_some()),
            ("in_flight", self.in_flight.is_some()),
            ("rate", self.rate.is_some()),
            ("ordered", self.ordered.is_some()),
            ("on_failure", self.on_failure.is_some()),
            ("back_off_after", self.back_off_after.is_some()),
            (
                "disable_after_failures",
                self.disable_after_failures.is_some(),
            ),
            ("disable_after", self.disable_after.is_some()),
        ];
        let changed = names.iter().filter(|(_, changed)| *changed);
        changed
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn set<T>(setting: &mut Option<T>, change: Option<Option<T>>) {
    if let Some(value) = change {
        *setting = value;
    }
}

impl Ordered {
    /// The order's name, as it is shown and set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
        }
    }
}

impl OnFailure {
    /// The choice's name, as it is shown and set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Skip => "skip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_behind_a_failure_goes_with_the_order() {
        let change = |ordered, on_failure| SettingsChange {
            ordered,
            on_failure,
            ..SettingsChange::default()
        };
        let mut settings = HookSettings::default();
        assert_eq!(settings.after_failure(), None);
        settings.apply(change(None, Some(Some(OnFailure::Skip))));
        assert_eq!(settings.check(), Err(HookError::NotOrdered));
        settings.apply(change(Some(Some(Ordered::Key)), None));
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.after_failure(), Some(OnFailure::Skip));
        assert!(settings.is_limited(), "one worker owns it");
        settings.apply(change(None, Some(None)));
        assert_eq!(settings.after_failure(), Some(OnFailure::Hold));
        settings.apply(change(None, Some(Some(OnFailure::Skip))));
        settings.apply(change(Some(None), None));
        assert_eq!(settings, HookSettings::default());
    }

    #[test]
    fn a_change_sets_what_it_names_and_nothing_else() {
        let mut settings = HookSettings {
            filter: "a == 1".parse().ok(),
            ..HookSettings::default()
        };
        settings.apply(SettingsChange {
            in_flight: Some(Some(8)),
            rate: Some("20/s".parse().ok()),
            ..SettingsChange::default()
        });
        assert!(settings.is_limited());
        let taken_back = SettingsChange {
            in_flight: Some(None),
            ..SettingsChange::default()
        };
        assert!(SettingsChange::default().is_empty() && !taken_back.is_empty());
        settings.apply(taken_back);
        assert_eq!(
            (settings.in_flight, settings.rate),
            (None, "20/s".parse().ok())
        );
        assert_eq!(settings.filter, "a == 1".parse().ok());
        settings.in_flight = Some(0);
        assert_eq!(settings.check(), Err(HookError::Zero("in-flight limit")));
    }
}
