//! Filters and paging of SOLAPI's listings: `status=ACTIVE`, `dateCreated[gte]=…`, `limit=5`.
//!
//! A field may be compared by `eq`, which a bare name means, `ne`, `like` (contains), `in` (a
//! JSON array), and `gt`, `gte`, `lt`, `lte`. Fields that a listing does not have are passed
//! over, as SOLAPI's clients send some that mean nothing here.

use super::refusal::SolapiRefusal;
use chrono::DateTime;
use postrider_core::Timestamp;
use url::form_urlencoded;

/// How many a page holds without a limit.
const LIMIT: usize = 20;
/// How many it holds at most.
const LIMIT_MAX: usize = 500;

/// What stands behind the question mark: fields, operators and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String, String)>);

/// What is asked of the items of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    conditions: Vec<Condition>,
    /// The id that the page begins with.
    pub(super) start_key: Option<String>,
    /// How many the page holds.
    pub(super) limit: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    field: &'static str,
    operator: Operator,
    operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Like,
    In,
    Gt,
    Gte,
    Lt,
    Lte,
}

#[derive(Debug, PartialEq, Eq)]
enum Operand {
    Text(String),
    Texts(Vec<String>),
    Time(Timestamp),
}

/// What a field of an item holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'a> {
    /// A text.
    Text(&'a str),
    /// A moment, compared by milliseconds, as it is shown.
    Time(Timestamp),
}

/// Whether a field holds text or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Time,
}

impl Query {
    /// Takes it apart.
    pub(super) fn parse(query: &str) -> Self {
        let parts = form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
            let (field, operator) = match name.strip_suffix(']').and_then(|n| n.split_once('[')) {
                Some((field, operator)) => (field.to_owned(), operator.to_owned()),
                None => (name.clone().into_owned(), "eq".to_owned()),
            };
            (field, operator, value.into_owned())
        });
        Self(parts.collect())
    }

    /// What it asks of a listing with these fields.
    ///
    /// # Errors
    /// When a field is compared in a way it cannot be, or with what it cannot be.
    pub(super) fn filter(&self, fields: &[(&'static str, Kind)]) -> Result<Filter, SolapiRefusal> {
        let mut filter = Filter {
            conditions: Vec::new(),
            start_key: None,
            limit: LIMIT,
        };
        for (field, operator, value) in &self.0 {
            match field.as_str() {
                "limit" => filter.limit = limit(value)?,
                "startKey" => filter.start_key = Some(value.clone()).filter(|key| !key.is_empty()),
                field => {
                    let known = fields.iter().find(|(name, _)| *name == field);
                    if let Some((field, kind)) = known {
                        let condition = condition(field, *kind, operator, value)?;
                        filter.conditions.push(condition);
                    }
                }
            }
        }
        Ok(filter)
    }
}

impl Filter {
    /// Whether an item with these fields is asked for.
    pub(super) fn matches<'a>(&self, held: impl Fn(&str) -> Option<Held<'a>>) -> bool {
        let holds =
            |condition: &Condition| held(condition.field).is_some_and(|held| condition.holds(held));
        self.conditions.iter().all(holds)
    }
}

impl Condition {
    fn holds(&self, held: Held<'_>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (held, &self.operand) {
            (Held::Text(held), Operand::Text(text)) if self.operator == Operator::Like => {
                return held.contains(text.as_str());
            }
            (Held::Text(held), Operand::Texts(texts)) => {
                return texts.iter().any(|text| text == held);
            }
            (Held::Text(held), Operand::Text(text)) => held.cmp(text),
            (Held::Time(held), Operand::Time(at)) => {
                held.timestamp_millis().cmp(&at.timestamp_millis())
            }
            _ => return false,
        };
        match self.operator {
            Operator::Eq => order == Equal,
            Operator::Ne => order != Equal,
            Operator::Gt => order == Greater,
            Operator::Gte => order != Less,
            Operator::Lt => order == Less,
            Operator::Lte => order != Greater,
            Operator::Like | Operator::In => false,
        }
    }
}

fn limit(value: &str) -> Result<usize, SolapiRefusal> {
    match value.parse::<u64>() {
        Ok(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX)),
        _ => Err(SolapiRefusal::invalid(
            "limit",
            "must be a whole number from 1 on",
        )),
    }
}

