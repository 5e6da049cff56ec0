//! The options of `key create` and `key change` that set the access of a registrant.

use crate::commands::value_parsers::id;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::secrets::Need;
use clap::{Args, ValueEnum};
use postrider_core::{Access, AccessChange, KeyId, RegistrantStatus};

/// An access right to hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// See them
    Read,
    /// Register, change and delete them
    Write,
}

/// The status of an account or of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusArg {
    /// May act
    Active,
    /// Is suspended or not yet admitted
    Inactive,
}

/// The access granted to a registrant; options that are left out grant everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Granted {
    /// Access to hooks; repeat it for both, which is the default
    #[arg(long, value_enum)]
    permission: Vec<Permission>,
    /// Status of its account
    #[arg(long, value_enum)]
    account_status: Option<StatusArg>,
    /// Status of its holder in the account
    #[arg(long, value_enum)]
    member_status: Option<StatusArg>,
    /// Whether the identity of its account is verified
    #[arg(long, value_name = "true|false")]
    verified: Option<bool>,
}

/// Change the access of a registrant.
///
/// Only credentials created with --for have permissions and statuses. Options that are left out
/// change nothing. The change applies from the next request.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider key change 0193a5c8-… --permission read
  postrider key change 0193a5c8-… --account-status inactive")]
pub struct ChangeKey {
    /// The credential's id
    #[arg(value_parser = id::<KeyId>)]
    id: KeyId,
    #[command(flatten)]
    granted: Granted,
}

impl Granted {
    /// Whether no option is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The access of a new credential.
    pub fn access(&self) -> Access {
        let change = self.change();
        let full = Access::default();
        let (read, write) = change.permission.unwrap_or((full.read, full.write));
        Access {
            read,
            write,
            account_status: change.account_status.unwrap_or(full.account_status),
            member_status: change.member_status.unwrap_or(full.member_status),
            verified: change.verified.unwrap_or(full.verified),
        }
    }

    fn change(&self) -> AccessChange {
        let has = |permission| self.permission.contains(&permission);
        AccessChange {
            permission: (!self.permission.is_empty())
                .then(|| (has(Permission::Read), has(Permission::Write))),
            account_status: self.account_status.map(StatusArg::status),
            member_status: self.member_status.map(StatusArg::status),
            verified: self.verified,
        }
    }
}

impl StatusArg {
    fn status(self) -> RegistrantStatus {
        match self {
            Self::Active => RegistrantStatus::Active,
            Self::Inactive => RegistrantStatus::Inactive,
        }
    }
}

impl ChangeKey {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let change = self.granted.change();
        if change.is_empty() {
            return Err(Misuse::new(
                "nothing to change: add --permission, --account-status, \
                 --member-status or --verified",
            ));
        }
        let store = globals.store(Need::Nothing).await?;
        let changed = store.change_credential(self.id, change).await?;
        globals.output().result(&changed, || {
            format!(
                "Changed credential {}.\n{}",
                changed.id,
                crate::commands::show::key(&changed)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_left_out_grant_everything() {
        assert!(Granted::default().access().is_full());
        assert!(Granted::default().change().is_empty());
        let granted = Granted {
            permission: vec![Permission::Read],
            member_status: Some(StatusArg::Inactive),
            verified: Some(false),
            ..Granted::default()
        };
        let access = granted.access();
        assert!(access.read && !access.write && !access.verified);
        assert_eq!(access.account_status, RegistrantStatus::Active);
        assert_eq!(access.member_status, RegistrantStatus::Inactive);
        let both = Granted {
            permission: vec![Permission::Write, Permission::Read],
            ..Granted::default()
        };
        assert_eq!(both.change().permission, Some((true, true)));
    }
}
