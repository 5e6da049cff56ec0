use super::*;
use crate::{FILTER_MAX_BYTES, FILTER_MAX_CONDITIONS, FILTER_MAX_DEPTH};
use proptest::prelude::*;

fn holds(filter: &str, payload: &str) -> bool {
    let parsed: Filter = filter.parse().unwrap_or_else(|e| panic!("{filter}: {e}"));
    let payload = Payload::from_checked(payload);
    parsed.matches(&LazyPayload::new(&payload)).unwrap()
}

fn refusal(filter: &str) -> (usize, String) {
    match filter.parse::<Filter>() {
        Err(FilterError::Malformed { position, problem }) => (position, problem),
        other => panic!("{filter}: {other:?}"),
    }
}

#[test]
fn conditions_hold_as_documented() {
    const PAYLOAD: &str = r#"{
        "amount": 250, "rate": 0.1, "name": "Ada Lovelace", "paid": true, "note": null,
        "customer": {"country": "DE", "e-mail": "a@b.c", "odd key": 1, "a.b": 2},
        "lines": [{"sku": "A-1"}, {"sku": "B-2"}], "ünïcode": "ja"
    }"#;
    let table = [
        ("amount == 250", true),
        ("amount == 250.0", true),
        ("amount != 250", false),
        ("amount != 251", true),
        ("amount > 249.5 && amount < 250.5", true),
        ("amount >= 250", true),
        ("amount <= 250", true),
        ("amount < 250", false),
        ("amount > -1e3", true),
        ("rate == 0.1", true),
        ("name == \"Ada Lovelace\"", true),
        ("name == \"ada lovelace\"", false),
        ("name == \"\\u0041da Lovelace\"", true),
        ("starts_with(name, \"Ada\")", true),
        ("starts_with(name, \"\")", true),
        ("starts_with(name, \"da\")", false),
        ("starts_with(amount, \"2\")", false),
        ("paid == true", true),
        ("paid != false", true),
        ("note == null", true),
        ("note != null", false),
        ("name != null", true),
        ("exists(note)", true),
        ("exists(nothing)", false),
        ("exists(customer.country)", true),
        ("exists(lines[1].sku)", true),
        ("exists(lines[2])", false),
        ("exists(lines.sku)", false),
        ("exists(name[0])", false),
        ("lines[0].sku == \"A-1\"", true),
        ("customer.e-mail == \"a@b.c\"", true),
        ("customer.\"odd key\" == 1", true),
        ("customer[\"odd key\"] == 1", true),
        ("customer.\"a.b\" == 2", true),
        ("customer.a.b == 2", false),
        ("ünïcode == \"ja\"", true),
        // A path that leads nowhere, and another type, are no match either way round.
        ("nothing == 1", false),
        ("nothing != 1", false),
        ("nothing == null", false),
        ("nothing != null", false),
        ("name == 1", false),
        ("name != 1", false),
        ("name > 1", false),
        ("customer == \"x\"", false),
        ("!(name == 1)", true),
        ("!(nothing == 1)", true),
        // What binds more.
        ("paid == true || amount == 1 && amount == 2", true),
        ("(paid == true || amount == 1) && amount == 2", false),
        ("!exists(nothing) && !(amount == 1 || amount == 2)", true),
        ("!!exists(note)", true),
    ];
    for (filter, expected) in table {
        assert_eq!(holds(filter, PAYLOAD), expected, "{filter}");
    }
}

