//! The lines of a file of events, in batches.

use postrider_core::{NewEvent, PAYLOAD_MAX_BYTES, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{BufRead, BufReader, Read};

/// The most events in one transaction.
const BATCH_EVENTS: usize = 500;

/// The most bytes of payloads in one transaction, which bounds the memory.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The longest line in bytes: the largest payload and space for the other fields.
const LINE_MAX_BYTES: usize = PAYLOAD_MAX_BYTES + 128 * 1024;

/// Events for one transaction.
#[derive(Default)]
pub(super) struct Batch {
    /// The line of the first event; `None` without events.
    pub(super) first_line: Option<u64>,
    pub(super) events: Vec<NewEvent>,
}

/// Why no more events follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    OfFile,
    Bad { line: u64, problem: String },
}

pub(super) struct Batches<R, C> {
    pub(super) lines: Lines<R>,
    pub(super) check: C,
}

impl<R: Read, C: Fn(&NewEvent) -> Result<(), String>> Batches<R, C> {
    /// The next batch, and why no more events follow it; `None` while more may follow.
    pub(super) fn next(&mut self) -> (Batch, Option<End>) {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.events.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let (line, event) = match self.lines.next() {
                None => return (batch, Some(End::OfFile)),
                Some((line, event)) => (line, event),
            };
            let checked = event.and_then(|event| (self.check)(&event).map(|()| event));
            match checked {
                Err(problem) => return (batch, Some(End::Bad { line, problem })),
                Ok(event) => {
                    bytes += event.payload.get().len();
                    batch.first_line.get_or_insert(line);
                    batch.events.push(event);
                }
            }
        }
        (batch, None)
    }
}

/// The events of a file with their line numbers; empty lines are skipped.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    account: String,
    from_line: u64,
    line: u64,
    text: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R, account: &str, from_line: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            account: account.into(),
            from_line,
            line: 0,
            text: Vec::new(),
        }
    }

    /// Reads a line into `text`; `false` at the end of the file.
    fn read(&mut self) -> Result<bool, String> {
        self.text.clear();
        self.line += 1;
        let limit = LINE_MAX_BYTES as u64 + 1;
        let read = (&mut self.reader)
            .take(limit)
            .read_until(b'\n', &mut self.text)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if read as u64 == limit && !self.text.ends_with(b"\n") {
            return Err(format!(
                "longer than {LINE_MAX_BYTES} bytes; a payload may have {PAYLOAD_MAX_BYTES}: send \
                 a reference to large data instead"
            ));
        }
        Ok(read > 0)
    }

    fn parse(&self) -> Result<NewEvent, String> {
        let line: EventLine = serde_json::from_slice(&self.text).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Data => "not an event",
                _ => "not valid JSON",
            };
            format!(
                "{what}: {}; write a line as {{\"event_type\": \"invoice.paid\", \"payload\": {{…}}}}",
                without_line(&error)
            )
        })?;
        let payload = String::from(Box::<str>::from(line.payload));
        let mut event =
            NewEvent::from_json(line.event_type, payload).map_err(|error| error.to_string())?;
        event.account = line.account.unwrap_or_else(|| self.account.clone());
        event.ordering_key = line.ordering_key;
        event.dedup_key = line.dedup_key;
        event.deliver_after = line.deliver_after;
        event.occurred_at = line.occurred_at;
        event.headers = line.headers.map(|headers| headers.get().to_owned());
        Ok(event)
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = (u64, Result<NewEvent, String>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Ok(false) => return None,
                Err(problem) => return Some((self.line, Err(problem))),
                Ok(true) if self.line < self.from_line => {}
                Ok(true) if self.text.trim_ascii().is_empty() => {}
                Ok(true) => return Some((self.line, self.parse())),
            }
        }
    }
}

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine {
    event_type: String,
    payload: Box<RawValue>,
    account: Option<String>,
    ordering_key: Option<String>,
    dedup_key: Option<String>,
    deliver_after: Option<Timestamp>,
    occurred_at: Option<Timestamp>,
    headers: Option<Box<RawValue>>,
}

