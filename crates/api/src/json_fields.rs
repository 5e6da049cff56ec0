//! Reads the members of a JSON object one by one and collects all faults, each with its JSON
//! pointer.

use crate::json_field::Field;
use crate::problem::{Fault, Problem, ProblemKind};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::{self, Display};

/// The members not read yet, with their values as written, and the faults found so far.
pub(crate) struct Fields<'a> {
    members: Vec<(Name<'a>, &'a RawValue)>,
    /// The names read so far, for the text about unknown fields.
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Parses the text of a body.
    ///
    /// # Errors
    /// When the text is not JSON, or not an object.
    pub(crate) fn of(text: &'a str) -> Result<Self, Problem> {
        let members = serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => Problem::invalid(vec![Fault::at("", "must be a JSON object")]),
            _ => Problem::new(
                ProblemKind::MalformedJson,
                format!("The body is not valid JSON: {error}."),
            ),
        })?;
        Ok(Self::with(members))
    }

    /// Parses an object inside a larger body. Pointers of faults are relative to it.
    ///
    /// # Errors
    /// When the value is not an object.
    pub(crate) fn within(value: &'a RawValue) -> Result<Self, Fault> {
        let members = serde_json::from_str(value.get());
        let members = members.map_err(|_| Fault::at("", "must be a JSON object"))?;
        Ok(Self::with(members))
    }

    fn with(Members(members): Members<'a>) -> Self {
        Self {
            members,
            known: Vec::with_capacity(8),
            faults: Vec::new(),
        }
    }

    /// The value of a required member; `None` when it is missing or invalid, which is a fault.
    pub(crate) fn required<T: Field<'a>>(&mut self, name: &'static str) -> Option<T> {
        match self.take(name) {
            Some(value) => self.read(name, value),
            None => {
                let detail = format!("is missing; it must be {}", T::EXPECTED);
                self.fault(name, detail);
                None
            }
        }
    }

    /// The value of an optional member; `None` when it is missing, `null` or invalid.
    pub(crate) fn optional<T: Field<'a>>(&mut self, name: &'static str) -> Option<T> {
        match self.take(name) {
            Some(value) if value.get() != "null" => self.read(name, value),
            _ => None,
        }
    }

    /// The value of an optional string as parsed by `parse`.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text: String = self.optional(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// The strings of an optional array of at most `max` entries, each parsed by `parse`.
    pub(crate) fn list<T, E: Display>(
        &mut self,
        name: &'static str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let texts: Vec<String> = self.optional(name)?;
        if texts.len() > max {
            self.fault(name, format!("has more than {max} entries"));
            return None;
        }
        let before = self.faults.len();
        let mut read = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(value) => read.push(value),
                Err(error) => {
                    let pointer = format!("/{name}/{place}");
                    self.faults.push(Fault::at(pointer, error.to_string()));
                }
            }
        }
        (self.faults.len() == before).then_some(read)
    }

    /// The new value of a member: `None` when it is missing, `Some(None)` when it is `null`.
    pub(crate) fn change<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<Option<T>> {
        let place = self.members.iter().position(|(Name(n), _)| n == name);
        let null = place.and_then(|place| self.members.get(place));
        match null.map(|(_, value)| value.get() == "null") {
            Some(false) => read(self, name).map(Some),
            Some(true) => {
                self.take(name);
                Some(None)
            }
            None => {
                self.known.push(name);
                None
            }
        }
    }

    /// Adds a fault.
    pub(crate) fn refuse(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Ends reading, and returns `read` if there is no fault and no unread member.
    ///
    /// # Errors
    /// All faults, as a problem.
    pub(crate) fn complete<T>(self, read: Option<T>) -> Result<T, Problem> {
        self.end(read).map_err(Problem::invalid)
    }

    /// Like [`complete`](Self::complete), for an object inside a larger body.
    ///
    /// # Errors
    /// All faults.
    pub(crate) fn end<T>(mut self, read: Option<T>) -> Result<T, Vec<Fault>> {
        for (Name(name), _) in std::mem::take(&mut self.members) {
            let detail = match self.known.contains(&name.as_ref()) {
                true => "is given twice".into(),
                false => format!("is not a field; the fields are {}", self.known.join(", ")),
            };
            self.fault(&name, detail);
        }
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(self.faults),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.known.push(name);
        let place = self.members.iter().position(|(Name(n), _)| n == name)?;
        Some(self.members.swap_remove(place).1)
    }

    fn read<T: Field<'a>>(&mut self, name: &str, value: &'a RawValue) -> Option<T> {
        let read = T::read(value);
        if read.is_none() {
            self.fault(name, format!("must be {}", T::EXPECTED));
        }
        read
    }

    fn fault(&mut self, name: &str, detail: String) {
        let name = name.replace('~', "~0").replace('/', "~1");
        self.faults.push(Fault::at(format!("/{name}"), detail));
    }
}

