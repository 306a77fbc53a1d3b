//! The tables of `docs/configuration.md` are made from `config/livehook.toml`. The tests of
//! `config` check its options and defaults.
//!
//! `LIVEHOOK_BLESS=1` writes the tables again.

use std::collections::BTreeMap;

use crate::docs::page::{assert_page, read};

/// An option in the file.
struct Choice {
    name: String,
    value: String,
    /// The line begins with `#`.
    is_example: bool,
    meaning: String,
}

const PAGE: &str = "docs/configuration.md";

/// The name of an option, its value, and whether the line is commented out.
fn option(line: &str) -> Option<(&str, &str, bool)> {
    let bare = line.strip_prefix('#').unwrap_or(line);
    let (name, value) = bare.split_once(" = ")?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then_some((name, value, line.starts_with('#')))
}

/// The options of each section. A comment describes the option below it. A further option has its
/// description after its value.
fn sections(text: &str) -> BTreeMap<String, Vec<Choice>> {
    let mut sections: BTreeMap<String, Vec<Choice>> = BTreeMap::new();
    let (mut section, mut comment) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            comment.clear();
        } else if let Some((name, value, is_example)) = option(line) {
            let (value, behind) = value.split_once(" # ").unwrap_or((value, ""));
            let mut value = value.trim().to_owned();
            while value.starts_with('[') && !value.ends_with(']') {
                value += lines.next().unwrap().trim();
            }
            let said = std::mem::take(&mut comment).join(" ");
            let meaning = if said.is_empty() {
                behind.to_owned()
            } else {
                said
            };
            sections.entry(section.clone()).or_default().push(Choice {
                name: name.to_owned(),
                value,
                is_example,
                meaning,
            });
        } else if let Some(said) = line.strip_prefix("# ") {
            // Indented comment lines are only for readers of the file.
            if !said.starts_with(' ') {
                comment.push(said);
            }
        } else {
            comment.clear();
        }
    }
    sections
}

/// The type of an option, from its name and its value.
fn type_of(name: &str, value: &str) -> &'static str {
    let text = value.trim_matches('"');
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    let is_quantity = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match value.as_bytes()[0] {
        b'[' => "list",
        b'{' => "table",
        b't' | b'f' => "true or false",
        b'"' if name.ends_with("_file") => "file",
        b'"' if name.ends_with("_env") => "variable",
        b'"' if name == "path" => "directory",
        b'"' if is_quantity && unit.ends_with('B') => "size",
        b'"' if is_quantity => "time",
        b'"' if text.contains("://") => "URL",
        b'"' if name == "listen" => "address",
        b'"' => "text",
        _ if is_quantity => "number",
        _ => panic!("{name} = {value}"),
    }
}

impl Choice {
    /// The default of an option, and its meaning without the part about the default.
    fn default_and_meaning(&self) -> (String, String) {
        if let Some((before, rest)) = self.meaning.split_once("Default: ") {
            let end = rest.find(". ").unwrap_or(rest.len() - 1);
            let after = rest[end + 1..].trim();
            let meaning = format!("{} {after}", before.trim());
            return (rest[..end].to_owned(), meaning.trim().to_owned());
        }
        let default = match self.is_example {
            true => String::new(),
            false => format!("`{}`", self.value),
        };
        (default, self.meaning.clone())
    }

    fn row(&self) -> String {
        let (default, meaning) = self.default_and_meaning();
        assert!(meaning.ends_with(['.', ':']), "{}: {meaning}", self.name);
        let (name, kind) = (&self.name, type_of(&self.name, &self.value));
        format!("| `{name}` | {kind} | {default} | {meaning} |").replace("|  |", "| |")
    }
}

