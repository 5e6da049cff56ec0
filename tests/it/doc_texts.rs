//! Doc comments that say nothing beyond the name of what they describe.

/// Texts that fit any item and so describe none.
const EMPTY: &[&str] = &[
    "What it is.",
    "What they are.",
    "What it does.",
    "What it has.",
    "What it says.",
    "What it counts.",
    "What it goes by.",
    "What it is called.",
    "What it is told.",
    "What it is for.",
    "How it works.",
    "How many.",
    "How much.",
    "How long.",
    "How often.",
    "When.",
    "When it was.",
    "Where.",
    "Where it is.",
    "Where to.",
    "Which.",
    "Which one.",
    "Which that was.",
    "Who.",
    "Who it is.",
    "Whose.",
    "Why.",
    "So many.",
    "So long.",
    "See above.",
    "The same.",
];

/// Words that add nothing to a name.
const FILLERS: &[&str] = &[
    "a", "an", "the", "its", "their", "this", "that", "of", "it", "which", "what", "is", "new",
    "one",
];

/// Whether `doc` says no more about the item `name` than the name itself: it is one of the texts
/// that fit any item, or consists of the words of the name.
pub fn says_nothing(name: &str, doc: &str) -> bool {
    let doc = doc.trim();
    if EMPTY.iter().any(|text| text.eq_ignore_ascii_case(doc)) {
        return true;
    }
    let name = words(name);
    let mut said = words(doc)
        .into_iter()
        .filter(|word| !FILLERS.contains(&word.as_str()));
    said.all(|word| name.contains(&word))
}

/// The words of a name or a text, in lower case; a name in camel case counts as several.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        previous_is_lower = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The public items in the tokens of a file whose documentation says nothing, with that text.
pub fn empty_docs(tokens: &[String]) -> Vec<(String, String)> {
    let mut docs = public_docs(tokens);
    docs.retain(|(name, doc)| says_nothing(name, doc));
    docs
}

/// What a block of a file contains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Variants of a public enum, or their fields.
    PublicVariants,
    /// Methods of a public trait.
    PublicTrait,
    /// Items and fields that are public only if they say so.
    Other,
}

/// The documented public items in the tokens of a file: names and documentation.
fn public_docs(tokens: &[String]) -> Vec<(String, String)> {
    let (mut found, mut blocks, mut opening) = (Vec::new(), Vec::new(), Block::Other);
    let mut doc: Vec<&str> = Vec::new();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut at = 0;
    while at < tokens.len() {
        let block = blocks.last().copied().unwrap_or(Block::Other);
        match token(at) {
            line if line.starts_with("///") => doc.push(line[3..].trim()),
            "#" => at = end_of_attribute(tokens, at + 1),
            "{" => {
                blocks.push(match block {
                    Block::PublicVariants => Block::PublicVariants,
                    _ => std::mem::replace(&mut opening, Block::Other),
                });
            }
            "}" => drop(blocks.pop()),
            _ => {
                let is_public = token(at) == "pub" && token(at + 1) != "(";
                match token(at + usize::from(is_public)) {
                    "enum" if is_public => opening = Block::PublicVariants,
                    "trait" if is_public => opening = Block::PublicTrait,
                    "fn" | "impl" | "struct" => opening = Block::Other,
                    _ => {}
                }
                if !doc.is_empty() && (is_public || block != Block::Other) {
                    found.push((name(&tokens[at..]), doc.join(" ")));
                }
                doc.clear();
            }
        }
        at += 1;
    }
    found
}

/// The place of the `]` that ends the attribute whose `[` is at or after `at`.
fn end_of_attribute(tokens: &[String], at: usize) -> usize {
    let mut depth = 0_u32;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => return place,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The name of the item, field or variant that begins with these tokens.
fn name(tokens: &[String]) -> String {
    let keywords = [
        "pub", "async", "const", "enum", "fn", "mod", "static", "struct", "trait", "type", "unsafe",
    ];
    let mut words = tokens
        .iter()
        .filter(|word| !keywords.contains(&word.as_str()));
    words.next().cloned().unwrap_or_default()
}

#[test]
fn a_text_says_nothing_when_it_only_repeats_the_name() {
    for (name, doc, nothing) in [
        ("id", "Its id.", true),
        ("hook", "Which hook.", true),
        ("at", "When.", true),
        ("hook_id", "The id of the hook.", true),
        ("HookReport", "A hook report.", true),
        ("settings", "How it works.", true),
        ("hook_url", "The URL.", true),
        ("id", "Its id, as receivers see it in `webhook-id`.", false),
        ("at", "When the attempt started.", false),
        ("timeout", "Its timeout, in seconds.", false),
        ("HookReport", "A hook with its counts.", false),
    ] {
        assert_eq!(says_nothing(name, doc), nothing, "{name}: {doc}");
    }
}

#[test]
fn documentation_is_found_with_its_item() {
    let source = "
        /// A.
        #[derive(Debug)]
        pub struct A { /// B.
            pub b: u8, /// C.
            c: u8 }
        /// D.
        pub enum D { /// E,
            /// and more.
            E { /// F.
                f: u8 } }
        /// G.
        pub(crate) fn g() {}
        impl A { /// H.
            pub const fn h(&self) { if true {} } }
        /// I.
        pub trait I: Send { /// J.
            fn j(&self); }
    ";
    let docs = public_docs(&crate::rust_tokens::tokens(source));
    let docs: Vec<_> = docs
        .into_iter()
        .map(|(name, doc)| format!("{name} {doc}"))
        .collect();
    let expected = [
        "A A.",
        "b B.",
        "D D.",
        "E E, and more.",
        "f F.",
        "h H.",
        "I I.",
        "j J.",
    ];
    assert_eq!(docs, expected);
}
