//! `postrider key`: API keys, and credentials of registrants for the compatibility APIs.

use super::key_access::{ChangeKey, Granted};
use super::paging::Listing;
use super::show;
use super::value_parsers::{id, text_argument};
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::output::fields;
use crate::secrets::Need;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use postrider_api::{Brought, Dialect};
use postrider_compat::SystemSettings;
use postrider_core::{KeyId, KeyScope, KeyToken, NewCredential, NewKey};
use postrider_store::{KeyFilter, KeyReport};
use serde::Serialize;
use std::collections::BTreeMap;

/// Create, change, list and revoke API keys and credentials of registrants.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    Create(Box<Create>),
    Change(ChangeKey),
    /// List keys and credentials, oldest first, including revoked ones
    List,
    Revoke(Revoke),
}

/// Create a key and print it for its holder, once.
///
/// With --scope it is a key of Postrider's own API, and a token is printed, to be sent as
/// `Authorization: Bearer pr_…`. With --for it is a credential of a registrant for the API of
/// another system: an API key and a secret (solapi), a user and a password (thulium), or a token
/// (misskey). Tokens and passwords are stored as hashes only; replace a lost one by a new key.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider key create --scope publish --name shop
  postrider key create --scope publish --account acme
  postrider key create --scope account --account acme --json
  postrider key create --scope admin --name operators
  postrider key create --for solapi --account 12925149 --json
  postrider key create --for misskey --account 9vaew1esmfme0001 --permission read
  postrider key create --for thulium --account acme --public-id api_user --secret @password.txt")]
pub struct Create {
    /// The permissions of a key of Postrider's own API
    #[arg(long, value_enum, required_unless_present = "dialect")]
    scope: Option<Scope>,
    /// Create a credential for the API of this system instead
    #[arg(
        long = "for",
        value_name = "SYSTEM",
        value_parser = PossibleValuesParser::new(dialects().into_iter().map(|dialect| dialect.name)),
        conflicts_with = "scope",
        requires = "account"
    )]
    dialect: Option<String>,
    /// Limit it to this account; required with --for and --scope account, not allowed with admin
    #[arg(long)]
    account: Option<String>,
    /// A name to recognise it
    #[arg(long)]
    name: Option<String>,
    /// With --for: the API key or user that its holder already has, instead of a new one
    #[arg(long, requires = "dialect", value_name = "TEXT")]
    public_id: Option<String>,
    /// With --for: the secret, password or token that its holder already has (@FILE or @- reads
    /// it)
    #[arg(long, requires = "dialect", value_name = "TEXT")]
    secret: Option<String>,
    #[command(flatten)]
    granted: Granted,
}

/// The scope of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Everything, in every account
    Admin,
    /// Everything, in one account
    Account,
    /// Publishing events, in one account or in any
    Publish,
}

/// Revoke a key or a credential for good.
///
/// Every process refuses it within a second.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The key's id
    #[arg(value_parser = id::<KeyId>)]
    id: KeyId,
}

/// A new key.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    made: &'a KeyReport,
    /// The values for its holder, by name.
    #[serde(flatten)]
    given: BTreeMap<&'static str, &'a str>,
}

impl KeyCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Create(command) => command.run(globals).await,
            Self::Change(command) => command.run(globals).await,
            Self::List => list(globals).await,
            Self::Revoke(command) => command.run(globals).await,
        }
    }
}

/// The dialects that a credential can be for. What depends on the configuration has its default.
fn dialects() -> Vec<Dialect> {
    SystemSettings::default().dialects("localhost")
}

impl Create {
    async fn run(self, globals: &Globals) -> Result<()> {
        let dialect = self.dialect.as_deref();
        let dialect = dialects()
            .into_iter()
            .find(|known| Some(known.name) == dialect);
        match (&dialect, self.scope) {
            (Some(dialect), _) => self.credential(globals, dialect).await,
            (None, Some(scope)) => self.key(globals, scope).await,
            (None, None) => Err(Misuse::new("give --scope or --for")),
        }
    }

    async fn key(self, globals: &Globals, scope: Scope) -> Result<()> {
        if !self.granted.is_empty() {
            return Err(Misuse::new(
                "--permission, --account-status, --member-status and --verified are for \
                 credentials of registrants: give them with --for",
            ));
        }
        let settings = globals.settings()?;
        let key = NewKey {
            scope: match scope {
                Scope::Admin => KeyScope::Admin,
                Scope::Account => KeyScope::Account,
                Scope::Publish => KeyScope::Publish,
            },
            account: self.account,
            name: self.name,
        };
        key.check()
            .map_err(|error| Misuse::new(error.to_string()))?;
        let token = KeyToken::generate();
        let store = globals.store_with(&settings, Need::Nothing).await?;
        let now = store.now().await?;
        let made = store.create_key(key, token.hash(), now).await?;
        let created = Created {
            made: &made,
            given: BTreeMap::from([("token", token.reveal())]),
        };
        globals.output().result(&created, || {
            format!(
                "Created key {}.\n{}\n\nToken, shown this once: {}",
                made.id,
                show::key(&made),
                token.reveal()
            )
        })
    }

    async fn credential(self, globals: &Globals, dialect: &Dialect) -> Result<()> {
        let settings = globals.settings()?;
        let secret = self.secret.as_deref().map(text_argument).transpose()?;
        let issued = (dialect.issue)(Brought {
            public_id: self.public_id.clone(),
            // A file ends with a line break that is not part of the secret.
            secret: secret.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
        });
        let issued = issued.map_err(|error| Misuse::new(error.to_string()))?;
        let new = NewCredential {
            system: dialect.name.to_owned(),
            account: self.account.unwrap_or_default(),
            name: self.name,
            proof: issued.proof,
            access: self.granted.access(),
        };
        new.check()
            .map_err(|error| Misuse::new(error.to_string()))?;
        let store = globals.store_with(&settings, Need::Secrets).await?;
        let now = store.now().await?;
        let made = store.create_credential(new, now).await?;
        let given = issued.given.iter();
        let created = Created {
            made: &made,
            given: given.map(|(name, value)| (*name, value.as_str())).collect(),
        };
        globals.output().result(&created, || {
            let given: Vec<_> = issued
                .given
                .iter()
                .map(|(name, value)| (*name, value.clone()))
                .collect();
            format!(
                "Created a credential for {}: {}.\n{}\n\nFor its holder, shown this once:\n{}",
                dialect.name,
                made.id,
                show::key(&made),
                fields(&given)
            )
        })
    }
}

async fn list(globals: &Globals) -> Result<()> {
    let store = globals.store(Need::Nothing).await?;
    let listing = Listing {
        output: globals.output(),
        limit: None,
        shown: u32::MAX,
        human: show::keys,
        none: "No keys. Create one: postrider key create --scope publish",
    };
    let page = async |after, limit| Ok(store.keys(KeyFilter { after, limit }).await?);
    listing.write(|key: &KeyReport| key.id, page).await
}

impl Revoke {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let revoked = store.revoke_key(self.id, store.now().await?).await?;
        globals.output().result(&revoked, || {
            format!("Revoked key {}; it is refused within a second.", revoked.id)
        })
    }
}
