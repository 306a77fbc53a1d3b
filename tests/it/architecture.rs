//! The structure of the source: each module imports only modules before it in `lib.rs`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let parts = entries.map(|path| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![path]
        }
    });
    parts
        .flatten()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The top modules that a source names after `crate::`, comments left out.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let first_names = |list: &str| {
            let names = list
                .split(',')
                .map(|item| item.trim().split("::").next().unwrap_or("").to_owned());
            names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
        };
        match rest.strip_prefix('{') {
            Some(list) => found.extend(first_names(list.split(['{', '}']).next().unwrap_or(""))),
            None => found.extend(first_names(
                rest.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .next()
                    .unwrap_or(""),
            )),
        }
    }
    found
}

#[test]
fn modules_import_only_what_stands_before_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, at_least) in [
        ("src", 15),
        ("crates/css-callbacks/src", 5),
        ("crates/css-simulator/src", 10),
    ] {
        let wrong = against_the_order(&root.join(folder), at_least);
        assert!(
            wrong.is_empty(),
            "against the reading order of {folder}/lib.rs: {wrong:#?}"
        );
    }
}

fn against_the_order(src: &Path, at_least: usize) -> Vec<String> {
    let map = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let order: HashMap<&str, usize> = map
        .lines()
        .map(|line| line.strip_prefix("pub ").unwrap_or(line))
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .enumerate()
        .map(|(at, name)| (name, at))
        .collect();
    assert!(order.len() >= at_least, "{}", src.display());
    let mut wrong = Vec::new();
    for path in sources(src) {
        let inside = path.strip_prefix(src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap();
        let Some(own) = order.get(module.trim_end_matches(".rs")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        for import in imports(&text) {
            if order.get(import.as_str()).is_some_and(|other| other > own) {
                wrong.push(format!("{}: crate::{import}", inside.display()));
            }
        }
    }
    wrong
}

#[test]
fn the_check_sees_imports_of_every_form() {
    let text = "use crate::kind::Kind;\nuse crate::{auth, event::Event};\n// crate::admin\nlet x = crate::json::members(b);";
    assert_eq!(imports(text), ["kind", "auth", "event", "json"]);
}

/// The packages with their features, one a line.
fn packages(edges: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix=none"])
        .args(["--no-dedupe", "--format={p} {f}", "--edges", edges])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{error}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    tree.lines().map(str::to_owned).collect()
}

/// Otherwise a dependency is built twice: for `cargo test` and for `cargo run`.
#[test]
fn the_tests_change_no_feature_of_what_the_program_uses() {
    let (program, tests) = (packages("normal,build"), packages("normal,build,dev"));
    assert!(program.len() > 100);
    let changed: Vec<_> = program.difference(&tests).collect();
    assert!(
        changed.is_empty(),
        "dev-dependencies change the features of these, give them to [dependencies], too: {changed:#?}"
    );
}
