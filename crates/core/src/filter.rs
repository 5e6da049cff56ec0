//! Filters: conditions on payloads.
//!
//! A filter is parsed when the hook is registered or changed, and refused there with the position of
//! the mistake. Evaluation does not fail: a path that the payload does not have, and a value of
//! another type, make a comparison false.

mod parse;

use crate::Payload;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A condition on payloads, such as `amount >= 100 && currency == "EUR" && !exists(test)`.
///
/// Shown and stored in a canonical form, whatever blanks and brackets it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(Condition);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// At least two conditions, none of them `All`.
    All(Vec<Condition>),
    /// At least two conditions, none of them `Any`.
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Exists(PayloadPath),
    StartsWith(PayloadPath, String),
    Compare(PayloadPath, Comparison, Literal),
}

/// The path to a value in a payload; at least one step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PayloadPath(Vec<PathStep>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathStep {
    Key(String),
    Index(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Null,
    Bool(bool),
    Text(String),
    Number(Number),
}

/// The text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The filter is too long.
    #[error("the filter is {0} bytes long; at most {max} are allowed", max = crate::FILTER_MAX_BYTES)]
    TooLong(usize),
    /// The filter cannot be parsed.
    #[error("the filter cannot be read at character {position}: {problem}")]
    Malformed {
        /// The place of the mistake in characters, beginning with 1.
        position: usize,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// The payload is JSON for the database but cannot be parsed here: it is nested too deeply, or a
/// number in it is too large. It matches no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be read")]
pub struct UnreadablePayload;

/// A payload that is parsed when the first filter needs it, and at most once.
#[derive(Debug)]
pub struct LazyPayload<'a> {
    payload: &'a Payload,
    value: OnceCell<Option<Value>>,
}

impl<'a> LazyPayload<'a> {
    /// The payload, not parsed yet.
    pub fn new(payload: &'a Payload) -> Self {
        Self {
            payload,
            value: OnceCell::new(),
        }
    }

    fn value(&self) -> Option<&Value> {
        let read = || serde_json::from_str(self.payload.as_str()).ok();
        self.value.get_or_init(read).as_ref()
    }
}

impl Filter {
    /// Whether the payload matches.
    ///
    /// # Errors
    /// When the payload cannot be parsed, which counts as no match.
    pub fn matches(&self, payload: &LazyPayload<'_>) -> Result<bool, UnreadablePayload> {
        let value = payload.value().ok_or(UnreadablePayload)?;
        Ok(self.0.holds(value))
    }
}

impl Condition {
    fn holds(&self, payload: &Value) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|each| each.holds(payload)),
            Self::Any(conditions) => conditions.iter().any(|each| each.holds(payload)),
            Self::Not(condition) => !condition.holds(payload),
            Self::Exists(path) => path.find(payload).is_some(),
            Self::StartsWith(path, prefix) => path
                .find(payload)
                .and_then(Value::as_str)
                .is_some_and(|text| text.starts_with(prefix.as_str())),
            Self::Compare(path, comparison, literal) => path
                .find(payload)
                .and_then(|value| literal.compared_with(value))
                .is_some_and(|order| comparison.allows(order)),
        }
    }
}

impl PayloadPath {
    fn find<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(payload, |value, step| match step {
            PathStep::Key(key) => value.as_object()?.get(key),
            PathStep::Index(index) => value.as_array()?.get(*index),
        })
    }
}

/// The relation of a value to a literal: an order, or only whether they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Ordered(Ordering),
    Same,
    Other,
}

impl Comparison {
    fn allows(self, relation: Relation) -> bool {
        use Relation::{Ordered, Other, Same};
        match self {
            Self::Equal => matches!(relation, Same | Ordered(Ordering::Equal)),
            Self::Unequal => {
                matches!(
                    relation,
                    Other | Ordered(Ordering::Less | Ordering::Greater)
                )
            }
            Self::Less => relation == Ordered(Ordering::Less),
            Self::AtMost => matches!(relation, Ordered(Ordering::Less | Ordering::Equal)),
            Self::More => relation == Ordered(Ordering::Greater),
            Self::AtLeast => matches!(relation, Ordered(Ordering::Greater | Ordering::Equal)),
        }
    }

    fn is_of_numbers(self) -> bool {
        !matches!(self, Self::Equal | Self::Unequal)
    }
}

impl Literal {
    /// The relation of `value` to this literal; `None` when their types differ, except that every
    /// value can be compared with null.
    fn compared_with(&self, value: &Value) -> Option<Relation> {
        let same = |is_same| match is_same {
            true => Relation::Same,
            false => Relation::Other,
        };
        match (self, value) {
            (Self::Null, value) => Some(same(value.is_null())),
            (Self::Bool(wanted), Value::Bool(value)) => Some(same(wanted == value)),
            (Self::Text(wanted), Value::String(value)) => Some(same(wanted == value)),
            (Self::Number(wanted), Value::Number(value)) => {
                order(value, wanted).map(Relation::Ordered)
            }
            _ => None,
        }
    }
}

/// Orders numbers by their exact values. A large integer is never rounded.
fn order(one: &Number, other: &Number) -> Option<Ordering> {
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        (Some(one), None) => order_against(one, other.as_f64()?),
        (None, Some(other)) => order_against(other, one.as_f64()?).map(Ordering::reverse),
        (None, None) => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

fn integer(number: &Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

fn order_against(integer: i128, float: f64) -> Option<Ordering> {
    let whole = float.trunc();
    // A larger float becomes the largest i128, which exceeds every integer in JSON.
    match integer.cmp(&(whole as i128)) {
        Ordering::Equal => 0.0.partial_cmp(&(float - whole)),
        unequal => Some(unequal),
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let filter = Self(parse::condition(text)?);
        // The canonical form is stored and must be parsed again.
        match filter.to_string().len() {
            length if length > crate::FILTER_MAX_BYTES => Err(FilterError::TooLong(length)),
            _ => Ok(filter),
        }
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;
    fn try_from(text: String) -> Result<Self, FilterError> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(conditions) => {
                for (n, condition) in conditions.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { " && " })?;
                    match condition {
                        Self::Any(_) => write!(f, "({condition})")?,
                        _ => condition.fmt(f)?,
                    }
                }
                Ok(())
            }
            Self::Any(conditions) => {
                for (n, condition) in conditions.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { " || " })?;
                    condition.fmt(f)?;
                }
                Ok(())
            }
            Self::Not(condition) => match **condition {
                Self::Not(_) | Self::Exists(_) | Self::StartsWith(..) => write!(f, "!{condition}"),
                _ => write!(f, "!({condition})"),
            },
            Self::Exists(path) => write!(f, "exists({path})"),
            Self::StartsWith(path, prefix) => {
                write!(f, "starts_with({path}, {})", Value::from(prefix.as_str()))
            }
            Self::Compare(path, comparison, literal) => write!(f, "{path} {comparison} {literal}"),
        }
    }
}

impl fmt::Display for PayloadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Key(key) => {
                    f.write_str(if n == 0 { "" } else { "." })?;
                    match parse::is_plain_key(key) {
                        true => f.write_str(key)?,
                        false => Value::from(key.as_str()).fmt(f)?,
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Text(text) => Value::from(text.as_str()).fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
