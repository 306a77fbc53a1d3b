//! A Markdown file as GitHub shows it: lines, code blocks, headings and links.

use std::collections::HashMap;
use std::path::Path;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the repository.
pub fn read(path: &str) -> String {
    let text = std::fs::read_to_string(root().join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails unless the page has this text. With `LIVEHOOK_BLESS=1`, writes the text to the page.
#[track_caller]
pub fn assert_page(path: &str, expected: &str) {
    if std::env::var_os("LIVEHOOK_BLESS").is_some() {
        std::fs::write(root().join(path), expected).unwrap();
        return;
    }
    let text = read(path);
    let wrong = text.lines().zip(expected.lines()).zip(1..);
    let mut wrong = wrong.filter(|((line, expected), _)| line != expected);
    if let Some(((line, expected), number)) = wrong.next() {
        panic!("{path}:{number}: `{line}` should be `{expected}`; LIVEHOOK_BLESS=1 writes it");
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{path}");
}

/// The code blocks of a page in this language.
pub fn blocks(path: &str, language: &str) -> Vec<String> {
    let page = Page::read(path);
    let blocks = page.blocks_of(language);
    blocks.map(|block| block.text.clone()).collect()
}

/// The rows of the tables in a text, as cells.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| {
        let cells = row.trim_end_matches('|').split('|');
        cells.map(str::trim).collect()
    })
}

/// The rows of the table whose first heading begins with this text.
pub fn table(path: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(path);
    let begin = text.find(&format!("\n| {heading}"));
    let begin = begin.unwrap_or_else(|| panic!("{path}: no table of {heading}"));
    let whole = text[begin + 1..].split("\n\n").next().unwrap();
    let rows = rows(whole).skip(1);
    rows.map(|row| row.into_iter().map(str::to_owned).collect())
        .collect()
}

/// The texts that a cell shows as code.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The text of a cell that contains only code.
pub fn code(cell: &str) -> Option<&str> {
    let code = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!code.contains('`')).then_some(code)
}

/// A code block.
pub struct Block {
    /// The first word after the fence.
    pub language: String,
    /// The second word: the file that the block is for the commands of the page.
    pub file: Option<String>,
    pub text: String,
    /// The line of the opening fence, counted from 1.
    pub line: usize,
}

/// A link or a picture.
pub struct Link {
    pub target: String,
    pub line: usize,
}

pub struct Page {
    /// The path from the repository's root, with slashes.
    pub path: String,
    pub lines: Vec<String>,
    pub blocks: Vec<Block>,
    pub links: Vec<Link>,
    /// The anchors of the page.
    pub anchors: Vec<String>,
    /// The line of a fence that is not closed.
    pub unclosed: Option<usize>,
}

impl Page {
    pub fn read(path: &str) -> Self {
        Self::parse(path, &read(path))
    }

    fn parse(path: &str, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut page = Self {
            path: path.to_owned(),
            blocks: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
            unclosed: None,
            lines,
        };
        let mut seen = HashMap::new();
        let mut open: Option<(String, usize, Block)> = None;
        for (line, number) in page.lines.iter().zip(1..) {
            let bare = line.trim_start();
            let indent = line.len() - bare.len();
            if let Some((fence, indent, block)) = &mut open {
                if bare.trim_end() == fence {
                    page.blocks.extend(open.take().map(|(_, _, block)| block));
                } else {
                    // In a list, a block is indented.
                    let own = line.len() - bare.len();
                    block.text += &line[own.min(*indent)..];
                    block.text.push('\n');
                }
            } else if bare.starts_with("```") {
                let word = bare.trim_start_matches('`');
                let fence = "`".repeat(bare.len() - word.len());
                let mut words = word.split_whitespace();
                let block = Block {
                    language: words.next().unwrap_or("").to_owned(),
                    file: words.next().map(str::to_owned),
                    text: String::new(),
                    line: number,
                };
                open = Some((fence, indent, block));
            } else {
                if let Some(heading) = heading(line) {
                    let anchor = anchor(heading);
                    let again: &mut usize = seen.entry(anchor.clone()).or_default();
                    page.anchors.push(match *again {
                        0 => anchor,
                        count => format!("{anchor}-{count}"),
                    });
                    *again += 1;
                }
                let targets = link_targets(line).into_iter();
                let links = targets.map(|target| Link {
                    target,
                    line: number,
                });
                page.links.extend(links);
            }
        }
        page.unclosed = open.map(|(_, _, block)| block.line);
        page
    }