#[test]
fn a_payload_need_not_be_an_object() {
    assert!(holds("[1] == 2", "[1, 2]"));
    assert!(holds("[0].a == 1", r#"[{"a": 1}]"#));
    assert!(!holds("a == 1", "7"));
    assert!(holds("\"\" == 1", r#"{"": 1}"#));
    // The last of two values is the one, as for most readers of JSON.
    assert!(holds("a == 2", r#"{"a": 1, "a": 2}"#));
}

#[test]
fn large_integers_are_not_rounded() {
    let table = [
        ("n == 9007199254740993", "9007199254740993", true),
        ("n == 9007199254740992", "9007199254740993", false),
        ("n > 9007199254740992.0", "9007199254740993", true),
        ("n < 9007199254740993", "9007199254740992.0", true),
        ("n == 18446744073709551615", "18446744073709551615", true),
        ("n > 18446744073709551614", "18446744073709551615", true),
        ("n > 9223372036854775807", "18446744073709551615", true),
        ("n == -9223372036854775808", "-9223372036854775808", true),
        ("n < -9223372036854775807", "-9223372036854775808", true),
        ("n < 18446744073709551615", "1e300", false),
        ("n > 18446744073709551615", "1e300", true),
        ("n < -9223372036854775808", "-1e300", true),
        ("n > 1", "1.5", true),
        ("n < -1", "-1.5", true),
        ("n == 0", "-0.0", true),
    ];
    for (filter, number, expected) in table {
        let payload = format!("{{\"n\": {number}}}");
        assert_eq!(holds(filter, &payload), expected, "{filter} of {payload}");
    }
}

#[test]
fn what_cannot_be_told_is_a_problem_and_no_match() {
    let filter: Filter = "!exists(a)".parse().unwrap();
    for payload in ["[".repeat(1000) + &"]".repeat(1000), "1e999".into()] {
        let payload = Payload::from_checked(payload);
        let problem = filter.matches(&LazyPayload::new(&payload));
        assert_eq!(problem, Err(UnreadablePayload));
    }
    assert!(serde_json::from_str::<Filter>("\"a ~= 1\"").is_err());
}

#[test]
fn what_is_wrong_is_told_with_its_position() {
    let table = [
        ("", 1, "expected a path"),
        ("  ", 3, "found the end"),
        ("amount", 7, "expected ==, !=, <, <=, > or >="),
        ("amount = 5", 8, "found = 5"),
        (
            "amount == ",
            11,
            "expected a number, a text in double quotes",
        ),
        ("amount == EUR", 11, "found EUR"),
        ("amount == 'EUR'", 11, "found 'EUR'"),
        ("amount == 01", 11, "01 is not a number"),
        ("amount == 1e999", 11, "too large"),
        ("amount == 5x", 11, "5x is not a number"),
        ("amount >= \"5\"", 11, ">= compares numbers"),
        ("5 < amount", 1, "path first"),
        ("a == 1 & b == 2", 8, "found & b == 2"),
        ("a == 1 and b == 2", 8, "\"&&\", \"||\" or the end"),
        ("a == 1 &&", 10, "expected a path"),
        ("(a == 1", 8, "expected \")\""),
        ("a == 1)", 7, "found )"),
        ("exist(a)", 1, "there is no \"exist\""),
        ("exists a", 8, "expected ==, !="),
        ("exists()", 8, "expected a path"),
        ("starts_with(a)", 14, "expected \",\""),
        ("starts_with(a, b)", 16, "a text in double quotes"),
        ("a == \"x", 6, "no closing quote"),
        ("a == \"x\\\"", 6, "no closing quote"),
        ("a == \"\\x\"", 6, "is not a JSON string"),
        ("a[-1] == 1", 3, "the number of an element"),
        (
            "a[99999999999999999999] == 1",
            3,
            "the number of an element",
        ),
        ("a[0 == 1", 5, "expected \"]\""),
        ("a. == 1", 4, "expected a path"),
        ("!a == 1", 2, "in brackets: !(a == 1)"),
        ("änderung == 1 §", 15, "found §"),
    ];
    for (filter, position, problem) in table {
        let (at, said) = refusal(filter);
        assert!(said.contains(problem), "{filter}: {said}");
        assert_eq!(at, position, "{filter}: {said}");
    }
}

#[test]
fn filters_are_bounded() {
    let long = format!("a == \"{}\"", "x".repeat(FILTER_MAX_BYTES));
    assert_eq!(
        long.parse::<Filter>(),
        Err(FilterError::TooLong(FILTER_MAX_BYTES + 7))
    );
    let nested = |levels| format!("{}a == 1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(nested(FILTER_MAX_DEPTH).parse::<Filter>().is_ok());
    let (_, said) = refusal(&nested(FILTER_MAX_DEPTH + 1));
    assert!(said.contains("levels deep"), "{said}");
    let (_, said) = refusal(&"!".repeat(1000));
    assert!(said.contains("levels deep"), "{said}");
    let many = |count| vec!["a == 1"; count].join(" && ");
    assert!(many(FILTER_MAX_CONDITIONS).parse::<Filter>().is_ok());
    let (_, said) = refusal(&many(FILTER_MAX_CONDITIONS + 1));
    assert!(said.contains("more than 64 conditions"), "{said}");
    // It would not be readable once it is written out.
    let dense = vec!["aaaaaaaaaaaaaaaaaaaaaaaa>0.001"; 64].join("&&");
    assert!(dense.len() <= FILTER_MAX_BYTES);
    assert!(matches!(
        dense.parse::<Filter>(),
        Err(FilterError::TooLong(_))
    ));
}

#[test]
fn a_filter_is_written_in_one_way() {
    for (given, written) in [
        ("a==1", "a == 1"),
        (" ( ( a == 1 ) ) ", "a == 1"),
        ("a == 1&&(b == 2&&c == 3)", "a == 1 && b == 2 && c == 3"),
        ("(a == 1 && b == 2) || c == 3", "a == 1 && b == 2 || c == 3"),
        ("(a==1||b==2)&&c==3", "(a == 1 || b == 2) && c == 3"),
        ("! ( exists ( a ) )", "!exists(a)"),
        ("!(a == 1)", "!(a == 1)"),
        ("a [\"b\"] [ 0 ] == null", "a.b[0] == null"),
        ("\"a b\".\"c\" == \"\\u0041\\/\"", "\"a b\".c == \"A/\""),
    ] {
        let filter: Filter = given.parse().unwrap();
        assert_eq!(filter.to_string(), written);
    }
}

fn path() -> impl Strategy<Value = PayloadPath> {
    let step = prop_oneof![
        "[a-zä_][a-z0-9_-]{0,5}".prop_map(PathStep::Key),
        any::<String>().prop_map(|key| PathStep::Key(key.chars().take(8).collect())),
        any::<usize>().prop_map(PathStep::Index),
    ];
    prop::collection::vec(step, 1..4).prop_map(PayloadPath)
}

fn comparison() -> impl Strategy<Value = Condition> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("a number", Number::from_f64),
    ];
    let literal = prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<String>().prop_map(|text| Literal::Text(text.chars().take(8).collect())),
        number.clone().prop_map(Literal::Number),
    ];
    let equality = prop_oneof![Just(Comparison::Equal), Just(Comparison::Unequal)];
    let numeric = prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::AtMost),
        Just(Comparison::More),
        Just(Comparison::AtLeast),
    ];
    prop_oneof![
        (path(), equality, literal).prop_map(|(p, c, l)| Condition::Compare(p, c, l)),
        (path(), numeric, number)
            .prop_map(|(p, c, n)| { Condition::Compare(p, c, Literal::Number(n)) }),
        path().prop_map(Condition::Exists),
        (path(), "[a-z\"\\\\]{0,5}").prop_map(|(p, t)| Condition::StartsWith(p, t)),
    ]
}

/// Conditions as they are built: none is directly within one of its own kind.
fn condition() -> impl Strategy<Value = Condition> {
    comparison().prop_recursive(4, 12, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        let flat = |conditions: Vec<Condition>, all: bool| {
            conditions
                .into_iter()
                .flat_map(move |condition| match (condition, all) {
                    (Condition::All(inner), true) | (Condition::Any(inner), false) => inner,
                    (other, _) => vec![other],
                })
                .collect()
        };
        prop_oneof![
            several().prop_map(move |conditions| Condition::All(flat(conditions, true))),
            several().prop_map(move |conditions| Condition::Any(flat(conditions, false))),
            inner.prop_map(|condition| Condition::Not(Box::new(condition))),
        ]
    })
}

/// Texts that look like filters, more or less.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "a",
        "b.c",
        "[0]",
        "[\"k\"]",
        "\"",
        "\"t\"",
        "\\",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "exists(",
        "starts_with(",
        ",",
        "1",
        "-2.5e3",
        "true",
        "null",
        ".",
        " ",
        "é",
    ]);
    prop::collection::vec(scrap, 0..30).prop_map(|scraps| scraps.concat())
}

/// Reads it, and writes and reads again what could be read.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Filter>() {
        Ok(filter) => {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
        Err(FilterError::Malformed { position, .. }) => {
            prop_assert!((1..=text.chars().count() + 1).contains(&position));
        }
        Err(FilterError::TooLong(_)) => {}
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        survives(&text)?;
    }

    #[test]
    fn nothing_that_looks_like_a_filter_makes_the_parser_panic(text in scraps()) {
        survives(&text)?;
    }

    #[test]
    fn what_is_written_is_read_as_the_same(condition in condition()) {
        let filter = Filter(condition);
        let text = filter.to_string();
        if text.len() <= FILTER_MAX_BYTES {
            prop_assert_eq!(text.parse::<Filter>(), Ok(filter), "{}", text);
        }
    }

    #[test]
    fn a_filter_and_its_opposite_never_agree(condition in condition(), numbers in any::<[i64; 2]>()) {
        let payload = serde_json::json!({ "a": numbers, "b": { "c": numbers[0] } });
        let opposite = Condition::Not(Box::new(condition.clone()));
        prop_assert_ne!(condition.holds(&payload), opposite.holds(&payload));
    }
}
