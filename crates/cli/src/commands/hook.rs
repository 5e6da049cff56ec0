//! `postrider hook …`.

use super::confirm::{confirmed, unchanged};
use super::hook_limits::LimitFlags;
use super::hook_profile;
use super::paging::Listing;
use super::show;
use super::value_parsers::{Moment, header_argument, id, signing_secret};
use crate::database;
use crate::failure::{Misuse, Result};
use crate::globals::{ACTOR, Globals};
use crate::output::{at_a_terminal, notice};
use crate::secrets::Need;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use postrider_core::{
    BodyForm, EventPattern, Filter, HookId, HookSettings, NewHook, RetrySchedule, SigningSecret,
    Span, parse_hook_url,
};
use postrider_store::{HookChange, HookFilter, HookReport};
use postrider_worker::{AddressGuard, PROFILES, Profile, WorkerSettings};
use std::net::{IpAddr, Ipv4Addr};
use url::Host;

/// Register, list and change hooks.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    Add(Box<Add>),
    List(List),
    /// Show one hook and what happened to it last
    Show(One),
    History(super::hook_history::History),
    Change(super::hook_change::Change),
    /// Hold a hook's deliveries until it is enabled again
    Pause(One),
    Enable(super::hook_backlog::Enable),
    /// Hold a hook's deliveries, and mark it as disabled by a person
    Disable(One),
    Discard(super::hook_backlog::DiscardHeld),
    Remove(Remove),
    Test(super::hook_test::Test),
    RotateSecret(RotateSecret),
}

/// Register a hook and print its secret, once.
///
/// The secret is what the receiver verifies signatures with (Standard Webhooks). It is stored
/// sealed and never shown again; `postrider hook rotate-secret` makes a new one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider hook add --url https://example.com/hook --event 'invoice.*'
  postrider hook add --url https://example.com/hook --event '*' --account acme --json
  postrider hook add --url https://example.com/hook --event order.paid \\
      --header X-Environment=production --timeout 5s --retry-schedule 10s,1m,10m,1h
  postrider hook add --url https://example.com/hook --event '*' --in-flight 8 --rate 20/s
  postrider hook add --url https://example.com/hook --event '*' --ordered key --on-failure skip
  postrider hook add --url https://example.com/hook --event '*' --secret @secret.txt
  postrider hook add --url https://example.com/hook --event SINGLE-REPORT --profile solapi \\
      --secret @secret.txt --set format=envelope
  postrider hook add --url https://example.com/hook --event 'invoice.*' \\
      --filter 'amount >= 100 && currency == \"EUR\"'

A private or local address is only called when worker.allow_addresses lists it, as in
POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8,::1/128 postrider serve")]
pub struct Add {
    /// Where deliveries go: http:// or https://
    #[arg(long)]
    url: String,
    /// Which events: a type ("invoice.paid"), a prefix ("invoice.*") or "*"; may be repeated
    #[arg(long = "event", value_name = "PATTERN", required = true)]
    events: Vec<EventPattern>,
    /// Only events whose payload fits this condition; docs/filters.md says how to write one
    #[arg(long, value_name = "CONDITION")]
    filter: Option<Filter>,
    /// Whose events
    #[arg(long, default_value = "default")]
    account: String,
    /// The delivery format and policy; docs/profiles.md tells of each
    #[arg(long, default_value = "standard", value_parser = profiles())]
    profile: String,
    /// The secret; @FILE or @- keeps it off the command line. For `standard` the signing secret
    /// (whsec_… or whsk_…), made unless given; for `solapi` and `misskey` what is sent along
    #[arg(long, hide_default_value = true)]
    secret: Option<String>,
    /// HTTP Basic credentials for the receiver; @FILE or @- keeps them off the command line;
    /// stored sealed
    #[arg(long, value_name = "USER:PASSWORD")]
    basic: Option<String>,
    /// What only the profile knows, such as format=envelope for `solapi` or format=json for
    /// `thulium`; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// What stands in the body: {"type", "timestamp", "data"}, or the payload alone
    #[arg(long, value_enum, default_value_t = Body::Envelope)]
    body: Body,
    /// An extra request header; may be repeated; stored sealed
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The deadline of a request; never longer than worker.request_timeout
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
    /// The waits between attempts, such as 5s,5m,1h; n waits make n + 1 attempts
    #[arg(long, value_name = "DURATIONS", value_delimiter = ',', num_args = 1)]
    retry_schedule: Option<Vec<Span>>,
    #[command(flatten)]
    limits: LimitFlags,
}

