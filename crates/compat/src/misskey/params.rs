//! The parameters of Misskey's routes, checked as its JSON schemas do: what is missing first,
//! then each parameter in the order of the schema, told by its place there.

use super::refusal::MisskeyRefusal;
use postrider_core::{EventPattern, parse_hook_url};
use serde_json::{Map, Value};

/// What a hook can ask for. Misskey takes `reaction` and never sends it.
const EVENTS: [&str; 8] = [
    "mention", "unfollow", "follow", "followed", "note", "reply", "renote", "reaction",
];
const NAME_MAX_CHARS: usize = 100;
const URL_MAX_CHARS: usize = 1_024;
const SECRET_MAX_CHARS: usize = 1_024;

/// The members of a body.
pub(super) struct Params(pub(super) Map<String, Value>);

type Read<T> = Result<Option<T>, MisskeyRefusal>;

impl Params {
    /// Refuses a body that lacks one of these.
    ///
    /// # Errors
    /// The first that is missing.
    pub(super) fn require(&self, names: &[&str]) -> Result<(), MisskeyRefusal> {
        match names.iter().find(|name| !self.0.contains_key(**name)) {
            Some(name) => Err(MisskeyRefusal::invalid(
                "#/required",
                format!("must have required property '{name}'"),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn name(&self) -> Read<String> {
        let name = self.text("name", 1, NAME_MAX_CHARS)?;
        Ok(name.map(str::to_owned))
    }

    pub(super) fn url(&self) -> Read<String> {
        url_of(self.text("url", 1, URL_MAX_CHARS)?, "url")
    }

    /// The secret where it cannot be null.
    pub(super) fn secret(&self) -> Read<String> {
        let secret = self.text("secret", 0, SECRET_MAX_CHARS)?;
        Ok(secret.map(str::to_owned))
    }

    /// The secret; null counts as an empty one.
    pub(super) fn secret_or_null(&self) -> Read<String> {
        match self.0.get("secret") {
            Some(Value::Null) => Ok(Some(String::new())),
            _ => self.secret(),
        }
    }

    pub(super) fn on(&self) -> Read<Vec<EventPattern>> {
        let Some(value) = self.0.get("on") else {
            return Ok(None);
        };
        let types = value.as_array();
        let types = types.ok_or_else(|| mistyped("on", "array"))?;
        let pattern = |value: &Value| {
            let Value::String(name) = value else {
                return Err(MisskeyRefusal::invalid(
                    "#/properties/on/items/type",
                    "must be string",
                ));
            };
            event_of(name, "on/items")
        };
        let mut patterns = Vec::new();
        for value in types {
            let pattern = pattern(value)?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        Ok(Some(patterns))
    }

    pub(super) fn active(&self) -> Read<bool> {
        match self.0.get("active") {
            None => Ok(None),
            Some(Value::Bool(active)) => Ok(Some(*active)),
            Some(_) => Err(mistyped("active", "boolean")),
        }
    }

    /// The id of a hook; it is required wherever there is one.
    pub(super) fn webhook_id(&self) -> Result<&str, MisskeyRefusal> {
        let id = self.text("webhookId", 0, usize::MAX)?.unwrap_or_default();
        match !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            true => Ok(id),
            false => Err(MisskeyRefusal::invalid(
                "#/properties/webhookId/format",
                "must match format \"misskey:id\"",
            )),
        }
    }

    /// The type of the event that a test is to send.
    pub(super) fn test_type(&self) -> Result<&str, MisskeyRefusal> {
        let name = self.text("type", 0, usize::MAX)?.unwrap_or_default();
        event_of(name, "type").map(|_| name)
    }

    /// The URL and the secret that a test is to use instead of the hook's own.
    pub(super) fn overrides(&self) -> Result<(Option<String>, Option<String>), MisskeyRefusal> {
        match self.0.get("override") {
            None => Ok((None, None)),
            Some(Value::Object(members)) => {
                let own = Self(members.clone());
                let read = own.url().and_then(|url| Ok((url, own.secret()?)));
                read.map_err(|refusal| refusal.within("override"))
            }
            Some(_) => Err(mistyped("override", "object")),
        }
    }

    /// A text of `least` to `most` characters; an error of the system otherwise.
    fn text(&self, name: &str, least: usize, most: usize) -> Read<&str> {
        let text = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err(mistyped(name, "string")),
        };
        match text.chars().count() {
            chars if chars < least => Err(MisskeyRefusal::invalid(
                format!("#/properties/{name}/minLength"),
                format!("must NOT have fewer than {least} characters"),
            )),
            chars if chars > most => Err(MisskeyRefusal::invalid(
                format!("#/properties/{name}/maxLength"),
                format!("must NOT have more than {most} characters"),
            )),
            _ => Ok(Some(text)),
        }
    }
}

/// A URL that we can send to.
fn url_of(url: Option<&str>, name: &str) -> Read<String> {
    let Some(url) = url else { return Ok(None) };
    match parse_hook_url(url) {
        Ok(_) => Ok(Some(url.to_owned())),
        Err(problem) => Err(MisskeyRefusal::invalid(
            format!("#/properties/{name}/format"),
            problem.to_string(),
        )),
    }
}

fn event_of(name: &str, place: &str) -> Result<EventPattern, MisskeyRefusal> {
    let known = EVENTS.contains(&name);
    let pattern = known.then(|| name.parse().ok()).flatten();
    pattern.ok_or_else(|| {
        MisskeyRefusal::invalid(
            format!("#/properties/{place}/enum"),
            "must be equal to one of the allowed values",
        )
    })
}

fn mistyped(name: &str, kind: &str) -> MisskeyRefusal {
    MisskeyRefusal::invalid(
        format!("#/properties/{name}/type"),
        format!("must be {kind}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(body: Value) -> Params {
        Params(body.as_object().cloned().unwrap())
    }

    fn place<T>(read: Result<T, MisskeyRefusal>) -> String {
        match read {
            Err(MisskeyRefusal::Known {
                info: Some(info), ..
            }) => info.param,
            _ => "none".into(),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let body = params(json!({"name": "n"}));
        assert_eq!(body.require(&["name"]), Ok(()));
        let missing = MisskeyRefusal::invalid("#/required", "must have required property 'url'");
        assert_eq!(body.require(&["name", "url", "on"]), Err(missing));
    }

    #[test]
    fn each_parameter_is_checked_by_its_schema() {
        let long = "x".repeat(1_025);
        let url = "#/properties/url";
        for (body, place_of, expected) in [
            (json!({"name": ""}), "name", "#/properties/name/minLength"),
            (json!({"name": long}), "name", "#/properties/name/maxLength"),
            (json!({"name": 1}), "name", "#/properties/name/type"),
            (json!({"url": ""}), "url", &format!("{url}/minLength")),
            (json!({"url": long}), "url", &format!("{url}/maxLength")),
            (json!({"url": "ftp://a"}), "url", &format!("{url}/format")),
            (
                json!({"secret": long}),
                "secret",
                "#/properties/secret/maxLength",
            ),
            (
                json!({"secret": null}),
                "secret",
                "#/properties/secret/type",
            ),
            (json!({"on": "note"}), "on", "#/properties/on/type"),
            (json!({"on": [1]}), "on", "#/properties/on/items/type"),
            (json!({"on": ["like"]}), "on", "#/properties/on/items/enum"),
            (json!({"active": 1}), "active", "#/properties/active/type"),
            (
                json!({"webhookId": "a-b"}),
                "id",
                "#/properties/webhookId/format",
            ),
            (json!({"webhookId": 1}), "id", "#/properties/webhookId/type"),
            (json!({"type": "like"}), "type", "#/properties/type/enum"),
            (
                json!({"override": {"secret": 1}}),
                "override",
                "#/properties/override/properties/secret/type",
            ),
            (
                json!({"override": 1}),
                "override",
                "#/properties/override/type",
            ),
        ] {
            let body = params(body);
            let found = match place_of {
                "name" => place(body.name()),
                "url" => place(body.url()),
                "secret" => place(body.secret()),
                "on" => place(body.on()),
                "active" => place(body.active()),
                "id" => place(body.webhook_id()),
                "type" => place(body.test_type()),
                _ => place(body.overrides()),
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_well_is_read() {
        let body = params(json!({
            "name": "ü".repeat(100),
            "url": "https://example.com/hook",
            "secret": null,
            "on": ["note", "reaction", "note"],
            "active": false,
            "webhookId": "9wahlb3v36ut0004",
            "type": "follow",
            "override": {"url": "https://example.com/other"},
        }));
        assert_eq!(body.name().unwrap().unwrap().chars().count(), 100);
        assert_eq!(body.secret_or_null(), Ok(Some(String::new())));
        let on: Vec<_> = body.on().unwrap().unwrap();
        assert_eq!(on, ["note".parse().unwrap(), "reaction".parse().unwrap()]);
        assert_eq!(body.active(), Ok(Some(false)));
        assert_eq!(body.webhook_id(), Ok("9wahlb3v36ut0004"));
        assert_eq!(body.test_type(), Ok("follow"));
        let overrides = body.overrides().unwrap();
        assert_eq!(overrides, (Some("https://example.com/other".into()), None));
        assert_eq!(params(json!({"on": []})).on(), Ok(Some(Vec::new())));
    }
}
