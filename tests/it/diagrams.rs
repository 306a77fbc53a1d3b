//! Mermaid itself must parse the diagrams in the documents.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::{node_packages, run};

/// Mermaid from npm, in the version that `diagrams/package.json` names, with the program that asks
/// it.
fn parser() -> PathBuf {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/diagrams");
    let folder = node_packages("mermaid", &parts.join("package.json"));
    // It finds its modules from where it lies.
    let program = folder.join("parse.mjs");
    std::fs::copy(parts.join("parse.mjs"), &program).unwrap();
    program
}

/// The Markdown files below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let each = entries.map(|entry| entry.unwrap().path()).map(|path| {
        if path.is_dir() {
            documents(&path)
        } else {
            vec![path]
        }
    });
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|it| it == "md");
    each.flatten().filter(is_markdown).collect()
}

#[test]
fn every_diagram_parses() {
    let program = parser();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let counted = run(Command::new("node").arg(&program).args(documents(&docs)));
    assert!(counted.parse::<u32>().unwrap() > 0);

    let broken = tempfile::tempdir().unwrap();
    let file = broken.path().join("broken.md");
    std::fs::write(&file, "```mermaid\nflowchart LR\n  a --> [b\n```\n").unwrap();
    let refused = Command::new("node").arg(&program).arg(&file).output();
    assert!(!refused.unwrap().status.success());
}