/// What stands in the body.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Body {
    Envelope,
    Payload,
}

/// List hooks, oldest first.
#[derive(Debug, Args)]
pub struct List {
    /// Only this account's
    #[arg(long)]
    account: Option<String>,
}

/// One hook.
#[derive(Debug, Args)]
pub struct One {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
}

/// Delete a hook and cancel its deliveries.
///
/// Cannot be undone: its pending and held deliveries are cancelled. `postrider hook pause`
/// holds them instead. Asks first when it is called at a terminal.
#[derive(Debug, Args)]
pub struct Remove {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Sign with a new secret; the old one signs too for a while.
///
/// During the overlap each request carries two signatures, so that the receiver may change
/// over at any moment. The new secret is printed once.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider hook rotate-secret 0193a5c8-…
  postrider hook rotate-secret 0193a5c8-… --overlap 7d
  postrider hook rotate-secret 0193a5c8-… --overlap 0s     the old one has leaked")]
pub struct RotateSecret {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
    /// The new secret (whsec_… or whsk_…); @FILE or @- keeps it off the command line; one is
    /// made unless given
    #[arg(long)]
    secret: Option<String>,
    /// How long the old secret signs too
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: Span,
}

impl HookCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Add(command) => command.run(globals).await,
            Self::List(command) => command.run(globals).await,
            Self::Show(One { id }) => super::hook_history::show(globals, id).await,
            Self::History(command) => command.run(globals).await,
            Self::Pause(One { id }) => change(globals, id, HookChange::Pause).await,
            Self::Enable(command) => command.run(globals).await,
            Self::Discard(command) => command.run(globals).await,
            Self::Disable(One { id }) => change(globals, id, HookChange::Disable).await,
            Self::Remove(command) => command.run(globals).await,
            Self::Test(command) => command.run(globals).await,
            Self::Change(command) => command.run(globals).await,
            Self::RotateSecret(command) => command.run(globals).await,
        }
    }
}

impl Add {
    async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let mut hook = self.into_hook()?;
        hook.check()
            .map_err(|error| Misuse::new(error.to_string()))?;
        let secret = hook.credentials.secrets.first();
        let secret = secret.map(|current| current.secret.clone());
        let store = database::open(&settings, Need::Secrets).await?;
        let now = store.now().await?;
        let profile = Profile::named(&hook.profile);
        hook.alias = profile.and_then(|profile| Some(profile.alias?.draw(now)));
        let mut report = store.create_hook(hook, ACTOR, now).await?;
        store.close().await;
        report.secret = secret.as_ref().map(SigningSecret::reveal);
        if let Some(address) = blocked(&report.url, &settings.worker) {
            notice(format_args!(
                "{address} is a private or local address: workers call it only when \
                 worker.allow_addresses allows it, as in \
                 POSTRIDER_WORKER__ALLOW_ADDRESSES={} postrider serve",
                allowing(address)
            ));
        }
        globals.output().result(&report, || {
            let shown = format!("Registered hook {}.\n{}", report.id, show::hook(&report));
            match &secret {
                Some(secret) => format!("{shown}\n\n{}", secret_once(secret)),
                None => shown,
            }
        })
    }

    fn into_hook(self) -> Result<NewHook> {
        let profile = Profile::named(&self.profile)
            .ok_or_else(|| Misuse::new(format!("there is no profile {}", self.profile)))?;
        let mut credentials = hook_profile::credentials(profile, self.secret.as_deref())?;
        let basic = self.basic.as_deref().map(hook_profile::basic);
        credentials.basic = basic.transpose()?;
        let headers = self.headers.iter().map(|text| header_argument(text));
        credentials.headers = headers.collect::<Result<_>>()?;
        let mut settings = HookSettings {
            body: match self.body {
                Body::Envelope => BodyForm::Envelope,
                Body::Payload => BodyForm::Payload,
            },
            filter: self.filter,
            timeout: self.timeout,
            retry_schedule: self.retry_schedule.map(RetrySchedule::new),
            profile: hook_profile::settings(profile, &self.set)?,
            ..HookSettings::default()
        };
        settings.apply(self.limits.into());
        Ok(NewHook {
            alias: None,
            account: self.account,
            url: self.url,
            events: self.events,
            profile: self.profile,
            settings,
            credentials,
            at_most: None,
        })
    }
}

