//! The parser of filters: a recursive descent with limits of depth and size.
//!
//! ```text
//! any        = all { "||" all }
//! all        = not { "&&" not }
//! not        = "!" not | "(" any ")" | simple
//! simple     = "exists" "(" path ")" | "starts_with" "(" path "," text ")"
//!            | path comparison literal
//! path       = ( key | index ) { "." key | index }
//! key        = plain key | text
//! index      = "[" ( number | text ) "]"
//! comparison = "==" | "!=" | "<" | "<=" | ">" | ">="
//! literal    = text | number | "true" | "false" | "null"
//! ```
//!
//! A text is a JSON string, a number is a JSON number. White space is allowed between tokens. A
//! comparison after "!" needs brackets.

use super::{Comparison, Condition, FilterError, Literal, PathStep, PayloadPath};
use crate::{FILTER_MAX_BYTES, FILTER_MAX_CONDITIONS, FILTER_MAX_DEPTH};
use serde_json::Number;

type Result<T> = std::result::Result<T, FilterError>;

/// Parses a whole filter.
pub(super) fn condition(text: &str) -> Result<Condition> {
    if text.len() > FILTER_MAX_BYTES {
        return Err(FilterError::TooLong(text.len()));
    }
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        conditions: 0,
    };
    let condition = parser.any()?;
    match parser.peek() {
        None => Ok(condition),
        Some(_) => Err(parser.expected("\"&&\", \"||\" or the end")),
    }
}

/// Whether a key needs no quotes in a path.
pub(super) fn is_plain_key(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(begins_key) && chars.all(continues_key)
}

