//! Links lead to existing files and headings, and every page has a link to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::page::{Link, Page, quoted, root};
use super::{all_pages, assert_none, pages};

/// The file, from the repository's root, and the heading that a link leads to. None if it leads out
/// of the repository.
fn destination(page: &Page, link: &Link) -> Option<(String, Option<String>)> {
    let target = &link.target;
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = match target.split_once('#') {
        Some((file, heading)) => (file, Some(heading.to_owned())),
        None => (&**target, None),
    };
    if file.is_empty() {
        return Some((page.path.clone(), heading));
    }
    let folder = Path::new(&page.path).parent().unwrap();
    let mut path = PathBuf::new();
    for part in folder.join(file).components() {
        match part {
            Component::ParentDir if path.pop() => {}
            other => path.push(other),
        }
    }
    Some((path.to_str().unwrap().to_owned(), heading))
}

fn problem_of(page: &Page, link: &Link, all: &BTreeMap<&str, &Page>) -> Option<String> {
    let (file, heading) = destination(page, link)?;
    if Path::new(&file).is_absolute() || file.starts_with("..") {
        return Some("leads out of the repository".into());
    }
    if !root().join(&file).exists() {
        return Some(format!("there is no {file}"));
    }
    let heading = heading?;
    // Links to lines of a source need no anchor.
    let page = all.get(&*file)?;
    let is_there = page.anchors.contains(&heading);
    (!is_there).then(|| format!("{file} has no heading with the name #{heading}"))
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let all = all_pages();
    let by_path = all.iter().map(|page| (&*page.path, page)).collect();
    let mut problems = Vec::new();
    for page in pages() {
        for link in &page.links {
            if let Some(problem) = problem_of(&page, link, &by_path) {
                problems.push(page.at(link.line, &format!("({}): {problem}", link.target)));
            }
        }
    }
    assert_none(&problems);
}

/// A file or folder of the repository that a line names as code. With `NAME` or `*` in it, it stands for several.
fn files_named(line: &str) -> impl Iterator<Item = &str> {
    let folders = [
        "src/",
        "crates/",
        "tests/",
        "benches/",
        "examples/",
        "config/",
        "docs/",
        ".ci/",
    ];
    let named =
        quoted(line).filter(move |code| folders.iter().any(|folder| code.starts_with(folder)));
    named.filter(|code| !code.contains([' ', '*']) && !code.contains("NAME"))
}

#[test]
fn the_files_that_pages_name_are_there() {
    let mut problems = Vec::new();
    let mut found = 0;
    for page in all_pages() {
        for (line, number) in page.lines.iter().zip(1..) {
            for file in files_named(line) {
                found += 1;
                // From the root, or from the page: each crate has a README of its own.
                let beside = root().join(&page.path).with_file_name(file);
                if !root().join(file).exists() && !beside.exists() {
                    problems.push(page.at(number, &format!("there is no {file}")));
                }
            }
        }
    }
    assert!(found > 80, "{found}");
    assert_none(&problems);
}

#[test]
fn links_lead_from_the_readme_to_every_page() {
    let all = all_pages();
    let by_path: BTreeMap<_, _> = all.iter().map(|page| (page.path.clone(), page)).collect();
    let mut unseen: BTreeSet<_> = by_path.keys().cloned().collect();
    let mut waiting = vec!["README.md".to_owned()];
    while let Some(path) = waiting.pop() {
        if unseen.remove(&path) {
            let page = by_path[&path];
            let links = page.links.iter().filter_map(|link| destination(page, link));
            waiting.extend(links.map(|(file, _)| file));
        }
    }
    let unseen: Vec<_> = unseen.into_iter().collect();
    assert!(unseen.is_empty(), "no link leads to {unseen:?}");
}
