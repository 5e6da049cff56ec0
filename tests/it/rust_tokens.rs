//! The tokens of a Rust source file, as far as the checks of the sources need them.

/// The tokens of `source`, without comments and literals: words, `::`, and other characters one by
/// one. A documentation comment is one token, which begins with `///`.
pub fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (token, length) = if let Some(comment) = rest.strip_prefix("//") {
            let line = comment.lines().next().unwrap_or_default();
            let is_doc = line.starts_with('/') && !line.starts_with("//");
            (is_doc.then(|| format!("//{line}")), 2 + line.len())
        } else if rest.starts_with("/*") {
            (None, rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if let Some(length) = literal(rest) {
            (None, length)
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Some(rest[..length].to_owned()), length)
        } else if rest.starts_with("::") {
            (Some("::".to_owned()), 2)
        } else {
            let is_blank = first.is_whitespace();
            ((!is_blank).then(|| first.to_string()), first.len_utf8())
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}

/// The tokens without items that are compiled for tests only.
pub fn without_tests(tokens: &[String]) -> Vec<String> {
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(test.len()).eq(test) {
            at = end_of_item(tokens, at + test.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The place after the item that begins at `at`: after its first `;` or its first block.
fn end_of_item(tokens: &[String], at: usize) -> usize {
    let mut depth = 0_u32;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return place + 1;
                }
            }
            ";" if depth == 0 => return place + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The length of the string or character literal at the beginning of `text`; `None` without one.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    let is_raw = text[..prefix].contains('r');
    let body = &text[prefix..];
    if is_raw && (body.starts_with('#') || body.starts_with('"')) {
        let hashes = body.find(|c| c != '#')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let inner = body[hashes..].strip_prefix('"')?;
        return Some(prefix + hashes + 1 + inner.find(&end)? + end.len());
    }
    match body.chars().next()? {
        '"' => Some(prefix + quoted(body, '"')?),
        // `'a` is a lifetime, `'a'` and `'\n'` are characters.
        '\'' if body[1..].starts_with('\\') => Some(prefix + quoted(body, '\'')?),
        '\'' => {
            let length = 1 + body[1..].chars().next()?.len_utf8();
            body[length..]
                .starts_with('\'')
                .then_some(prefix + length + 1)
        }
        _ => None,
    }
}

/// The length of a literal in quotes, in which a backslash escapes.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(place + 1),
            _ => {}
        }
    }
    None
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn comments_literals_and_tests_are_left_out() {
    let source = r##"
        /// Its doc.
        pub fn a<'x>(b: &'x str) -> char { /* { */ f("}\"", 'c', '\'', r#"""#, b"{") } // }
        #[cfg(test)]
        mod tests { fn c() { d[0]; } }
        use crate::e;
    "##;
    let kept = without_tests(&tokens(source)).join(" ");
    let expected = "/// Its doc. pub fn a < ' x > ( b : & ' x str ) - > char { f ( , , , , ) } \
                    use crate :: e ;";
    assert_eq!(kept, expected);
}