fn condition(
    field: &'static str,
    kind: Kind,
    operator: &str,
    value: &str,
) -> Result<Condition, SolapiRefusal> {
    let operator = match operator {
        "eq" => Operator::Eq,
        "ne" => Operator::Ne,
        "like" => Operator::Like,
        "in" => Operator::In,
        "gt" => Operator::Gt,
        "gte" => Operator::Gte,
        "lt" => Operator::Lt,
        "lte" => Operator::Lte,
        _ => {
            let rule = "may be compared by eq, ne, like, in, gt, gte, lt and lte";
            return Err(SolapiRefusal::invalid(field, rule));
        }
    };
    let operand = match (kind, operator) {
        (Kind::Text, Operator::In) => {
            let texts = serde_json::from_str(value);
            Operand::Texts(texts.map_err(|_| {
                SolapiRefusal::invalid(field, "must be a JSON array of strings after [in]")
            })?)
        }
        (Kind::Text, _) => Operand::Text(value.to_owned()),
        (Kind::Time, Operator::In | Operator::Like) => {
            let rule = "may be compared by eq, ne, gt, gte, lt and lte";
            return Err(SolapiRefusal::invalid(field, rule));
        }
        // A plus sign that was not escaped arrives as a blank.
        (Kind::Time, _) => DateTime::parse_from_rfc3339(&value.replace(' ', "+"))
            .map(|at| Operand::Time(at.to_utc()))
            .map_err(|_| {
                SolapiRefusal::invalid(field, "must be a date such as 2019-12-30T00:00:00.000Z")
            })?,
    };
    Ok(Condition {
        field,
        operator,
        operand,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const FIELDS: &[(&str, Kind)] = &[
        ("status", Kind::Text),
        ("url", Kind::Text),
        ("dateCreated", Kind::Time),
    ];

    fn filter(query: &str) -> Result<Filter, SolapiRefusal> {
        Query::parse(query).filter(FIELDS)
    }

    fn matches(query: &str, status: &str, created: &str) -> bool {
        let created = DateTime::parse_from_rfc3339(created).unwrap().to_utc();
        filter(query).unwrap().matches(|field| match field {
            "status" => Some(Held::Text(status)),
            "url" => Some(Held::Text("https://solapi.com/report")),
            _ => Some(Held::Time(created)),
        })
    }

    #[test]
    fn fields_operators_and_values_are_read() {
        let text = include_str!("../../../../tests/data/vectors.json");
        let all: Value = serde_json::from_str(text).unwrap();
        let vectors = all["vectors"].as_array().unwrap();
        let vector = vectors
            .iter()
            .find(|v| v["id"] == "solapi-list-filter")
            .unwrap();
        for case in vector["cases"].as_array().unwrap() {
            let Query(read) = Query::parse(case["query"].as_str().unwrap());
            let means = case["means"].as_object().unwrap();
            let meant = means.values().map(|m| m.as_object().map_or(1, |m| m.len()));
            assert_eq!(read.len(), meant.sum::<usize>());
            for (field, operator, value) in read {
                match &means[&field] {
                    Value::Number(number) => assert_eq!(value, number.to_string()),
                    meant => assert_eq!(meant[&operator], value, "{field}[{operator}]"),
                }
            }
        }
    }

    #[test]
    fn an_item_is_asked_for_by_its_fields() {
        let matches = |query| matches(query, "ACTIVE", "2019-12-30T12:00:00.5Z");
        for query in [
            "",
            "status=ACTIVE&url[like]=solapi",
            "status[ne]=INACTIVE",
            "status[in]=[\"INACTIVE\",\"ACTIVE\"]",
            "url=https%3A%2F%2Fsolapi.com%2Freport",
            "dateCreated[gte]=2019-12-30T00:00:00.000Z&dateCreated[lt]=2019-12-31T00:00:00.000Z",
            "dateCreated=2019-12-30T12:00:00.500Z",
            "dateCreated[lte]=2019-12-30T21:00:00.500+09:00",
            "handleKey=x&nonsense[op]=y",
        ] {
            assert!(matches(query), "{query}");
        }
        for query in [
            "status=INACTIVE",
            "status=ACTIVE&status=INACTIVE",
            "status[in]=[]",
            "url[like]=example",
            "dateCreated[gt]=2019-12-30T12:00:00.500Z",
            "dateCreated[lt]=2019-12-30T12:00:00.500Z",
        ] {
            assert!(!matches(query), "{query}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        let page = |query| filter(query).map(|f| (f.limit, f.start_key));
        assert_eq!(page(""), Ok((20, None)));
        assert_eq!(page("limit=200&startKey="), Ok((200, None)));
        assert_eq!(page("limit=99999999"), Ok((500, None)));
        assert_eq!(page("startKey=WH01WH1"), Ok((20, Some("WH01WH1".into()))));
        for bad in [
            "limit=0",
            "limit=x",
            "limit=",
            "status[between]=a",
            "status[in]=a",
            "dateCreated=yesterday",
            "dateCreated[like]=2019",
        ] {
            assert!(page(bad).is_err(), "{bad}");
        }
    }
}
