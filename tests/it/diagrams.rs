//! Mermaid itself must parse the diagrams in the documents.

use std::path::PathBuf;
use std::process::Command;

use crate::clients::{node_packages, run};
use crate::docs::all_pages;
use crate::docs::page::root;

/// Installs Mermaid from npm, in the version of `diagrams/package.json`, and the program that calls
/// it.
/// it.
fn parser() -> PathBuf {
    let parts = root().join("tests/it/diagrams");
    let folder = node_packages("mermaid", &parts.join("package.json"));
    // The program finds its modules beside itself.
    let program = folder.join("parse.mjs");
    std::fs::copy(parts.join("parse.mjs"), &program).unwrap();
    program
}

#[test]
fn every_diagram_parses() {
    let program = parser();
    let pages = all_pages().into_iter().map(|page| root().join(page.path));
    let counted = run(Command::new("node").arg(&program).args(pages));
    assert!(counted.parse::<u32>().unwrap() > 0);

    let broken = tempfile::tempdir().unwrap();
    let file = broken.path().join("broken.md");
    std::fs::write(&file, "```mermaid\nflowchart LR\n  a --> [b\n```\n").unwrap();
    let refused = Command::new("node").arg(&program).arg(&file).output();
    assert!(!refused.unwrap().status.success());
}