/// All members in the order of the text, including repeated names.
struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use postrider_core::Timestamp;

    /// Pointers and details.
    type Wrong = Vec<(String, String)>;

    /// Reads a body with two fields: the values, or the faults.
    fn read(text: &str) -> Result<(String, Option<Timestamp>), Wrong> {
        let faults = |problem: Problem| {
            let faults = problem.faults().iter();
            faults
                .map(|fault| {
                    (
                        fault.pointer.clone().unwrap_or_default(),
                        fault.detail.clone(),
                    )
                })
                .collect::<Wrong>()
        };
        let mut fields = Fields::of(text).map_err(faults)?;
        let name = fields.required("name");
        let at = fields.optional("at");
        fields.complete(name).map(|name| (name, at)).map_err(faults)
    }

    #[test]
    fn members_are_read_in_any_order_and_by_their_unescaped_names() {
        let at = "2026-01-31T12:00:00.000001Z".parse().unwrap();
        for (text, expected) in [
            (r#"{"name":"a"}"#, None),
            (r#" {"at":null,"name":"a"} "#, None),
            (
                r#"{"at":"2026-01-31T13:00:00.0000019+01:00","n\u0061me":"\u0061"}"#,
                Some(at),
            ),
        ] {
            assert_eq!(read(text), Ok(("a".into(), expected)), "{text}");
        }
    }

    #[test]
    fn every_fault_names_its_position() {
        for (text, wrong) in [
            ("{}", &[("/name", "is missing; it must be a string")][..]),
            (r#"{"name":null}"#, &[("/name", "must be a string")]),
            ("[]", &[("", "must be a JSON object")]),
            (
                r#"{"name":7,"at":"tomorrow","a/b~c":1}"#,
                &[
                    ("/name", "must be a string"),
                    ("/at", "must be a time"),
                    ("/a~1b~0c", "is not a field"),
                ],
            ),
            (r#"{"name":"a","name":"b"}"#, &[("/name", "given twice")]),
            (
                r#"{"name":"a","at":"0000-12-31T00:00:00Z"}"#,
                &[("/at", "years 1 to 9999")],
            ),
            (
                r#"{"name":"a","at":"9999-12-31T23:00:00-02:00"}"#,
                &[("/at", "years 1 to 9999")],
            ),
        ] {
            let told = read(text).unwrap_err();
            assert_eq!(told.len(), wrong.len(), "{text}: {told:?}");
            for ((pointer, detail), (at, words)) in told.iter().zip(wrong) {
                assert_eq!(pointer, at, "{text}");
                assert!(detail.contains(words), "{text}: {detail}");
            }
        }
    }

    #[test]
    fn a_change_distinguishes_null_from_a_missing_member() {
        let mut fields = Fields::of(r#"{"a":null,"b":"x","d":7}"#).unwrap();
        let mut change = |name| fields.change(name, Fields::optional::<String>);
        assert_eq!(change("a"), Some(None));
        assert_eq!(change("b"), Some(Some("x".into())));
        assert_eq!(change("c"), None);
        assert_eq!(change("d"), None, "what cannot be read changes nothing");
        let faults = fields.end(Some(())).unwrap_err();
        assert_eq!(faults, [Fault::at("/d", "must be a string")]);
    }

    #[test]
    fn faults_of_a_list_name_the_position_of_the_entry() {
        let list = |text: &str| {
            let mut fields = Fields::of(text).unwrap();
            let read = fields.list("n", 3, str::parse::<u32>);
            fields.end(Some(())).map(|()| read)
        };
        assert_eq!(list("{}"), Ok(None));
        assert_eq!(list(r#"{"n":["1","2"]}"#), Ok(Some(vec![1, 2])));
        let places = |text| {
            let faults = list(text).unwrap_err();
            let pointers = faults.into_iter().filter_map(|fault| fault.pointer);
            pointers.collect::<Vec<_>>()
        };
        assert_eq!(places(r#"{"n":["1","a","3"]}"#), ["/n/1"]);
        assert_eq!(places(r#"{"n":["1","2","3","4"]}"#), ["/n"]);
        assert_eq!(places(r#"{"n":[1]}"#), ["/n"]);
    }

    #[test]
    fn text_that_is_not_json_is_malformed() {
        for text in [
            "",
            "{",
            "{'name':'a'}",
            r#"{"name":"a"} x"#,
            r#"{"name":01}"#,
        ] {
            let problem = Fields::of(text).err().map(IntoResponse::into_response);
            assert_eq!(problem.map(|r| r.status().as_u16()), Some(400), "{text}");
        }
    }
}
