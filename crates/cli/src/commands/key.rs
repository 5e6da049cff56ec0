//! `postrider key …`.

use super::paging::Listing;
use super::parse::id;
use super::show;
use crate::cli::Globals;
use crate::database;
use crate::failure::{Misuse, Result};
use crate::secrets::Need;
use clap::{Args, Subcommand, ValueEnum};
use postrider_core::{KeyId, KeyScope, KeyToken, NewKey, Timestamp};
use postrider_store::{KeyFilter, KeyReport};
use serde::Serialize;

/// Make, list and revoke keys of the API.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    Create(Create),
    /// List keys, oldest first, revoked ones included
    List,
    Revoke(Revoke),
}

/// Make a key of the API and print its token, once.
///
/// The token is what callers send as `Authorization: Bearer pr_…`. Only its hash is stored; a
/// token that was lost is replaced by a new key.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider key create --scope publish --name shop
  postrider key create --scope publish --account acme
  postrider key create --scope account --account acme --json
  postrider key create --scope admin --name operators")]
pub struct Create {
    /// What it is good for
    #[arg(long, value_enum)]
    scope: Scope,
    /// In this account only; needed with the scope account, not possible with admin
    #[arg(long)]
    account: Option<String>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Everything, in every account
    Admin,
    /// Everything, in one account
    Account,
    /// Publishing events, in one account or in any
    Publish,
}

/// Revoke a key, for good.
///
/// Every process refuses its token within a second.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The key's id
    #[arg(value_parser = id::<KeyId>)]
    id: KeyId,
}

/// A key as it is shown when it is made.
#[derive(Serialize)]
struct Created<'a> {
    id: KeyId,
    scope: &'a str,
    account: Option<&'a str>,
    name: Option<&'a str>,
    token: &'a str,
    created_at: Timestamp,
}

impl KeyCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Create(command) => command.run(globals).await,
            Self::List => list(globals).await,
            Self::Revoke(command) => command.run(globals).await,
        }
    }
}

impl Create {
    async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let key = NewKey {
            scope: match self.scope {
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
        let store = database::open(&settings, Need::Nothing).await?;
        let now = store.now().await?;
        let made = store.create_key(key, token.hash(), now).await?;
        store.close().await;
        let created = Created {
            id: made.id,
            scope: &made.scope,
            account: made.account.as_deref(),
            name: made.name.as_deref(),
            token: token.reveal(),
            created_at: made.created_at,
        };
        globals.output().result(&created, || {
            format!(
                "Made key {}.\n{}\n\nToken, shown this once: {}",
                made.id,
                show::key(&made),
                token.reveal()
            )
        })
    }
}

async fn list(globals: &Globals) -> Result<()> {
    let store = database::open(&globals.settings()?, Need::Nothing).await?;
    let listing = Listing {
        output: globals.output(),
        limit: None,
        shown: u32::MAX,
        human: show::keys,
        none: "No keys. Make one: postrider key create --scope publish",
    };
    let page = async |after, limit| Ok(store.keys(KeyFilter { after, limit }).await?);
    listing.write(|key: &KeyReport| key.id, page).await?;
    store.close().await;
    Ok(())
}

impl Revoke {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let revoked = store.revoke_key(self.id, store.now().await?).await?;
        store.close().await;
        globals.output().result(&revoked, || {
            format!("Revoked key {}; it is refused within a second.", revoked.id)
        })
    }
}
