//! What one source file declares and imports.

use crate::rust_tokens::is_word;
use std::collections::BTreeSet;

/// Keywords that the name of an item follows.
const ITEMS: [&str; 8] = [
    "struct", "enum", "union", "trait", "fn", "const", "static", "type",
];

/// The names in a file that matter for its imports.
#[derive(Default)]
pub struct Imports {
    /// Modules that it declares in files of their own.
    pub modules: Vec<String>,
    /// Items that it defines, modules written inline among them.
    pub items: BTreeSet<String>,
    /// Names that it imports at its top level, `*` for all of a module, and their paths.
    pub named: Vec<(String, Vec<String>)>,
    /// All paths of more than one name, as seen from the module of the file.
    pub paths: Vec<Vec<String>>,
}

impl Imports {
    /// The imports of a file with these tokens.
    pub fn of(tokens: &[String]) -> Self {
        let mut imports = Self::default();
        // How deep the place is in brackets, and at which depths modules were opened inline.
        let (mut depth, mut inline) = (0_u32, Vec::new());
        let token = |at: usize| tokens.get(at).map_or("", String::as_str);
        let mut at = 0;
        while at < tokens.len() {
            let mut found = Vec::new();
            match token(at) {
                "pub" if token(at + 1) == "(" => {
                    at += tokens[at..]
                        .iter()
                        .take_while(|token| *token != ")")
                        .count();
                }
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth -= 1;
                    inline.pop_if(|opened| *opened == depth);
                }
                "use" => at = use_tree(tokens, at + 1, &[], &mut found),
                "mod" if token(at + 2) == ";" => imports.modules.push(token(at + 1).to_owned()),
                "mod" if token(at + 2) == "{" => {
                    inline.push(depth);
                    imports.items.insert(token(at + 1).to_owned());
                }
                "macro_rules" if depth == 0 => drop(imports.items.insert(token(at + 2).to_owned())),
                word if depth == 0 && ITEMS.contains(&word) => {
                    imports.items.insert(token(at + 1).to_owned());
                }
                word if word.starts_with(is_word) && token(at + 1) == "::" => {
                    let mut path = vec![word.to_owned()];
                    while token(at + 1) == "::" && token(at + 2).starts_with(is_word) {
                        path.push(token(at + 2).to_owned());
                        at += 2;
                    }
                    found.push((String::new(), path));
                }
                _ => {}
            }
            for (name, path) in found {
                // The first `super` of a module written inline leads back into the file.
                let ups = path
                    .iter()
                    .take(inline.len())
                    .take_while(|name| *name == "super");
                imports.paths.push(path[ups.count()..].to_vec());
                if depth == 0 && !name.is_empty() {
                    imports.named.push((name, path));
                }
            }
            at += 1;
        }
        imports
    }
}

/// Adds the names and paths of the `use` tree that begins at `at`; returns where it ends.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(String, Vec<String>)>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens[at].as_str() {
            "{" => {
                while tokens[at] != "}" {
                    at = use_tree(tokens, at + 1, &path, found);
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "self" if path.len() > prefix.len() || !prefix.is_empty() => {}
            "::" => {}
            "as" => {
                found.push((tokens[at + 1].clone(), path));
                return at + 2;
            }
            _ => path.push(tokens[at].clone()),
        }
        at += 1;
    }
    if let Some(name) = path.last().filter(|_| tokens[at - 1] != ",").cloned() {
        found.push((name, path));
    }
    at
}