impl List {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        let listing = Listing {
            output: globals.output(),
            limit: None,
            shown: u32::MAX,
            human: show::hooks,
            none: match self.account {
                None => "No hooks. Register one: postrider hook add --url URL --event PATTERN",
                Some(_) => "No hooks of this account.",
            },
        };
        let page = async |after, limit| {
            let filter = HookFilter {
                account: self.account.clone(),
                profile: None,
                after,
                limit,
            };
            Ok(store.hooks(filter).await?)
        };
        listing.write(|hook: &HookReport| hook.id, page).await?;
        store.close().await;
        Ok(())
    }
}

impl Remove {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = database::open(&globals.settings()?, Need::Nothing).await?;
        if !self.yes && at_a_terminal() {
            let hook = store.hook(self.id).await?;
            notice(show::hook(&hook));
            if !confirmed("Delete this hook and cancel its deliveries? [y/N] ")? {
                store.close().await;
                unchanged();
                return Ok(());
            }
        }
        let report = store
            .remove_hook(self.id, ACTOR, store.now().await?)
            .await?;
        store.close().await;
        globals.output().result(&report, || {
            format!(
                "Deleted hook {} ({}); its deliveries are being cancelled.",
                report.id, report.url
            )
        })
    }
}

impl RotateSecret {
    async fn run(self, globals: &Globals) -> Result<()> {
        let secret = signing_secret(self.secret.as_deref())?;
        let store = database::open(&globals.settings()?, Need::Secrets).await?;
        let now = store.now().await?;
        let change = HookChange::Rotate {
            secret: secret.clone(),
            overlap_until: Moment::In(self.overlap).from(now),
        };
        let mut report = store.change_hook(self.id, change, ACTOR, now).await?;
        store.close().await;
        report.secret = Some(secret.reveal());
        globals.output().result(&report, || {
            let old = match self.overlap.get().is_zero() {
                true => "The old secret signs no more.".to_owned(),
                false => format!("The old secret signs too for {}.", self.overlap),
            };
            format!(
                "Hook {} has a new secret. {old}\n\n{}",
                report.id,
                secret_once(&secret)
            )
        })
    }
}

async fn change(globals: &Globals, id: HookId, change: HookChange) -> Result<()> {
    let store = database::open(&globals.settings()?, Need::Nothing).await?;
    let report = store
        .change_hook(id, change, ACTOR, store.now().await?)
        .await?;
    store.close().await;
    globals
        .output()
        .result(&report, || show::hook_status(&report))
}

/// The address that the URL names as such, if workers with these settings would not call it.
fn blocked(url: &str, settings: &WorkerSettings) -> Option<IpAddr> {
    let address = match parse_hook_url(url).ok()?.host()? {
        Host::Ipv4(address) => address.into(),
        Host::Ipv6(address) => address.into(),
        Host::Domain("localhost") => Ipv4Addr::LOCALHOST.into(),
        Host::Domain(_) => return None,
    };
    let guard = AddressGuard::new(&settings.allow_addresses);
    guard.check(address).is_err().then_some(address)
}

/// What to set `worker.allow_addresses` to; a name such as localhost has both loopbacks.
fn allowing(address: IpAddr) -> String {
    match address.is_loopback() {
        true => "127.0.0.0/8,::1/128".into(),
        false => IpNet::from(address).to_string(),
    }
}

fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(PROFILES.iter().map(|profile| profile.name))
}

fn secret_once(secret: &SigningSecret) -> String {
    let revealed = secret.reveal();
    let public = secret.verification_key();
    let for_receiver = match public == revealed {
        true => String::new(),
        false => format!("\nFor the receiver to verify with: {public}"),
    };
    format!("Secret, shown this once: {revealed}{for_receiver}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_is_noticed_unless_it_is_allowed() {
        let mut settings = WorkerSettings::default();
        for url in [
            "http://127.0.0.1:9000",
            "http://localhost",
            "http://[::1]/",
            "http://0x7f.1",
        ] {
            assert!(blocked(url, &settings).is_some(), "{url}");
        }
        for url in ["https://example.com/hook", "http://93.184.215.14"] {
            assert_eq!(blocked(url, &settings), None, "{url}");
        }
        settings.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        assert_eq!(blocked("http://127.0.0.1:9000", &settings), None);
    }
}
