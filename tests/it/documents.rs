//! The documents hold together: links lead somewhere, files that they name exist, and numbers of
//! the retry schedule are those of the code.
//!
//! `crates/cli/src/config/documented.rs` compares the documented defaults.

use postrider_core::{RetrySchedule, Span};
use postrider_tests::project;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the root of the repository has documents and files in.
const FOLDERS: [&str; 9] = [
    ".ci/",
    "crates/",
    "deploy/",
    "docs/",
    "examples/",
    "grafana/",
    "migrations/",
    "scripts/",
    "tests/",
];

/// A document: its path from the root, and its text.
struct Document {
    path: String,
    text: String,
}

impl Document {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(project(path));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
        }
    }

    /// The text without its blocks of code.
    fn prose(&self) -> String {
        let mut fenced = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        prose
    }

    /// The spans of code within the prose.
    fn code(&self) -> Vec<String> {
        let prose = self.prose();
        let spans = prose.split('`').skip(1).step_by(2);
        spans.map(str::to_owned).collect()
    }

    /// Where the links lead, as written. A target may stand on the line after its bracket.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let plain: String = prose.split('`').step_by(2).collect();
        let targets = plain.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')'));
        targets
            .map(|(target, _)| target.trim().to_owned())
            .collect()
    }

    /// The anchors that GitHub gives the headings.
    fn anchors(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|heading| {
                let anchor = anchor(heading.trim_start_matches('#').trim());
                let repeats = seen.entry(anchor.clone()).or_insert(0);
                *repeats += 1;
                match *repeats {
                    1 => anchor,
                    n => format!("{anchor}-{}", n - 1),
                }
            })
            .collect()
    }
}

