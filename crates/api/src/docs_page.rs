//! Renders the OpenAPI document as one HTML page, without scripts or external resources.

use serde_json::{Map, Value};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881}\
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem}\
h1,h2,h3{line-height:1.25}h2{margin-top:3rem;border-bottom:1px solid var(--line)}\
h3{margin:2rem 0 .3rem}h3 code{font-size:.95em}h4{margin:1rem 0 .2rem}\
code{font:.88em ui-monospace,monospace;background:var(--soft);padding:.1em .3em;border-radius:.25em}\
table{border-collapse:collapse;width:100%;font-size:.93em}\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}\
td:first-child{white-space:nowrap}nav a{margin-right:1rem}\
.method{font-weight:700;text-transform:uppercase}";

/// Renders the page of an OpenAPI document.
pub(crate) fn page(document: &Value) -> String {
    let mut html = Html::default();
    let info = &document["info"];
    html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    html.raw("<title>Postrider API</title><style>").raw(STYLE);
    html.raw("</style></head><body><h1>Postrider API ");
    html.text(text(&info["version"])).raw("</h1><p>");
    html.prose(text(&info["description"])).raw("</p>");
    html.raw("<p>For programs: <a href=\"openapi.json\">openapi.json</a>.</p><nav>");
    let tags: Vec<&Value> = document["tags"].as_array().into_iter().flatten().collect();
    let names = tags.iter().map(|tag| text(&tag["name"]));
    for name in names.chain(["Webhooks", "Schemas"]) {
        html.raw("<a href=\"#")
            .text(name)
            .raw("\">")
            .text(name)
            .raw("</a>");
    }
    html.raw("</nav>");
    for tag in tags {
        let name = text(&tag["name"]);
        html.heading(name, text(&tag["description"]));
        for (path, method, operation) in operations(&document["paths"]) {
            if operation["tags"][0] == name {
                html.operation(document, path, method, operation);
            }
        }
    }
    html.heading("Webhooks", "The requests that receivers get.");
    for (_, method, operation) in operations(&document["webhooks"]) {
        html.operation(document, "(the hook's URL)", method, operation);
    }
    html.heading("Schemas", "The content of bodies.");
    for (name, schema) in members(&document["components"]["schemas"]) {
        html.raw("<h3 id=\"schema-")
            .text(name)
            .raw("\">")
            .text(name);
        html.raw("</h3><p>")
            .prose(text(&schema["description"]))
            .raw("</p>");
        html.properties(schema);
    }
    html.raw("</body></html>\n");
    html.0
}

#[derive(Default)]
struct Html(String);

impl Html {
    fn raw(&mut self, html: &str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// Text with code between backquotes.
    fn prose(&mut self, text: &str) -> &mut Self {
        for (place, part) in text.split('`').enumerate() {
            match place % 2 {
                0 => self.text(part),
                _ => self.raw("<code>").text(part).raw("</code>"),
            };
        }
        self
    }

    fn heading(&mut self, name: &str, description: &str) {
        self.raw("<h2 id=\"").text(name).raw("\">").text(name);
        self.raw("</h2><p>").prose(description).raw("</p>");
    }

    fn operation(&mut self, document: &Value, path: &str, method: &str, operation: &Value) {
        let name = text(&operation["operationId"]);
        self.raw("<h3 id=\"").text(name).raw("\">");
        self.text(text(&operation["summary"])).raw("</h3><p><code>");
        self.raw("<span class=\"method\">")
            .text(method)
            .raw("</span> ");
        self.text(path).raw("</code></p><p>");
        self.prose(text(&operation["description"])).raw("</p>");
        if let Some(parameters) = operation["parameters"].as_array() {
            self.raw("<h4>Parameters</h4><table>");
            for parameter in parameters {
                let kind = format!(
                    "{}, {}",
                    text(&parameter["in"]),
                    kind_of(&parameter["schema"])
                );
                let required = parameter["required"] == true;
                self.row(text(&parameter["name"]), &kind, required, parameter);
            }
            self.raw("</table>");
        }
        for (kind, content) in members(&operation["requestBody"]["content"]) {
            self.raw("<h4>Body (").text(kind).raw(")</h4>");
            self.schema(document, &content["schema"]);
        }
        self.raw("<h4>Answers</h4><table>");
        for (status, response) in members(&operation["responses"]) {
            self.raw("<tr><td><code>")
                .text(status)
                .raw("</code></td><td>");
            self.prose(text(&response["description"]));
            for (_, content) in members(&response["content"]) {
                self.raw(" ").kind(&content["schema"]);
            }
            self.raw("</td></tr>");
        }
        self.raw("</table>");
    }

    /// The schema of a body, by its name and in full.
    fn schema(&mut self, document: &Value, schema: &Value) {
        match schema["$ref"]
            .as_str()
            .and_then(|place| place.strip_prefix('#'))
        {
            Some(place) => {
                self.raw("<p>").kind(schema).raw("</p>");
                self.properties(document.pointer(place).unwrap_or(&Value::Null));
            }
            None => self.properties(schema),
        }
    }

    fn properties(&mut self, schema: &Value) {
        let required: Vec<_> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        self.raw("<table>");
        for (name, property) in members(&schema["properties"]) {
            let needed = required.iter().any(|one| *one == name);
            self.row(name, &kind_of(property), needed, property);
        }
        self.raw("</table>");
    }

    fn row(&mut self, name: &str, kind: &str, required: bool, about: &Value) {
        self.raw("<tr><td><code>")
            .text(name)
            .raw("</code></td><td>")
            .text(kind);
        self.raw(if required { ", required" } else { "" })
            .raw("</td><td>");
        self.prose(text(&about["description"])).raw("</td></tr>");
    }

    /// The name of a schema, as a link to it.
    fn kind(&mut self, schema: &Value) -> &mut Self {
        let kind = kind_of(schema);
        match schema.get("$ref") {
            Some(_) => {
                self.raw("<a href=\"#schema-").text(&kind).raw("\">");
                self.text(&kind).raw("</a>")
            }
            None => self.text(&kind),
        }
    }
}

/// The type of a schema in a word or two.
fn kind_of(schema: &Value) -> String {
    if let Some(place) = schema["$ref"].as_str() {
        return place.rsplit('/').next().unwrap_or_default().into();
    }
    let format = schema["format"].as_str();
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("array of {}", kind_of(&schema["items"])),
        Value::String(kind) => format.unwrap_or(kind).into(),
        Value::Array(kinds) => {
            let kinds = kinds.iter().map(|kind| match text(kind) {
                "null" => "null",
                kind => format.unwrap_or(kind),
            });
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => "any JSON".into(),
    }
}

/// Path, method and operation of all operations.
fn operations(paths: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    members(paths).flat_map(|(path, item)| {
        members(item).map(move |(method, operation)| (path, method, operation))
    })
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = object.as_object().map(Map::iter);
    members
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_shown_as_it_is_and_code_as_code() {
        let mut html = Html::default();
        html.prose("a <b> & `c \"d\"` e");
        assert_eq!(html.0, "a &lt;b&gt; &amp; <code>c &quot;d&quot;</code> e");
    }

    #[test]
    fn a_kind_is_a_word_or_two() {
        for (schema, kind) in [
            (json!({"$ref": "#/components/schemas/Hook"}), "Hook"),
            (json!({"type": "string", "format": "uuid"}), "uuid"),
            (json!({"type": ["integer", "null"]}), "integer or null"),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "array of string",
            ),
            (json!({}), "any JSON"),
        ] {
            assert_eq!(kind_of(&schema), kind);
        }
    }
}
