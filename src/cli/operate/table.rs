//! Tables for people.

use serde_json::Value;

/// Columns that are as wide as what is in them.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// With columns at least as wide as the last time, so that what follows stands below.
    pub(super) fn lines(&self, widths: &mut Vec<usize>) -> Vec<String> {
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths.iter()) {
                let pad = width - cell.chars().count();
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad + 2));
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// What stands in a cell. It comes from the internet: nothing in it may move the cursor, or turn the direction of the text.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    plain(&text)
}

pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if letter.is_control() || turns {
            plain.extend(letter.escape_unicode());
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// A stream as people write it: domain, appname and stream, as far as they are there.
pub(super) fn stream(item: &Value) -> String {
    let parts = ["domain", "appname", "streamid"];
    let parts: Vec<_> = parts
        .iter()
        .filter_map(|name| item[name].as_str())
        .collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    plain(&parts.join("/"))
}

/// The type without what all have in common.
pub(super) fn kind(item: &Value) -> String {
    let kind = item["type"].as_str().unwrap_or_default();
    plain(kind.strip_prefix("css.").unwrap_or(kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_from_the_internet_moves_nothing() {
        let name = json!("a\u{1b}[2Jb\nc\u{202e}d\u{7f}");
        assert_eq!(cell(&name), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d\\u{7f}");
        assert_eq!(cell(&json!("推流")), "推流");
        assert_eq!(cell(&Value::Null), "-");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(["1".to_owned(), "long".to_owned(), "3".to_owned()]);
        let mut widths = Vec::new();
        assert_eq!(table.lines(&mut widths), ["A  B     C", "1  long  3"]);
    }
}