    pub fn blocks_of(&self, language: &str) -> impl Iterator<Item = &Block> {
        let language = language.to_owned();
        self.blocks
            .iter()
            .filter(move |block| block.language == language)
    }

    /// A message about a line of the page.
    pub fn at(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.path)
    }
}

/// The text of a heading.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6)
        .contains(&level)
        .then_some(text.strip_prefix(' ')?.trim())
}

/// The anchor that GitHub gives to a heading: its visible text in lower case, without punctuation,
/// with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let mut shown = String::new();
    let mut rest = heading;
    // Only the text of a link counts.
    while let Some((before, after)) = rest.split_once("](") {
        shown += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    shown += rest;
    let kept = shown.to_lowercase();
    let kept = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ => c.is_alphanumeric().then_some(c),
    });
    kept.collect()
}

/// The line without the text between backticks.
fn without_code(line: &str) -> String {
    let parts = line.split('`').step_by(2);
    parts.collect::<Vec<_>>().join("")
}

fn link_targets(line: &str) -> Vec<String> {
    let line = without_code(line);
    let mut targets: Vec<String> = Vec::new();
    for (opening, closing) in [
        ("](", &[')', ' '][..]),
        ("src=\"", &['"']),
        ("href=\"", &['"']),
    ] {
        let found = line.split(opening).skip(1);
        targets.extend(found.map(|rest| rest.split(closing).next().unwrap_or("").to_owned()));
    }
    // `[name]: target`, the target of links elsewhere in the page.
    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
        && !name.contains(' ')
    {
        targets.extend(target.split_whitespace().next().map(str::to_owned));
    }
    targets
}

/// Whether a line is a table row, or only a link or a URL.
pub fn may_be_long(line: &str) -> bool {
    let bare = line.trim_start_matches([' ', '-', '*', '>', '!']);
    let bare = bare.trim_end_matches(['.', ',', ';', ':', ' ']);
    let is_link = bare.starts_with('[') && bare.ends_with(')') && bare.matches("](").count() == 1;
    let is_url = bare.trim_matches(['<', '>']).starts_with("http") && !bare.contains(' ');
    let is_definition = bare.starts_with('[') && bare.contains("]: ");
    line.trim_start().starts_with('|') || is_link || is_url || is_definition
}

#[test]
fn a_page_is_read_as_github_reads_it() {
    let text = "# `livehook` for [you](x.md), & me\n## Twice\n## Twice\n- see [`a`](a.md#b), ![](c.png)\n  ```sh run.sh\n  if\n    # no heading [no](link)\n  ```\n";
    let page = Page::parse("x.md", text);
    assert_eq!(page.anchors, ["livehook-for-you--me", "twice", "twice-1"]);
    let links: Vec<_> = page.links.iter().map(|link| &*link.target).collect();
    assert_eq!(links, ["x.md", "a.md#b", "c.png"]);
    let [block] = &page.blocks[..] else {
        panic!("one block")
    };
    assert_eq!(
        (&*block.language, &*block.text, block.line),
        ("sh", "if\n  # no heading [no](link)\n", 5)
    );
    assert_eq!(block.file.as_deref(), Some("run.sh"));
    assert!(page.unclosed.is_none());
    assert!(may_be_long("| a | b |") && may_be_long("- [a](b)") && may_be_long("https://x"));
    assert!(!may_be_long("text with [a](b)") && !may_be_long("[a](b) and [c](d)"));
}
