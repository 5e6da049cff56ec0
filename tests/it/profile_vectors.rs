//! The vectors of the profiles: tests/data/vectors.json.

use serde_json::Value;

const VECTORS: &str = include_str!("../data/vectors.json");

/// The vector of this name.
pub fn vector(id: &str) -> Value {
    let all: Value = serde_json::from_str(VECTORS).expect("JSON");
    let vectors = all["vectors"].as_array().expect("a list");
    let found = vectors.iter().find(|vector| vector["id"] == id);
    found.unwrap_or_else(|| panic!("no vector {id}")).clone()
}

/// A text of a vector.
pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// The fields of a form, in their order.
pub fn fields(form: &str) -> Vec<(String, String)> {
    let fields = form
        .split('&')
        .map(|field| field.split_once('=').expect("a field"));
    fields
        .map(|(name, value)| (plain(name), plain(value)))
        .collect()
}

fn plain(encoded: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                let digits = std::str::from_utf8(&digits).expect("digits");
                u8::from_str_radix(digits, 16).expect("digits")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("text")
}
