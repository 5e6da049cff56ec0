//! The profile `thulium`: flat fields as Thulium sends them to its webhooks.
//!
//! A payload is a flat JSON object. Its members become form fields in their order, after
//! `action`, every value as text; or they stay JSON, if the hook asks for that. No document says
//! when Thulium tries again, so the policy is the configured one.

use super::NAME;
use bytes::Bytes;
use http::HeaderMap;
use postrider_core::{AliasForm, Hook};
use postrider_worker::{
    Format, HeaderNames, Policy, Prepared, Profile, ProfileSetting, SecretUse, Sending,
    SettingValues, USER_AGENT, own_headers, profile_setting,
};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use url::form_urlencoded;

/// The profile.
pub(super) fn profile() -> Profile {
    Profile {
        name: NAME,
        alias: Some(AliasForm::Number),
        secret: SecretUse::None,
        settings: &[ProfileSetting {
            name: FORMAT,
            values: SettingValues::OneOf(&["form", JSON]),
        }],
        user_agent: USER_AGENT,
        header_names: HeaderNames::TitleCase,
        policy: Policy::CONFIGURED,
        format: Arc::new(FlatFields),
    }
}

/// The format of flat fields.
struct FlatFields;

const FORMAT: &str = "format";
const JSON: &str = "json";

/// The first field.
const ACTION: &str = "action";
/// The field that holds a payload without members.
const DATA: &str = "data";

impl Format for FlatFields {
    fn shared(&self, hook: &Hook) -> Option<HeaderMap> {
        let content_type = match profile_setting(hook, FORMAT) {
            Some(JSON) => "application/json",
            _ => "application/x-www-form-urlencoded",
        };
        own_headers(hook, content_type)
    }

    fn build(&self, _: &Prepared, sending: &Sending<'_>, _: &mut HeaderMap) -> Bytes {
        let action = sending.event.event_type.as_str();
        let fields = fields(sending.event.payload.as_str());
        let body = match profile_setting(sending.hook, FORMAT) {
            Some(JSON) => as_json(action, &fields),
            _ => as_form(action, &fields),
        };
        body.into()
    }
}

/// The members of the payload in their order, without one that would stand for the action; a
/// payload that is no object is one field.
fn fields(payload: &str) -> Vec<(Cow<'_, str>, &str)> {
    match serde_json::from_str::<Members<'_>>(payload) {
        Ok(Members(members)) => members
            .into_iter()
            .filter(|(name, _)| name != ACTION)
            .collect(),
        Err(_) => vec![(DATA.into(), payload)],
    }
}

fn as_form(action: &str, fields: &[(Cow<'_, str>, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair(ACTION, action);
    for (name, value) in fields {
        form.append_pair(name, &text_of(value));
    }
    form.finish()
}

fn as_json(action: &str, fields: &[(Cow<'_, str>, &str)]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut json = format!("{{{}:{}", quoted(ACTION), quoted(action));
    for (name, value) in fields {
        json.push(',');
        json.push_str(&quoted(name));
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json
}

/// A JSON value as a form has it: a text without its quotes, everything else as it is written,
/// `null` included.
fn text_of(json: &str) -> Cow<'_, str> {
    match serde_json::from_str::<String>(json) {
        Ok(text) => text.into(),
        Err(_) => json.into(),
    }
}

/// The members of an object as they are written, in their order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            members.push((name.into(), value.get()));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_are_all_text() {
        let table = [
            (
                r#"{"customer_id": 682, "company_id": null, "date": "2026-09-04 12:19:43"}"#,
                "action=A&customer_id=682&company_id=null&date=2026-09-04+12%3A19%3A43",
            ),
            (r#"{"z":"","a":true,"n":1.50}"#, "action=A&z=&a=true&n=1.50"),
            (
                r#"{"q":"a&b=c ü\"","action":"B"}"#,
                "action=A&q=a%26b%3Dc+%C3%BC%22",
            ),
            (
                r#"{"deep": {"a": [1, 2]}}"#,
                "action=A&deep=%7B%22a%22%3A+%5B1%2C+2%5D%7D",
            ),
            ("{}", "action=A"),
            ("[1]", "action=A&data=%5B1%5D"),
            (r#""text""#, "action=A&data=text"),
        ];
        for (payload, form) in table {
            assert_eq!(as_form("A", &fields(payload)), form);
        }
    }

    #[test]
    fn as_json_the_members_stay_as_they_were_written() {
        let json = as_json("A\"", &fields(r#"{"b": 1.0, "a\n": [null], "action": 1}"#));
        assert_eq!(json, r#"{"action":"A\"","b":1.0,"a\n":[null]}"#);
    }
}
