//! Headers and settings of a hook, for formats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use postrider_core::Hook;

/// The headers that a hook sets for itself, with its HTTP Basic credentials and the type of the
/// body; `None` when one of them is malformed.
pub fn own_headers(hook: &Hook, content_type: &'static str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let basic = hook.credentials.basic.as_ref();
    if let Some(basic) = basic.filter(|b| !b.user.is_empty() || !b.password.is_empty()) {
        let pair = BASE64.encode(format!("{}:{}", basic.user, basic.password));
        headers.insert(
            header::AUTHORIZATION,
            secret_value(&format!("Basic {pair}"))?,
        );
    }
    for (name, value) in &hook.credentials.headers {
        headers.insert(
            HeaderName::try_from(name.as_str()).ok()?,
            secret_value(value)?,
        );
    }
    Some(headers)
}

/// A header's value that is never shown.
pub fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The value of a setting that only the hook's profile knows.
pub fn profile_setting<'a>(hook: &'a Hook, name: &str) -> Option<&'a str> {
    hook.settings.profile.get(name)?.as_str()
}