/// The text of a parser error with the column only: the parser sees one line, so its line is 1.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, from_line: u64) -> Vec<(u64, Result<String, String>)> {
        Lines::new(text.as_bytes(), "default", from_line)
            .map(|(line, event)| (line, event.map(|event| event.payload.get().to_owned())))
            .collect()
    }

    fn batches(text: &str) -> Vec<(Option<u64>, usize, Option<End>)> {
        let lines = Lines::new(text.as_bytes(), "default", 1);
        let check = |event: &NewEvent| event.check().map_err(|error| error.to_string());
        let mut batches = Batches { lines, check };
        let mut all = Vec::new();
        loop {
            let (batch, end) = batches.next();
            let done = end.is_some();
            all.push((batch.first_line, batch.events.len(), end));
            if done {
                return all;
            }
        }
    }

    #[test]
    fn payloads_are_kept_byte_for_byte() {
        let text =
            "{\"event_type\":\"a\",\"payload\":{\"n\": 1.0,\"n\":2, \"s\":\"\\u00e4\\u0000\"}}\n";
        let expected = "{\"n\": 1.0,\"n\":2, \"s\":\"\\u00e4\\u0000\"}";
        assert_eq!(read(text, 1), [(1, Ok(expected.into()))]);
    }

    #[test]
    fn all_fields_are_read() {
        let text = r#"{"payload":1,"event_type":"a","account":"acme","ordering_key":"o","dedup_key":"d","deliver_after":"2030-01-31T18:00:00Z","occurred_at":"2020-01-31T18:00:00+01:00","headers":{"x":"y"}}"#;
        let (_, event) = Lines::new(text.as_bytes(), "default", 1).next().unwrap();
        let event = event.unwrap();
        assert_eq!(event.account, "acme");
        assert_eq!(event.ordering_key.as_deref(), Some("o"));
        assert_eq!(event.dedup_key.as_deref(), Some("d"));
        assert_eq!(event.deliver_after.unwrap().timestamp(), 1_896_112_800);
        assert_eq!(event.occurred_at.unwrap().timestamp(), 1_580_490_000);
        assert_eq!(event.headers.as_deref(), Some("{\"x\":\"y\"}"));
    }

    #[test]
    fn lines_are_numbered_as_an_editor_numbers_them() {
        let text =
            "{\"event_type\":\"a\",\"payload\":1}\n\n  \r\n{\"event_type\":\"a\",\"payload\":4}";
        assert_eq!(read(text, 1), [(1, Ok("1".into())), (4, Ok("4".into()))]);
        assert_eq!(read(text, 2), [(4, Ok("4".into()))]);
        assert_eq!(read("", 1), []);
    }

    #[test]
    fn an_invalid_line_is_reported_with_its_number() {
        let good = "{\"event_type\":\"a\",\"payload\":1}";
        for (bad, expected) in [
            ("{\"event_type\":\"a\",\"payload\":", "not valid JSON"),
            ("{\"type\":\"a\",\"payload\":1}", "unknown field `type`"),
            ("{\"event_type\":\"a\"}", "missing field `payload`"),
            (
                "{\"event_type\":\"\",\"payload\":1}",
                "the event type is empty",
            ),
            (
                "{\"event_type\":\"a\",\"payload\":1,\"deliver_after\":\"soon\"}",
                "not an event",
            ),
        ] {
            let end = batches(&format!("{good}\n{bad}\n{good}\n")).pop().unwrap();
            let (Some(1), 1, Some(End::Bad { line: 2, problem })) = end else {
                panic!("{bad}: {end:?}");
            };
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let reader = std::io::repeat(b' ');
        let mut lines = Lines::new(reader, "default", 1);
        let (line, event) = lines.next().unwrap();
        assert_eq!(line, 1);
        assert!(event.unwrap_err().contains("a payload may have 524288"));
    }

    #[test]
    fn batches_are_bounded_by_events_and_by_bytes() {
        let line = "{\"event_type\":\"a\",\"payload\":1}\n";
        assert_eq!(
            batches(&line.repeat(501)),
            [(Some(1), 500, None), (Some(501), 1, Some(End::OfFile))]
        );
        let large = format!(
            "{{\"event_type\":\"a\",\"payload\":\"{}\"}}\n",
            "x".repeat(500 * 1024)
        );
        assert_eq!(
            batches(&large.repeat(18)),
            [(Some(1), 17, None), (Some(18), 1, Some(End::OfFile))]
        );
    }
}
