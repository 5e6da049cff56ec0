//! What recent lookups of each name came to.
//!
//! Names that resolved not long ago are the witnesses when another name gets no answer: if most
//! of them get none either, this machine's resolver is at fault.

use super::error::{Failure, NameError};
use crate::tuning::NamesTuning;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often names of which nothing recent is known are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The recent lookups of each name.
#[derive(Debug, Default)]
pub(super) struct History {
    names: HashMap<String, Record>,
    swept_at: Option<Instant>,
}

/// The recent lookups of one name.
#[derive(Debug, Default)]
struct Record {
    /// When it last resolved.
    good_at: Option<Instant>,
    /// When and how it last got no answer, unless it resolved since.
    failed: Option<(Instant, Failure)>,
}

impl History {
    /// Notes the result of a lookup that ended at `now`. Returns whether old names were dropped.
    pub(super) fn note<T>(
        &mut self,
        host: &str,
        result: &Result<T, Failure>,
        now: Instant,
        tuning: &NamesTuning,
    ) -> bool {
        match result {
            Ok(_) => {
                let record = self.names.entry(host.to_owned()).or_default();
                (record.good_at, record.failed) = (Some(now), None);
            }
            Err(failure) if failure.error.is_answer() => {
                self.names.remove(host);
            }
            // The name was not asked for.
            Err(Failure {
                error: NameError::NotAsked(_),
                ..
            }) => {}
            Err(failure) => {
                let record = self.names.entry(host.to_owned()).or_default();
                record.failed = Some((now, failure.clone()));
            }
        }
        self.sweep(now, tuning)
    }

    fn sweep(&mut self, now: Instant, tuning: &NamesTuning) -> bool {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= SWEEP_EVERY;
        if !self.swept_at.is_none_or(is_due) {
            return false;
        }
        self.swept_at = Some(now);
        self.names.retain(|_, record| {
            record.was_good(now, tuning) || record.failed_lately(now, tuning).is_some()
        });
        true
    }

    /// How a name failed a moment ago: it is not asked for again so soon.
    pub(super) fn failed_lately(
        &self,
        host: &str,
        now: Instant,
        tuning: &NamesTuning,
    ) -> Option<Failure> {
        self.names.get(host)?.failed_lately(now, tuning).cloned()
    }

    /// Whether the last lookup of a name succeeded, not long ago.
    pub(super) fn is_good(&self, host: &str, now: Instant, tuning: &NamesTuning) -> bool {
        let record = self.names.get(host);
        record.is_some_and(|record| record.failed.is_none() && record.was_good(now, tuning))
    }

    /// Whether a name resolved after `since`.
    pub(super) fn was_good_after(&self, host: &str, since: Instant) -> bool {
        let good_at = self.names.get(host).and_then(|record| record.good_at);
        good_at > Some(since)
    }

    /// The names to ask for when `host` gets no answer: those that resolved last, one of each
    /// domain, without the domain of `host`.
    pub(super) fn witnesses(&self, host: &str, now: Instant, tuning: &NamesTuning) -> Vec<String> {
        let mut latest: HashMap<&str, (Instant, &str)> = HashMap::new();
        let own = domain_of(host);
        for (name, record) in &self.names {
            let (name, domain) = (name.as_str(), domain_of(name));
            if let Some(at) = record.good_at
                && record.was_good(now, tuning)
                && domain != own
            {
                let known = latest.entry(domain).or_insert((at, name));
                *known = (*known).max((at, name));
            }
        }
        let mut witnesses: Vec<_> = latest.into_values().collect();
        witnesses.sort_unstable_by(|one, other| other.cmp(one));
        let names = witnesses.into_iter().take(tuning.witnesses);
        names.map(|(_, name)| name.to_owned()).collect()
    }
}

impl Record {
    fn was_good(&self, now: Instant, tuning: &NamesTuning) -> bool {
        let since = |at| now.saturating_duration_since(at);
        self.good_at.is_some_and(|at| since(at) < tuning.good_for)
    }