/// A heading in lower case, blanks as hyphens, without other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Every document that people read.
fn documents() -> Vec<Document> {
    let mut paths = vec![
        "README.md".to_owned(),
        "ARCHITECTURE.md".to_owned(),
        "CHANGELOG.md".to_owned(),
        "CONTRIBUTING.md".to_owned(),
    ];
    for folder in ["docs", "docs/design"] {
        for entry in std::fs::read_dir(project(folder)).expect("read docs") {
            let name = entry.expect("read docs").file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    assert!(paths.len() > 15, "{paths:?}");
    paths.iter().map(|path| Document::read(path)).collect()
}

#[test]
fn every_link_within_the_documents_leads_somewhere() {
    let mut followed = 0;
    for document in documents() {
        for link in document.links() {
            if link.contains("://") {
                continue;
            }
            followed += 1;
            let broken = || panic!("{} links to {link}, which is not there", document.path);
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.path.clone(),
                _ => resolved(&document.path, file),
            };
            if !project(&target).exists() {
                broken();
            }
            let anchors = || Document::read(&target).anchors();
            if !heading.is_empty() && !anchors().iter().any(|anchor| anchor == heading) {
                broken();
            }
        }
    }
    assert!(followed > 100, "only {followed} links were found");
}

/// The path from the root of what `document` calls `file`.
fn resolved(document: &str, file: &str) -> String {
    let folder = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(file).components() {
        match part.as_os_str().to_str() {
            Some("..") => {
                path.pop();
            }
            _ => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

#[test]
fn every_file_that_a_document_names_exists() {
    let sources = sources();
    let mut named = 0;
    for document in documents() {
        // The changelog may name what is gone.
        if document.path == "CHANGELOG.md" {
            continue;
        }
        for span in document.code() {
            let span = named_test(&span).map_or(span.as_str(), |(file, _)| file);
            // `NAME` stands for any name.
            if span.contains([' ', '*', '{', '<', '…', '$']) || span.contains("NAME") {
                continue;
            }
            if FOLDERS.iter().any(|folder| span.starts_with(folder)) {
                named += 1;
                let there = project(span).exists();
                assert!(there, "{} names {span}, which is not there", document.path);
            } else if span.ends_with(".rs") {
                named += 1;
                let end = format!("/{span}");
                let there = sources.iter().any(|source| source.ends_with(&end));
                assert!(there, "{} names {span}, which is not there", document.path);
            }
        }
    }
    assert!(named > 100, "only {named} files were found");
}

/// The file and the name of a test that a document names as `tests/it/file.rs::name`.
fn named_test(span: &str) -> Option<(&str, &str)> {
    let (file, test) = span.split_once("::")?;
    file.ends_with(".rs").then_some((file, test))
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut named = 0;
    for document in documents() {
        for span in document.code() {
            let Some((file, test)) = named_test(&span) else {
                continue;
            };
            named += 1;
            let text = std::fs::read_to_string(project(file)).unwrap_or_default();
            let there = is_test(&text, test);
            assert!(there, "{} names {span}, which is no test", document.path);
        }
    }
    assert!(named > 50, "only {named} tests were found");
}

/// Whether the source has a test of this name: with an attribute that says so, or listed in
/// `on_both!`.
fn is_test(source: &str, name: &str) -> bool {
    let is_attribute = |line: &str| {
        line.starts_with("#[") && (line.contains("test") || line.contains("conformance"))
    };
    let declared = format!("fn {name}(");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let declared = lines.iter().position(|line| line.contains(&declared));
    let Some(at) = declared else {
        return false;
    };
    let above = lines[..at].iter().rev();
    let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let listed = format!("{name},");
    let listed = lines.contains(&listed.as_str());
    above.any(|line| is_attribute(line))
        || source.contains("on_both!(") && listed
        || source.contains(&format!("on_both!({name});"))
}

/// The source files of the crates, by their paths.
fn sources() -> Vec<String> {
    let mut folders = vec![project("crates"), project("tests")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("read the sources") {
            let path = entry.expect("read the sources").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[test]
fn the_documented_retry_schedule_is_the_default() {
    let schedule = RetrySchedule::default();
    let waits = schedule.delays();
    let deliveries = Document::read("docs/deliveries.md");
    assert_eq!(schedule_table(&deliveries.text), waits);

    let attempts = waits.len() + 1;
    let days = waits.iter().map(|wait| wait.get().as_secs()).sum::<u64>() / 86_400;
    let days = usize::try_from(days).expect("a number of days");
    let (many, ordinal) = in_words(attempts);
    let (of_days, _) = in_words(days);
    for (document, sentence) in [
        (
            &deliveries,
            format!("{many} attempts over a little more than {of_days} days"),
        ),
        (&deliveries, format!("After the {ordinal} failure")),
        (
            &Document::read("README.md"),
            format!("{attempts} attempts over {days} days"),
        ),
    ] {
        let words: Vec<_> = document.text.split_whitespace().collect();
        let said = words.join(" ").contains(&sentence);
        assert!(said, "{} does not say: {sentence}", document.path);
    }
}

/// The waits of the table whose first row begins with "after attempt".
fn schedule_table(text: &str) -> Vec<Span> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| after attempt |"));
    let rows: Vec<Vec<&str>> = lines
        .take(3)
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let [numbers, _, waits] = &rows[..] else {
        panic!("the table of the schedule is missing");
    };
    let cells = numbers
        .iter()
        .zip(waits)
        .skip(2)
        .filter(|(number, _)| !number.is_empty());
    cells
        .enumerate()
        .map(|(n, (number, wait))| {
            assert_eq!(*number, (n + 1).to_string());
            wait.parse().expect("a wait")
        })
        .collect()
}

/// A number as documents write it: cardinal and ordinal.
fn in_words(number: usize) -> (&'static str, &'static str) {
    match number {
        3 => ("three", "third"),
        10 => ("ten", "tenth"),
        other => panic!("how is {other} written?"),
    }
}

/// The rows of the first table in the documentation of a source file.
fn table_of(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project(path)).expect("read the source");
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! "));
    let table = lines.skip_while(|line| !line.starts_with('|'));
    let table: Vec<_> = table
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect();
    assert!(table.len() > 4, "{path} has no table");
    table
}

#[test]
fn the_tables_of_states_and_limiters_are_those_of_the_sources() {
    let architecture = std::fs::read_to_string(project("ARCHITECTURE.md")).expect("read it");
    for path in [
        "crates/store/src/row_state.rs",
        "crates/worker/src/admission/mod.rs",
    ] {
        let table = table_of(path).join("\n");
        assert!(
            architecture.contains(&table),
            "ARCHITECTURE.md has another table than {path}"
        );
    }
}