fn begins_key(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_key(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// The character, or the replacement character for one that a terminal does not show.
fn printable(c: char) -> char {
    match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    }
}

struct Parser<'a> {
    text: &'a str,
    /// The index of the next byte.
    at: usize,
    depth: usize,
    conditions: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Condition> {
        self.series(
            "||",
            Self::all,
            Condition::Any,
            |condition| match condition {
                Condition::Any(inner) => Ok(inner),
                other => Err(other),
            },
        )
    }

    fn all(&mut self) -> Result<Condition> {
        self.series(
            "&&",
            Self::not,
            Condition::All,
            |condition| match condition {
                Condition::All(inner) => Ok(inner),
                other => Err(other),
            },
        )
    }

    /// Conditions with one operator between them. Brackets without effect are dropped.
    fn series(
        &mut self,
        operator: &str,
        read: fn(&mut Self) -> Result<Condition>,
        join: fn(Vec<Condition>) -> Condition,
        split: fn(Condition) -> std::result::Result<Vec<Condition>, Condition>,
    ) -> Result<Condition> {
        let first = read(self)?;
        if !self.rest().starts_with(operator) {
            return Ok(first);
        }
        let mut conditions = split(first).unwrap_or_else(|single| vec![single]);
        while self.takes(operator) {
            match split(read(self)?) {
                Ok(several) => conditions.extend(several),
                Err(single) => conditions.push(single),
            }
        }
        Ok(join(conditions))
    }

    fn not(&mut self) -> Result<Condition> {
        let negated = self.takes("!");
        if !negated && !self.takes("(") {
            return self.simple();
        }
        self.depth += 1;
        if self.depth > FILTER_MAX_DEPTH {
            let problem = format!("it is nested more than {FILTER_MAX_DEPTH} levels deep");
            return Err(self.malformed(problem));
        }
        let condition = match negated {
            true => Condition::Not(Box::new(self.negated()?)),
            false => {
                let inner = self.any()?;
                self.must_take(")")?;
                inner
            }
        };
        self.depth -= 1;
        Ok(condition)
    }

    /// The condition after "!". A comparison without brackets would look as if "!" belonged to its
    /// path alone.
    fn negated(&mut self) -> Result<Condition> {
        let begin = self.position();
        let in_brackets = self.peek() == Some('(');
        match self.not()? {
            comparison @ Condition::Compare(..) if !in_brackets => Err(FilterError::Malformed {
                position: begin,
                problem: format!("put the comparison after \"!\" in brackets: !({comparison})"),
            }),
            condition => Ok(condition),
        }
    }

    fn simple(&mut self) -> Result<Condition> {
        self.conditions += 1;
        if self.conditions > FILTER_MAX_CONDITIONS {
            let problem = format!("it has more than {FILTER_MAX_CONDITIONS} conditions");
            return Err(self.malformed(problem));
        }
        let begin = self.position();
        let path = self.path()?;
        if let [PathStep::Key(name)] = &path.0[..]
            && self.peek() == Some('(')
        {
            let called = self.call(name)?;
            return called.ok_or_else(|| FilterError::Malformed {
                position: begin,
                problem: format!(
                    "there is no {name:?}: write exists(path) or starts_with(path, \"text\")"
                ),
            });
        }
        let comparison = self.comparison()?;
        self.blanks();
        let before = self.at;
        let literal = self.literal()?;
        if comparison.is_of_numbers() && !matches!(literal, Literal::Number(_)) {
            self.at = before;
            return Err(self.expected(&format!("a number: {comparison} compares numbers")));
        }
        Ok(Condition::Compare(path, comparison, literal))
    }

    /// The rest of a condition that is written like a function call; `None` when no function has
    /// this name.
    fn call(&mut self, name: &str) -> Result<Option<Condition>> {
        if !matches!(name, "exists" | "starts_with") {
            return Ok(None);
        }
        self.must_take("(")?;
        let path = self.path()?;
        let condition = match name {
            "exists" => Condition::Exists(path),
            _ => {
                self.must_take(",")?;
                self.blanks();
                Condition::StartsWith(path, self.text()?)
            }
        };
        self.must_take(")")?;
        Ok(Some(condition))
    }

    fn path(&mut self) -> Result<PayloadPath> {
        let mut steps = vec![match self.peek() {
            Some('[') => self.index()?,
            _ => self.key()?,
        }];
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    steps.push(self.key()?);
                }
                Some('[') => steps.push(self.index()?),
                _ => return Ok(PayloadPath(steps)),
            }
        }
    }

    fn key(&mut self) -> Result<PathStep> {
        match self.peek() {
            Some('"') => self.text().map(PathStep::Key),
            Some(c) if begins_key(c) => Ok(PathStep::Key(self.word().to_owned())),
            Some(c) if c.is_ascii_digit() || c == '-' => Err(self.expected(
                "a path: a comparison is written path first (amount > 5), an element of an array items[0]",
            )),
            _ => Err(self.expected("a path, such as customer.name")),
        }
    }

    fn index(&mut self) -> Result<PathStep> {
        self.must_take("[")?;
        let step = match self.peek() {
            Some('"') => PathStep::Key(self.text()?),
            _ => {
                let digits = self.span(|c| c.is_ascii_digit());
                let index = digits.parse().map_err(|_| {
                    self.at -= digits.len();
                    self.expected("the number of an element, from 0, or a key in double quotes")
                })?;
                PathStep::Index(index)
            }
        };
        self.must_take("]")?;
        Ok(step)
    }

    fn comparison(&mut self) -> Result<Comparison> {
        use Comparison::{AtLeast, AtMost, Equal, Less, More, Unequal};
        // Longer operators first.
        for (text, comparison) in [
            ("==", Equal),
            ("!=", Unequal),
            ("<=", AtMost),
            (">=", AtLeast),
            ("<", Less),
            (">", More),
        ] {
            if self.takes(text) {
                return Ok(comparison);
            }
        }
        Err(self.expected("==, !=, <, <=, > or >="))
    }

    fn literal(&mut self) -> Result<Literal> {
        const EXPECTED: &str = "a number, a text in double quotes, true, false or null";
        match self.peek() {
            Some('"') => self.text().map(Literal::Text),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number().map(Literal::Number),
            Some(c) if begins_key(c) => {
                let before = self.at;
                match self.word() {
                    "null" => Ok(Literal::Null),
                    "true" => Ok(Literal::Bool(true)),
                    "false" => Ok(Literal::Bool(false)),
                    _ => {
                        self.at = before;
                        Err(self.expected(EXPECTED))
                    }
                }
            }
            _ => Err(self.expected(EXPECTED)),
        }
    }

    fn number(&mut self) -> Result<Number> {
        let begin = self.at;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let text = self.span(is_part);
        serde_json::from_str(text).map_err(|_| {
            self.at = begin;
            self.malformed(format!("{text} is not a number, or too large for one"))
        })
    }

    /// A JSON string.
    fn text(&mut self) -> Result<String> {
        let Some(inside) = self.rest().strip_prefix('"') else {
            return Err(self.expected("a text in double quotes"));
        };
        let begin = self.at;
        let mut escaped = false;
        let length = inside.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(length) = length else {
            return Err(self.malformed("this text has no closing quote".into()));
        };
        self.at += 1 + length + 1;
        serde_json::from_str(&self.text[begin..self.at]).map_err(|_| {
            self.at = begin;
            self.malformed(
                "this text is not a JSON string, where \\ is \\\\, \" is \\\" and a line break \\n"
                    .into(),
            )
        })
    }

    /// A word of characters that a key without quotes may have.
    fn word(&mut self) -> &'a str {
        self.span(continues_key)
    }

    fn span(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let text = self.text;
        let rest = &text[self.at..];
        let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Skips `token` if it comes next, and tells whether it did.
    fn takes(&mut self, token: &str) -> bool {
        let taken = self.rest().starts_with(token);
        if taken {
            self.at += token.len();
        }
        taken
    }

    fn must_take(&mut self, token: &str) -> Result<()> {
        match self.takes(token) {
            true => Ok(()),
            false => Err(self.expected(&format!("{token:?}"))),
        }
    }

    /// The next character after white space.
    fn peek(&mut self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The rest of the text, from the next character after white space.
    fn rest(&mut self) -> &'a str {
        self.blanks();
        let text = self.text;
        &text[self.at..]
    }

    fn blanks(&mut self) {
        self.span(char::is_whitespace);
    }

    /// The place of the next character after white space, beginning with 1.
    fn position(&mut self) -> usize {
        self.blanks();
        self.text[..self.at].chars().count() + 1
    }

    fn expected(&mut self, what: &str) -> FilterError {
        const SHOWN: usize = 20;
        let found: String = match self.rest() {
            "" => "the end".into(),
            rest => rest.chars().take(SHOWN).map(printable).collect(),
        };
        self.malformed(format!("expected {what}; found {found}"))
    }

    fn malformed(&mut self, problem: String) -> FilterError {
        FilterError::Malformed {
            position: self.position(),
            problem,
        }
    }
}
