//! Reads query parameters one by one and collects all faults, each with its parameter's name.

use crate::json_field::time_of;
use crate::problem::{Fault, Problem};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use postrider_core::Timestamp;
use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;
use url::form_urlencoded;

/// The parameters not read yet, and the faults found so far.
pub(crate) struct Params {
    given: Vec<(String, String)>,
    /// The names read so far, for the text about unknown parameters.
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Params {
    /// Parses a query string.
    pub(crate) fn of(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self {
            given: pairs.into_owned().collect(),
            known: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The value of a parameter; `None` when it is missing or invalid.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let place = self.given.iter().position(|(given, _)| given == name)?;
        let text = self.given.swap_remove(place).1;
        // PostgreSQL cannot store NUL in a text, so no stored value contains it.
        if text.contains('\0') {
            self.faults
                .push(Fault::of(name, "must not contain the character NUL"));
            return None;
        }
        Some(text)
    }

    /// The value of a parameter as parsed by `read`; `None` when it is missing or invalid.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.faults.push(Fault::of(name, error.to_string()));
                None
            }
        }
    }

    /// The value of a parameter as an id; `None` when it is missing or invalid.
    pub(crate) fn id<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, |text| {
            text.parse()
                .map_err(|_| "must be an id such as 0193a5c8-7d1e-7c3a-9a53-3f6d6d0a8b11")
        })
    }

    /// The value of a parameter as a time; `None` when it is missing or invalid.
    pub(crate) fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        self.read(name, |text| {
            time_of(text).ok_or("must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
        })
    }

    /// Ends reading.
    ///
    /// # Errors
    /// All faults, including unknown and repeated parameters.
    pub(crate) fn complete(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.given) {
            let detail = if self.known.contains(&name.as_str()) {
                "is given twice".into()
            } else if self.known.is_empty() {
                "is not a parameter; there are none here".into()
            } else {
                let known = self.known.join(", ");
                format!("is not a parameter; the parameters are {known}")
            };
            self.faults.push(Fault::of(name, detail));
        }
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Problem::parameters(self.faults)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a query with two parameters: the values, or the names of the invalid parameters.
    fn read(query: &str) -> Result<(Option<String>, Option<u32>), Vec<String>> {
        let mut params = Params::of(query);
        let name = params.text("name");
        let count = params.read("count", str::parse::<u32>);
        let complete = params.complete().map_err(|problem| {
            let faults = problem.faults().iter();
            faults
                .map(|fault| fault.parameter.clone().unwrap_or_default())
                .collect()
        });
        complete.map(|()| (name, count))
    }

    #[test]
    fn parameters_are_read_in_any_order_and_decoded() {
        let name = |name: &str| Some(name.to_owned());
        for (query, expected) in [
            ("", (None, None)),
            ("count=7&name=a%20b", (name("a b"), Some(7))),
            ("name=a+b%FF", (name("a b\u{fffd}"), None)),
            ("name=", (name(""), None)),
        ] {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn every_fault_names_its_parameter() {
        for (query, wrong) in [
            ("count=many", &["count"][..]),
            ("count=1&count=2", &["count"]),
            ("other=1&count=-1", &["count", "other"]),
            ("name=a%00&count=%00", &["name", "count"]),
        ] {
            assert_eq!(read(query).unwrap_err(), wrong, "{query}");
        }
    }
}
