//! What a registrant may do, as the command line says it.

use crate::commands::value_parsers::id;
use crate::database;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::secrets::Need;
use clap::{Args, ValueEnum};
use postrider_core::{Access, AccessChange, KeyId, RegistrantStatus};

/// What a registrant may do with hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// See them
    Read,
    /// Register, change and delete them
    Write,
}

/// Whether an account, or a member of it, may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// It may
    Active,
    /// It is suspended, or not yet let in
    Inactive,
}

/// What is granted to a registrant; what is left out is not withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Granted {
    /// What its holder may do with hooks; repeat it for both, which is also the default
    #[arg(long, value_enum)]
    permission: Vec<Permission>,
    /// Whether its account may act
    #[arg(long, value_enum)]
    account_status: Option<Status>,
    /// Whether its holder may act in its account
    #[arg(long, value_enum)]
    member_status: Option<Status>,
    /// Whether its account has shown whose it is
    #[arg(long, value_name = "true|false")]
    verified: Option<bool>,
}

/// Change what a registrant may do.
///
/// Only credentials made with --for have permissions and statuses. What is not named stays. The
/// next request sees the change.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider key change 0193a5c8-… --permission read
  postrider key change 0193a5c8-… --account-status inactive")]
pub struct Change {
    /// The credential's id
    #[arg(value_parser = id::<KeyId>)]
    id: KeyId,
    #[command(flatten)]
    granted: Granted,
}

impl Granted {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a new credential may do.
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
            account_status: self.account_status.map(Status::standing),
            member_status: self.member_status.map(Status::standing),
            verified: self.verified,
        }
    }
}

impl Status {
    fn standing(self) -> RegistrantStatus {
        match self {
            Self::Active => RegistrantStatus::Active,
            Self::Inactive => RegistrantStatus::Inactive,
        }
    }
}

impl Change {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let change = self.granted.change();
        if change.is_empty() {
            return Err(Misuse::new(
                "there is nothing to change: give --permission, --account-status, \
                 --member-status or --verified",
            ));
        }
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let changed = store.change_credential(self.id, change).await?;
        store.close().await;
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
    fn what_is_not_named_is_not_withheld() {
        assert!(Granted::default().access().is_full());
        assert!(Granted::default().change().is_empty());
        let granted = Granted {
            permission: vec![Permission::Read],
            member_status: Some(Status::Inactive),
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