/// One row for each type of target: `{ type = "file", path = … }`.
fn target_row(value: &str) -> String {
    let inner = value.trim_matches(['{', '}', ' ']);
    let (kind, options) = inner.split_once(", ").unwrap_or((inner, ""));
    let kind = kind.strip_prefix("type = ").unwrap();
    let file = kind.trim_matches('"');
    // A list or a table contains commas itself.
    let mut depth = 0;
    let options: String = options
        .chars()
        .map(|c| {
            depth += i32::from("[{".contains(c)) - i32::from("]}".contains(c));
            if c == ',' && depth == 0 { '\n' } else { c }
        })
        .collect();
    let options: Vec<String> = options
        .lines()
        .map(|option| format!("`{}`", option.trim()))
        .collect();
    format!(
        "| [`{kind}`](handlers/{file}.md) | {} |",
        options.join(", ")
    )
    .replace("|  |", "| |")
}

/// The tables, by the heading above them.
fn tables(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (section, options) in sections(text) {
        let (targets, options): (Vec<_>, Vec<_>) =
            options.iter().partition(|option| option.name == "to");
        let name = match section.split_once('.') {
            Some((outer, _)) => format!("{outer}.NAME"),
            None => section,
        };
        let mut rows = vec![
            "| option | type | default | what it is |".to_owned(),
            "|---|---|---|---|".to_owned(),
        ];
        rows.extend(options.iter().map(|option| option.row()));
        if !targets.is_empty() {
            let meaning = "Where the events go: see [targets](#targets).";
            rows.push(format!("| `to` | table | | {meaning} |"));
            let head = ["| `type` | other options, with examples |", "|---|---|"];
            let targets = targets.iter().map(|target| target_row(&target.value));
            let all = head.map(str::to_owned).into_iter().chain(targets);
            tables.insert("### Targets".to_owned(), all.collect());
        }
        tables.insert(format!("### `[{name}]`"), rows);
    }
    tables
}

/// The page with these tables, each in place of the first table after its heading.
fn with_tables(page: &str, tables: &BTreeMap<String, Vec<String>>) -> String {
    let mut written = Vec::new();
    let (mut waiting, mut replaced) = (None, 0);
    let mut is_within = false;
    for line in page.lines() {
        if line.starts_with('#') {
            waiting = tables.get(line);
        }
        if line.starts_with('|') && (waiting.is_some() || is_within) {
            is_within = true;
            if let Some(rows) = waiting.take() {
                written.extend(rows.iter().map(String::as_str));
                replaced += 1;
            }
        } else {
            is_within = false;
            written.push(line);
        }
    }
    assert_eq!(replaced, tables.len(), "a heading or a table is missing");
    written.join("\n") + "\n"
}

#[test]
fn the_page_of_the_configuration_has_every_option_of_the_file() {
    let tables = tables(&read("config/livehook.toml"));
    assert!(tables.len() >= 8, "{:?}", tables.keys());
    assert_page(PAGE, &with_tables(&read(PAGE), &tables));
}

#[test]
fn an_option_is_read_with_its_type_its_default_and_its_meaning() {
    let text = "[a.b]\n# What. Default: 3s, or more. It is\n# so.\n#   not this\n#x = \"3s\"\n#y_file = \"z\"  # The same.\n\n\
        # No option.\n\n# A list.\nlist = [\n  1, 2,\n]\n# Any:\nto = { type = \"log\" }\n#to = { type = \"exec\", command = [\"a\", \"b\"], q = 1 }\n";
    let tables = tables(text);
    assert_eq!(
        tables["### `[a.NAME]`"][2..],
        [
            "| `x` | time | 3s, or more | What. It is so. |",
            "| `y_file` | file | | The same. |",
            "| `list` | list | `[1, 2,]` | A list. |",
            "| `to` | table | | Where the events go: see [targets](#targets). |",
        ]
    );
    let [.., log, exec] = &tables["### Targets"][..] else {
        panic!("two targets")
    };
    assert_eq!(log, "| [`\"log\"`](handlers/log.md) | |");
    assert_eq!(
        exec,
        "| [`\"exec\"`](handlers/exec.md) | `command = [\"a\", \"b\"]`, `q = 1` |"
    );
}
