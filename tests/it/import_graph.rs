//! Which source files of a crate import from which, and the circles among them.
//!
//! An import is a `use` declaration or a path with more than one name, also in a macro call or an
//! attribute. A name that a module re-exports counts for the file that defines it, so that importing
//! `crate::Hook` does not count for `lib.rs`. A `mod` declaration is no import. Tests are left out.

use crate::imports::Imports;
use crate::rust_tokens::{tokens, without_tests};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules and re-exports that may lie between a path and what it names; ends a search in circles.
const STEPS_MAX: usize = 32;

/// The source files of one crate, its root first.
pub struct ImportGraph {
    modules: Vec<Module>,
}

/// One source file.
struct Module {
    /// Relative to the folder `src`.
    path: PathBuf,
    /// Index of the module that declares it; 0, the root, for the root itself.
    parent: usize,
    tokens: Vec<String>,
    /// Modules in files of their own, by name.
    children: BTreeMap<String, usize>,
    imports: Imports,
}

impl ImportGraph {
    /// Reads the crate whose sources are in `src`.
    pub fn read(src: &Path) -> Self {
        let roots = ["lib.rs", "main.rs"].map(|name| src.join(name));
        let root = roots.iter().find(|file| file.exists());
        let mut graph = Self {
            modules: Vec::new(),
        };
        graph.add(src, root.expect("lib.rs or main.rs"), src, 0);
        graph
    }

    /// Adds a file, and the files of its modules, which are in `folder`.
    fn add(&mut self, src: &Path, file: &Path, folder: &Path, parent: usize) -> usize {
        let text = std::fs::read_to_string(file).expect("read a source file");
        let tokens = without_tests(&tokens(&text));
        let imports = Imports::of(&tokens);
        let index = self.modules.len();
        self.modules.push(Module {
            path: file
                .strip_prefix(src)
                .expect("a file of the crate")
                .to_owned(),
            parent,
            tokens,
            children: BTreeMap::new(),
            imports,
        });
        for name in self.modules[index].imports.modules.clone() {
            let within = folder.join(&name);
            let files = [within.with_extension("rs"), within.join("mod.rs")];
            let file = files.iter().find(|file| file.exists());
            let file = file
                .unwrap_or_else(|| panic!("no file of the module {name} in {}", folder.display()));
            let child = self.add(src, file, &within, index);
            self.modules[index].children.insert(name, child);
        }
        index
    }

    /// The tokens of each file without tests, by its path relative to the folder `src`.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[String])> {
        let modules = self.modules.iter();
        modules.map(|module| (module.path.as_path(), module.tokens.as_slice()))
    }

    /// Groups of files each of which imports from all others of its group, directly or through
    /// other files; the largest first.
    pub fn circles(&self) -> Vec<Vec<&Path>> {
        let files = 0..self.modules.len();
        let imports: Vec<_> = files.clone().map(|file| self.imports_of(file)).collect();
        let reached: Vec<_> = files.clone().map(|file| reach(file, &imports)).collect();
        let circle_of = |file: usize| {
            let circle = reached[file]
                .iter()
                .filter(|other| reached[**other].contains(&file));
            circle.copied().collect::<Vec<_>>()
        };
        let circles: BTreeSet<_> = files
            .map(circle_of)
            .filter(|circle| circle.len() > 1)
            .collect();
        let path = |file: usize| self.modules[file].path.as_path();
        let mut circles: Vec<Vec<_>> = circles
            .into_iter()
            .map(|circle| circle.into_iter().map(path).collect())
            .collect();
        circles.sort_by_key(|circle| Reverse(circle.len()));
        circles
    }

    /// The other files from which a file imports.
    fn imports_of(&self, file: usize) -> BTreeSet<usize> {
        let paths = self.modules[file].imports.paths.iter();
        paths
            .filter_map(|path| self.resolve(file, path, STEPS_MAX))
            .filter(|other| *other != file)
            .collect()
    }

    /// The file that defines what `path` names in the module `file`; `None` outside the crate.
    fn resolve(&self, file: usize, path: &[String], steps: usize) -> Option<usize> {
        let module = &self.modules[file];
        let [first, rest @ ..] = path else {
            return Some(file);
        };
        let steps = steps.checked_sub(1)?;
        match first.as_str() {
            "crate" => return self.resolve(0, rest, steps),
            "self" => return self.resolve(file, rest, steps),
            "super" => return self.resolve(module.parent, rest, steps),
            "*" => return Some(file),
            _ => {}
        }
        if let Some(child) = module.children.get(first) {
            return self.resolve(*child, rest, steps);
        }
        if module.imports.items.contains(first) {
            return Some(file);
        }
        let named = module
            .imports
            .named
            .iter()
            .find(|(name, path)| name == first && path[0] != *name);
        if let Some((_, target)) = named {
            return self.resolve(file, &[target, rest].concat(), steps);
        }
        let globs = module.imports.named.iter().filter(|(name, _)| name == "*");
        globs
            .filter_map(|(_, target)| self.resolve(file, target, steps))
            .filter(|other| *other != file)
            .find_map(|other| self.resolve(other, path, steps))
    }
}

/// The file and all that it imports from, directly or through other files.
fn reach(from: usize, imports: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let (mut reached, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(file) = open.pop() {
        open.extend(imports[file].iter().filter(|other| reached.insert(**other)));
    }
    reached
}

#[test]
fn a_circle_is_found_through_parents_re_exports_and_macros() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let src = folder.path();
    std::fs::create_dir(src.join("a")).expect("make a folder");
    for (file, text) in [
        ("lib.rs", "mod a;\nmod b;\npub use b::{Shared as Known};\n"),
        (
            "a/mod.rs",
            "mod child;\nuse self::child::Part;\npub struct Whole(Part);\n",
        ),
        (
            "a/child.rs",
            "use super::*;\npub struct Part(crate::Known);\n",
        ),
        (
            "b.rs",
            "pub struct Shared;\nfn f() { print!(\"{}\", crate::a::Whole::new()) }\n",
        ),
    ] {
        std::fs::write(src.join(file), text).expect("write a file");
    }
    let all = ["a/mod.rs", "a/child.rs", "b.rs"].map(Path::new);
    assert_eq!(ImportGraph::read(src).circles(), [all]);

    let tests_only = "pub struct Shared;\n#[cfg(test)]\nmod tests { use crate::a::Whole; }\n";
    std::fs::write(src.join("b.rs"), tests_only).expect("write a file");
    let two = ["a/mod.rs", "a/child.rs"].map(Path::new);
    assert_eq!(ImportGraph::read(src).circles(), [two]);
}
