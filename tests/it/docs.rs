//! The documents are readable in a diff, their links lead somewhere, and everything that they show
//! works.
//!
//! `LIVEHOOK_PAGE=docs/start.md cargo test --test it docs::` checks only one page.

mod configuration;
mod links;
pub mod page;
mod receivers;
pub mod reference;
mod shell;

use std::path::{Path, PathBuf};

use self::page::{Block, Page, root};

/// How the blocks of a language are checked on every page.
enum Check {
    /// All blocks of a page are one script: see [`shell`].
    Script,
    /// `livehook check` must accept each block: see [`configuration`].
    Configuration,
    Json,
    /// Output or a drawing, which is not run.
    Shown,
    /// This file checks the blocks of every page.
    Everywhere(&'static str),
    /// A test of the page itself, listed in [`OWN_TESTS`].
    OwnTest,
}

/// Every language that a code block may have.
const LANGUAGES: &[(&str, Check)] = &[
    ("sh", Check::Script),
    ("toml", Check::Configuration),
    ("json", Check::Json),
    ("text", Check::Shown),
    ("console", Check::OwnTest),
    ("dockerfile", Check::OwnTest),
    ("go", Check::OwnTest),
    ("ini", Check::OwnTest),
    ("js", Check::OwnTest),
    ("mermaid", Check::Everywhere("tests/it/diagrams.rs")),
    ("nginx", Check::OwnTest),
    ("python", Check::OwnTest),
    ("rust", Check::OwnTest),
    ("sql", Check::OwnTest),
    ("yaml", Check::OwnTest),
];

/// A page, a language, and the file that checks these blocks. That file must name the page.
const OWN_TESTS: &[(&str, &str, &str)] = &[
    ("README.md", "js", "tests/it/docs/receivers.rs"),
    ("README.md", "python", "tests/it/docs/receivers.rs"),
    // As documentation tests of the crate.
    (
        "crates/css-callbacks/README.md",
        "rust",
        "crates/css-callbacks/src/lib.rs",
    ),
    (
        "docs/deploy/docker.md",
        "console",
        "tests/it/docs_deploy.rs",
    ),
    ("docs/deploy/docker.md", "yaml", "tests/it/docs_deploy.rs"),
    (
        "docs/deploy/kubernetes.md",
        "console",
        "tests/it/docs_deploy.rs",
    ),
    (
        "docs/deploy/kubernetes.md",
        "yaml",
        "tests/it/docs_deploy.rs",
    ),
    ("docs/deploy/nginx.md", "console", "tests/it/docs_deploy.rs"),
    ("docs/deploy/nginx.md", "nginx", "tests/it/docs_deploy.rs"),
    (
        "docs/deploy/systemd.md",
        "console",
        "tests/it/docs_deploy.rs",
    ),
    ("docs/deploy/systemd.md", "ini", "tests/it/docs_deploy.rs"),
    (
        "docs/handlers/exec.md",
        "python",
        "tests/it/docs_handlers.rs",
    ),
    (
        "docs/handlers/file.md",
        "python",
        "tests/it/docs_handlers.rs",
    ),
    ("docs/handlers/rust.md", "rust", "tests/it/docs_handlers.rs"),
    (
        "docs/operate/backup.md",
        "console",
        "tests/it/docs_postgres.rs",
    ),
    ("docs/operate/metrics.md", "yaml", "tests/it/monitoring.rs"),
    (
        "docs/operate/upgrade.md",
        "console",
        "tests/it/docs_deploy.rs",
    ),
    ("docs/postgres.md", "ini", "tests/it/docs_postgres.rs"),
    ("docs/postgres.md", "sql", "tests/it/docs_postgres.rs"),
    ("docs/verify.md", "go", "tests/it/docs_verify.rs"),
    ("docs/verify.md", "js", "tests/it/docs_verify.rs"),
    ("docs/verify.md", "python", "tests/it/docs_verify.rs"),
];

/// The Markdown files in a folder and its subfolders.
fn markdown_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let entries = entries.map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| match path.is_dir() {
        true => markdown_in(&path),
        false => vec![path],
    });
    found
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// Every document of the repository that exists.
pub fn all_pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> = ["README", "CONTRIBUTING", "CHANGELOG", "SECURITY"]
        .map(|name| root().join(name).with_extension("md"))
        .into_iter()
        .chain(markdown_in(&root().join("docs")))
        .chain(markdown_in(&root().join("benches")))
        .chain(markdown_in(&root().join("crates")))
        .filter(|path| path.exists() && !path.iter().any(|part| part == "node_modules"))
        .collect();
    files.sort();
    let paths = files.iter().map(|file| file.strip_prefix(root()).unwrap());
    paths
        .map(|path| Page::read(path.to_str().unwrap()))
        .collect()
}

