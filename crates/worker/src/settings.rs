//! The sections `[worker]` and `[hooks]` of the configuration, and the rules across them.

use crate::names::NameServer;
use crate::profiles::Profiles;
use ipnet::IpNet;
use postrider_core::{RetrySchedule, Span};
use serde::{Deserialize, Serialize};

/// The section `worker` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Requests in flight at most, in this process.
    pub concurrency: u32,
    /// Requests in flight to one hook at most, in this process.
    pub per_hook: u32,
    /// How long a lease lasts; must outlive the request's deadline by at least 5 s.
    pub lease: Span,
    /// The deadline of a whole exchange, from connecting to the last byte of the body.
    pub request_timeout: Span,
    /// How often an idle worker looks for work.
    pub poll_interval: Span,
    /// Private and special-purpose addresses that may be called.
    pub allow_addresses: Vec<IpNet>,
    /// The name servers that resolve the hosts of hooks; those of `/etc/resolv.conf` when empty.
    pub name_servers: Vec<NameServer>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            per_hook: 64,
            lease: Span::secs(60),
            request_timeout: Span::secs(15),
            poll_interval: Span::millis(25),
            allow_addresses: Vec::new(),
            name_servers: Vec::new(),
        }
    }
}

/// Defaults for hooks that do not set a value of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HookDefaults {
    /// The delays between the attempts of a delivery.
    pub retry_schedule: RetrySchedule,
    /// A hook is backed off as a whole after this many failures in a row.
    pub back_off_after: u32,
    /// The longest interval between two probes of a backed-off hook.
    pub back_off_max: Span,
    /// A hook is disabled at this many failures in a row …
    pub disable_after_failures: u32,
    /// … that span at least this time.
    pub disable_after: Span,
    /// The profiles of hooks, with the settings of their own sections.
    #[serde(skip)]
    pub profiles: Profiles,
}

impl Default for HookDefaults {
    fn default() -> Self {
        Self {
            retry_schedule: RetrySchedule::default(),
            back_off_after: 5,
            back_off_max: Span::secs(15 * 60),
            disable_after_failures: 20,
            disable_after: Span::secs(24 * 3600),
            profiles: Profiles::default(),
        }
    }
}

/// How much longer than the request's deadline a lease must last.
const LEASE_MARGIN: Span = Span::secs(5);

impl WorkerSettings {
    /// Checks the values and the rules across them.
    ///
    /// # Errors
    /// The text says what to change.
    pub fn check(&self) -> Result<(), String> {
        let at_least_one = |name: &str, value: u32| match value {
            0 => Err(format!("worker.{name} must be at least 1")),
            _ => Ok(()),
        };
        at_least_one("concurrency", self.concurrency)?;
        at_least_one("per_hook", self.per_hook)?;
        if self.concurrency > 65_536 || self.per_hook > 65_536 {
            return Err("worker.concurrency and worker.per_hook must be at most 65536".into());
        }
        if self.request_timeout.get().is_zero() || self.poll_interval.get().is_zero() {
            return Err(
                "worker.request_timeout and worker.poll_interval must be longer than 0s".into(),
            );
        }
        if self.lease.get() < self.request_timeout.get() + LEASE_MARGIN.get() {
            return Err(format!(
                "worker.lease ({}) must be at least {LEASE_MARGIN} longer than \
                 worker.request_timeout ({}): a lease that ends during a request lets a second \
                 worker send it again; raise worker.lease or lower worker.request_timeout",
                self.lease, self.request_timeout
            ));
        }
        Ok(())
    }
}

impl HookDefaults {
    /// Checks the values.
    ///
    /// # Errors
    /// The text says what to change.
    pub fn check(&self) -> Result<(), String> {
        if self.back_off_after == 0 || self.disable_after_failures == 0 {
            return Err(
                "hooks.back_off_after and hooks.disable_after_failures must be at least 1".into(),
            );
        }
        if self.back_off_max.get().is_zero() {
            return Err("hooks.back_off_max must be longer than 0s".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass() {
        assert_eq!(WorkerSettings::default().check(), Ok(()));
        assert_eq!(HookDefaults::default().check(), Ok(()));
    }

    #[test]
    fn a_cap_that_no_process_reaches_is_refused() {
        let settings = WorkerSettings {
            per_hook: 1 << 31,
            ..WorkerSettings::default()
        };
        assert!(settings.check().unwrap_err().contains("worker.per_hook"));
    }

    #[test]
    fn a_lease_shorter_than_the_request_is_refused() {
        let settings = WorkerSettings {
            lease: Span::secs(15),
            ..WorkerSettings::default()
        };
        let problem = settings.check().unwrap_err();
        assert!(problem.contains("worker.lease (15s)"), "{problem}");
        assert!(
            problem.contains("worker.request_timeout (15s)"),
            "{problem}"
        );
    }
}
