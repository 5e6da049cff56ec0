//! What belongs to a compatible system is in its folder, and one line lists the systems.
//!
//! So a further system is a folder in `crates/compat/src`, a name in the list of its `lib.rs`, and
//! documents and tests; and a system goes as easily.

use postrider_compat::SystemSettings;
use std::path::Path;

/// Files beside the folders of the systems that may name one, and why.
const MAY_NAME_THEM: &[(&str, &str)] = &[
    ("crates/compat/src/lib.rs", "the list"),
    (
        "crates/compat/src/policy_tests.rs",
        "a table of all systems",
    ),
    ("crates/cli/src/commands/hook.rs", "examples of --help"),
    (
        "crates/cli/src/commands/hook_profile.rs",
        "tests of --secret and --set",
    ),
    ("crates/cli/src/commands/key.rs", "examples of --help"),
    (
        "crates/cli/src/config/known_keys.rs",
        "a section without keys, in a test",
    ),
];

#[test]
fn only_its_folder_and_the_list_name_a_system() {
    let names: Vec<_> = SystemSettings::default()
        .systems("localhost")
        .iter()
        .map(|system| system.profile.name)
        .collect();
    assert!(names.len() >= 3, "the systems: {names:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = 0;
    for path in sources(&root) {
        let own = names.iter().any(|name| {
            let folder = format!("crates/compat/src/{name}/");
            path.starts_with(&folder)
        });
        if own || MAY_NAME_THEM.iter().any(|(file, _)| *file == path) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&path)).expect("a source file");
        files += 1;
        let text = text.to_lowercase();
        for name in &names {
            assert!(
                !text.contains(name),
                "{path} names the system {name}: move what belongs to it to crates/compat/src/{name}"
            );
        }
    }
    assert!(files > 200, "only {files} files were looked at");
}

/// The source files of all crates, as paths from the root.
fn sources(root: &Path) -> Vec<String> {
    let crates = std::fs::read_dir(root.join("crates")).expect("the crates");
    let mut folders: Vec<_> = crates
        .flatten()
        .map(|entry| entry.path().join("src"))
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("a folder of sources")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(root).expect("a path below the root");
                files.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files
}

#[test]
fn the_exceptions_are_still_needed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, why) in MAY_NAME_THEM {
        let text = std::fs::read_to_string(root.join(file)).expect("the file");
        let text = text.to_lowercase();
        let mut systems = SystemSettings::default().systems("localhost").into_iter();
        assert!(
            systems.any(|system| text.contains(system.profile.name)),
            "{file} names no system any more: take it out of the list ({why})"
        );
    }
}