/// The pages to check: all, or the one in `LIVEHOOK_PAGE`.
fn pages() -> Vec<Page> {
    let mut pages = all_pages();
    if let Ok(only) = std::env::var("LIVEHOOK_PAGE") {
        pages.retain(|page| page.path == only);
        assert_eq!(pages.len(), 1, "LIVEHOOK_PAGE: there is no {only}");
    }
    pages
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn check_of(language: &str) -> Option<&'static Check> {
    let known = LANGUAGES.iter().find(|(name, _)| *name == language);
    known.map(|(_, check)| check)
}

fn is_checked(page: &Page, block: &Block) -> Result<(), String> {
    match check_of(&block.language) {
        None if block.language.is_empty() => Err("this block has no language".into()),
        None => Err(format!("no test checks blocks of `{}`", block.language)),
        Some(Check::OwnTest) => {
            let mut registered = OWN_TESTS.iter();
            match registered.any(|(path, name, _)| *path == page.path && *name == block.language) {
                true => Ok(()),
                false => Err(format!(
                    "OWN_TESTS in tests/it/docs.rs names no test for the `{}` blocks of this page",
                    block.language
                )),
            }
        }
        Some(Check::Everywhere(test)) if !root().join(test).exists() => {
            Err(format!("there is no {test}"))
        }
        Some(_) => Ok(()),
    }
}

#[test]
fn every_code_block_is_checked_by_a_test() {
    let mut problems = Vec::new();
    for page in pages() {
        problems.extend(
            page.unclosed
                .map(|line| page.at(line, "this block has no end")),
        );
        for block in &page.blocks {
            if let Err(problem) = is_checked(&page, block) {
                problems.push(page.at(block.line, &problem));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_tests_of_the_pages_own_blocks_are_there() {
    let pages = all_pages();
    let mut problems = Vec::new();
    for (path, language, test) in OWN_TESTS {
        let page = pages.iter().find(|page| page.path == *path);
        if page.is_none_or(|page| page.blocks_of(language).next().is_none()) {
            problems.push(format!("{path} has no block of `{language}`"));
        }
        let text = std::fs::read_to_string(root().join(test)).unwrap_or_default();
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        if !text.contains(name) {
            problems.push(format!("{test} is not there or does not name {path}"));
        }
    }
    assert_none(&problems);
}

#[test]
fn json_blocks_are_json() {
    let mut problems = Vec::new();
    for page in pages() {
        for block in page.blocks_of("json") {
            let values = serde_json::Deserializer::from_str(&block.text).into_iter();
            let values: Result<Vec<serde_json::Value>, _> = values.collect();
            if let Err(error) = values {
                problems.push(page.at(block.line, &error.to_string()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn lines_are_short_enough_to_be_read_in_a_diff() {
    let pages = pages();
    let too_long = pages.iter().flat_map(|page| {
        let lines = page.lines.iter().zip(1..);
        let long = lines.filter(|(line, _)| line.chars().count() > 100 && !page::may_be_long(line));
        long.map(|(line, number)| {
            let length = line.chars().count();
            page.at(number, &format!("{length} characters; 100 are allowed"))
        })
    });
    assert_none(&too_long.collect::<Vec<_>>());
}

#[test]
fn the_readme_is_short() {
    let readme = Page::read("README.md");
    let bytes = std::fs::metadata(root().join("README.md")).unwrap().len();
    assert!(bytes <= 8_000, "{bytes} bytes");
    assert!(readme.lines.len() <= 160, "{} lines", readme.lines.len());
}