    fn failed_lately(&self, now: Instant, tuning: &NamesTuning) -> Option<&Failure> {
        let (at, failure) = self.failed.as_ref()?;
        (now.saturating_duration_since(*at) < tuning.failed_for).then_some(failure)
    }
}

/// What related hosts have in common: the last two labels. Too coarse for `co.uk`, where it only
/// leaves fewer witnesses.
fn domain_of(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at + 1);
    let begin = dots.nth(1).unwrap_or(0);
    &host[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;

    fn good(history: &mut History, host: &str, at: Instant) {
        history.note(host, &Ok(()), at, &NamesTuning::default());
    }

    fn fails(history: &mut History, host: &str, error: NameError, at: Instant) {
        let failure = Failure { error, since: at };
        history.note::<()>(host, &Err(failure), at, &NamesTuning::default());
    }

    #[test]
    fn the_witnesses_are_the_names_of_other_domains_that_resolved_last() {
        let (tuning, start) = (NamesTuning::default(), monotonic_now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        for (second, host) in [
            "a.one.test",
            "b.one.test",
            "two.test",
            "three.test",
            "x.four.test.",
            "five.test",
            "six.test",
        ]
        .iter()
        .enumerate()
        {
            good(&mut history, host, at(second as u64));
        }
        let of = |history: &History, host, seconds| history.witnesses(host, at(seconds), &tuning);
        assert_eq!(
            of(&history, "hooks.six.test", 7),
            [
                "five.test",
                "x.four.test.",
                "three.test",
                "two.test",
                "b.one.test"
            ]
        );
        // One that fails now was good all the same, and one that is known not to exist was not.
        fails(&mut history, "five.test", NameError::Silent, at(8));
        fails(&mut history, "two.test", NameError::Unknown, at(8));
        assert_eq!(
            of(&history, "other.test", 9),
            [
                "six.test",
                "five.test",
                "x.four.test.",
                "three.test",
                "b.one.test"
            ]
        );
        let last = tuning.good_for.as_secs() + 5;
        assert_eq!(of(&history, "other.test", last), ["six.test"]);
        assert!(of(&history, "other.test", last + 1).is_empty());
    }

    #[test]
    fn a_failure_is_remembered_for_a_moment() {
        let (tuning, start) = (NamesTuning::default(), monotonic_now());
        let mut history = History::default();
        good(&mut history, "a.test", start);
        assert!(history.is_good("a.test", start, &tuning));
        fails(&mut history, "a.test", NameError::Silent, start);
        assert!(!history.is_good("a.test", start, &tuning));
        let failed = |history: &History, at| history.failed_lately("a.test", at, &tuning);
        let known = failed(&history, start).map(|failure| failure.error);
        assert!(matches!(known, Some(NameError::Silent)));
        let later = start + tuning.failed_for;
        assert!(failed(&history, later).is_none());
        assert!(
            !history.is_good("a.test", later, &tuning),
            "until it resolves"
        );
        good(&mut history, "a.test", later);
        assert!(failed(&history, later).is_none());
        assert!(history.is_good("a.test", later, &tuning));
        assert!(!history.is_good("b.test", later, &tuning));
        assert!(history.was_good_after("a.test", start));
        assert!(!history.was_good_after("a.test", later));
        assert!(!history.was_good_after("b.test", start));
    }

    #[test]
    fn names_that_nobody_asks_for_any_more_are_forgotten() {
        let (tuning, start) = (NamesTuning::default(), monotonic_now());
        let mut history = History::default();
        for n in 0..100 {
            fails(&mut history, &format!("{n}.test"), NameError::Silent, start);
            good(&mut history, &format!("{n}.good.test"), start);
        }
        good(&mut history, "a.test", start + SWEEP_EVERY);
        assert_eq!(history.names.len(), 101);
        good(
            &mut history,
            "a.test",
            start + tuning.good_for + SWEEP_EVERY,
        );
        assert_eq!(history.names.len(), 1);
    }

    #[test]
    fn a_domain_is_the_last_two_labels() {
        for (host, domain) in [
            ("example.com", "example.com"),
            ("a.b.example.com.", "example.com"),
            ("receiver", "receiver"),
        ] {
            assert_eq!(domain_of(host), domain);
        }
    }
}
