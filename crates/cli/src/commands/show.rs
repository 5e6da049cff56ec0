//! How hooks, events, deliveries, attempts and keys look to people.

use crate::output::{fields, moment, moment_or, shortened, table};
use postrider_core::OnFailure;
use postrider_store::{
    AttemptReport, DeliveryReport, EventReport, EventState, HookChangeReport, HookReport, KeyReport,
};

const RESPONSE_CHARS: usize = 60;
const ERROR_CHARS: usize = 200;
const PAYLOAD_CHARS: usize = 2_000;

/// One hook.
pub fn hook(hook: &HookReport) -> String {
    let settings = &hook.settings;
    let mut shown = vec![("id", hook.id.to_string())];
    shown.extend(hook.alias.clone().map(|alias| ("alias", alias)));
    shown.extend([
        ("account", hook.account.clone()),
        ("url", hook.url.clone()),
        ("events", hook.events.join(", ")),
        ("filter", filter(hook)),
        ("profile", hook.profile.clone()),
        ("status", status(hook)),
        ("pace", pace(hook)),
        ("failures", failures(hook)),
        ("held", held_since(hook)),
        ("created", moment(hook.created_at)),
        ("updated", moment(hook.updated_at)),
    ]);
    if let Some(at) = hook.latest_sent_at {
        let answer = hook.latest_status.map(|status| status.to_string());
        let answer = answer.unwrap_or_else(|| "no answer".into());
        shown.push(("last sent", format!("{}, {answer}", moment(at))));
    }
    for (name, value) in &settings.profile {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        shown.push((name.as_str(), value));
    }
    if settings.body != postrider_core::BodyForm::default() {
        shown.push(("body", "the payload alone".into()));
    }
    let own: [(&str, Option<String>); 8] = [
        ("timeout", settings.timeout.map(|span| span.to_string())),
        (
            "retries",
            settings.retry_schedule.as_ref().map(|schedule| {
                let waits: Vec<_> = schedule.delays().iter().map(ToString::to_string).collect();
                format!("after {}", waits.join(", "))
            }),
        ),
        (
            "in flight",
            settings.in_flight.map(|count| format!("at most {count}")),
        ),
        ("rate", settings.rate.map(|rate| format!("at most {rate}"))),
        ("order", settings.after_failure().map(order)),
        (
            "back off",
            settings
                .back_off_after
                .map(|count| format!("after {count} failures in a row")),
        ),
        (
            "disable",
            settings
                .disable_after_failures
                .map(|count| format!("after {count} failures in a row")),
        ),
        (
            "disable",
            settings
                .disable_after
                .map(|span| format!("after failing for {span}")),
        ),
    ];
    shown.extend(
        own.into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    fields(&shown)
}

fn order(after_failure: OnFailure) -> String {
    match after_failure {
        OnFailure::Hold => "by key; behind one that has failed the others wait".into(),
        OnFailure::Skip => "by key; one that has failed is skipped".into(),
    }
}

/// The status of a hook and the number of its held deliveries, in a sentence.
pub fn hook_status(report: &HookReport) -> String {
    let held = match report.held {
        0 => String::new(),
        1 => " 1 delivery is held for it.".into(),
        held => format!(" {held} deliveries are held for it."),
    };
    match report.status.as_str() {
        "active" => format!("Hook {} is active.", report.id),
        status => format!(
            "Hook {} is {status}.{held} Enable it with: postrider hook enable {}",
            report.id, report.id
        ),
    }
}

/// Many hooks.
pub fn hooks(hooks: &[HookReport]) -> String {
    let rows = hooks.iter().map(|hook| {
        [
            hook.id.to_string(),
            hook.account.clone(),
            hook.status.clone(),
            pace(hook),
            hook.fail_count.to_string(),
            held(hook.held),
            hook.events.join(", "),
            hook.url.clone(),
        ]
    });
    table(
        [
            "ID", "ACCOUNT", "STATUS", "PACE", "FAILS", "HELD", "EVENTS", "URL",
        ],
        rows,
    )
}

/// What happened to a hook.
pub fn changes(changes: &[HookChangeReport]) -> String {
    let rows = changes.iter().map(|change| {
        let mut about: Vec<String> = change.reason.iter().cloned().collect();
        match (change.deliveries, change.fail_count) {
            (Some(1), _) => about.push("1 delivery".into()),
            (Some(count), _) => about.push(format!("{count} deliveries")),
            (None, 0) => {}
            (None, 1) => about.push("1 failure".into()),
            (None, count) => about.push(format!("{count} failures in a row")),
        }
        let error = change.last_error.as_deref();
        about.extend(error.map(|error| format!("the last: {}", shortened(error, ERROR_CHARS))));
        [
            moment(change.at),
            change.action.clone(),
            change.actor.clone(),
            match about.is_empty() {
                true => "-".into(),
                false => about.join("; "),
            },
        ]
    });
    table(["TIME", "CHANGE", "BY", "ABOUT"], rows)
}

/// One event.
pub fn event(event: &EventReport) -> String {
    let mut shown = vec![
        ("id", event.id.to_string()),
        ("account", event.account.clone()),
        ("type", event.event_type.clone()),
        ("state", state_of(event).to_owned()),
        ("occurred", moment_or(event.occurred_at, "-")),
        ("fanned out", moment_or(event.fanned_out_at, "-")),
    ];
    let erased = event.erased_at.map(|at| ("erased", moment(at)));
    shown.extend(erased);
    for (name, key) in [
        ("ordering key", &event.ordering_key),
        ("dedup key", &event.dedup_key),
    ] {
        shown.extend(key.clone().map(|key| (name, key)));
    }
    let payload = event.payload.as_ref().map(|payload| payload.get());
    shown.extend(payload.map(|text| ("payload", shortened(text, PAYLOAD_CHARS))));
    fields(&shown)
}

/// Many events.
pub fn events(events: &[EventReport]) -> String {
    let rows = events.iter().map(|event| {
        [
            event.id.to_string(),
            event.account.clone(),
            state_of(event).to_owned(),
            moment_or(event.fanned_out_at.or(event.occurred_at), "-"),
            event.event_type.clone(),
        ]
    });
    table(["ID", "ACCOUNT", "STATE", "TIME", "TYPE"], rows)
}

/// One delivery.
pub fn delivery(delivery: &DeliveryReport) -> String {
    fields(&[
        ("id", delivery.id.to_string()),
        ("event", delivery.event_id.to_string()),
        ("hook", delivery.hook_id.to_string()),
        ("type", delivery.event_type.clone()),
        ("state", delivery_state(delivery)),
        ("attempts", delivery.attempts.to_string()),
        ("next", moment_or(delivery.next_attempt_at, "-")),
    ])
}

/// Many deliveries.
pub fn deliveries(deliveries: &[DeliveryReport]) -> String {
    let rows = deliveries.iter().map(|delivery| {
        [
            delivery.id.to_string(),
            delivery_state(delivery),
            delivery.attempts.to_string(),
            moment_or(delivery.next_attempt_at, "-"),
            delivery.event_type.clone(),
            delivery.hook_id.to_string(),
            delivery.event_id.to_string(),
        ]
    });
    table(
        ["ID", "STATE", "ATTEMPTS", "NEXT", "TYPE", "HOOK", "EVENT"],
        rows,
    )
}

/// The attempts of a delivery.
pub fn attempts(attempts: &[AttemptReport]) -> String {
    let rows = attempts.iter().map(|attempt| {
        let late = if attempt.late { " (late)" } else { "" };
        let answer = attempt.response.as_deref().filter(|text| !text.is_empty());
        let said = match (answer, &attempt.error) {
            (Some(text), _) => shortened(text, RESPONSE_CHARS),
            (None, Some(error)) => shortened(error, ERROR_CHARS),
            (None, None) => "-".to_owned(),
        };
        [
            attempt.number.to_string(),
            moment(attempt.at),
            format!("{}{late}", attempt.outcome),
            attempt
                .status
                .map_or("-".into(), |status| status.to_string()),
            format!("{} ms", attempt.duration_ms),
            said,
        ]
    });
    table(
        ["ATTEMPT", "TIME", "OUTCOME", "STATUS", "TOOK", "ANSWER"],
        rows,
    )
}

fn filter(hook: &HookReport) -> String {
    let filter = hook.filter.as_ref();
    filter.map_or("-".into(), ToString::to_string)
}

/// One key.
pub fn key(key: &KeyReport) -> String {
    let mut shown = vec![
        ("id", key.id.to_string()),
        ("scope", scope(key)),
        ("account", account_of(key)),
        ("name", key.name.clone().unwrap_or_else(|| "-".into())),
    ];
    if let Some(registrant) = &key.registrant {
        let may = match registrant.permission.as_slice() {
            [] => "nothing".to_owned(),
            permissions => permissions.join(", "),
        };
        shown.extend([
            ("permission", may),
            ("account status", registrant.account_status.name().into()),
            ("member status", registrant.member_status.name().into()),
            ("verified", registrant.verified.to_string()),
        ]);
    }
    shown.push(("created", moment(key.created_at)));
    fields(&shown)
}

/// Many keys.
pub fn keys(keys: &[KeyReport]) -> String {
    let rows = keys.iter().map(|key| {
        [
            key.id.to_string(),
            scope(key),
            account_of(key),
            key.name.clone().unwrap_or_else(|| "-".into()),
            moment(key.created_at),
            moment_or(key.last_used_at, "never"),
            moment_or(key.revoked_at, "-"),
        ]
    });
    table(
        [
            "ID",
            "SCOPE",
            "ACCOUNT",
            "NAME",
            "CREATED",
            "LAST USED",
            "REVOKED",
        ],
        rows,
    )
}

/// The scope, and whom a credential of a registrant is for.
fn scope(key: &KeyReport) -> String {
    let Some(registrant) = &key.registrant else {
        return key.scope.clone();
    };
    match &registrant.public_id {
        Some(id) => format!("{} {} ({id})", key.scope, registrant.r#for),
        None => format!("{} {}", key.scope, registrant.r#for),
    }
}

fn account_of(key: &KeyReport) -> String {
    key.account.clone().unwrap_or_else(|| "(all)".into())
}

fn status(hook: &HookReport) -> String {
    let Some(reason) = &hook.disabled_reason else {
        return hook.status.clone();
    };
    let by = hook.disabled_by.as_deref().unwrap_or("postrider");
    let at = moment_or(hook.disabled_at, "an unknown time");
    format!("{} ({reason}, at {at}, by {by})", hook.status)
}

/// Whether the hook gets its deliveries as they come.
fn pace(hook: &HookReport) -> String {
    match (hook.phase, hook.not_before) {
        (None, _) => "full".into(),
        (Some(phase), Some(at)) => format!("{}, next probe {}", phase.name(), moment(at)),
        (Some(phase), None) => phase.name().into(),
    }
}

fn failures(hook: &HookReport) -> String {
    let since = |at| format!(" in a row since {}", moment(at));
    let last = |error: &String| format!("; the last: {}", shortened(error, ERROR_CHARS));
    format!(
        "{}{}{}",
        hook.fail_count,
        hook.first_failure_at.map(since).unwrap_or_default(),
        hook.last_error.as_ref().map(last).unwrap_or_default()
    )
}

fn held_since(hook: &HookReport) -> String {
    let since = |at| format!(", of events since {}", moment(at));
    let oldest = hook.oldest_held_at.map(since).unwrap_or_default();
    format!("{}{oldest}", held(hook.held))
}

/// Held deliveries are counted up to 10,000.
fn held(count: u32) -> String {
    match count {
        10_000.. => "10000 or more".into(),
        count => count.to_string(),
    }
}

fn state_of(event: &EventReport) -> &'static str {
    match event.state {
        EventState::Queued => "queued",
        EventState::FannedOut => "fanned_out",
        EventState::Rejected => "rejected",
    }
}

fn delivery_state(delivery: &DeliveryReport) -> String {
    match &delivery.reason {
        Some(reason) => format!("{} ({reason})", delivery.state.name()),
        None => delivery.state.name().into(),
    }
}
