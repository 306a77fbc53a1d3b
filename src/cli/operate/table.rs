//! Text tables.

use std::borrow::Cow;
use std::fmt::Display;

use unicode_width::UnicodeWidthStr;

/// The spaces between two columns.
const GAP: usize = 2;
/// The least width to which a column is cut.
const MIN_WIDTH: usize = 8;
/// These columns are of little use when cut, so they are cut last.
const UNCUT: [&str; 8] = [
    "RECEIVED", "PARKED", "ID", "TIME", "SINCE", "LAST", "START", "END",
];

/// A table whose columns are as wide as their content, as far as the terminal allows.
pub(super) struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is nothing below the head.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Returns the lines of the table, at most `width` columns wide. `widths` keeps the widths of
    /// the columns between calls, so that later rows align with earlier ones.
    pub(super) fn lines(&self, widths: &mut Vec<usize>, width: Option<usize>) -> Vec<String> {
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut fitting = widths.clone();
        if let Some(width) = width {
            self.fit(&mut fitting, width);
        }
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&fitting) {
                let cell = cut(cell, *width);
                line.push_str(&cell);
                let pad = width.saturating_sub(cell.width());
                line.extend(std::iter::repeat_n(' ', pad + GAP));
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Narrows the widest column until the table fits.
    fn fit(&self, widths: &mut [usize], width: usize) {
        let head = &self.rows[0];
        let whole: Vec<bool> = head.iter().map(|name| UNCUT.contains(&&**name)).collect();
        for cuts_all in [false, true] {
            while widths.iter().sum::<usize>() + GAP * (widths.len() - 1) > width {
                let widest = (0..widths.len())
                    .filter(|at| cuts_all || !whole[*at])
                    .filter(|at| widths[*at] > MIN_WIDTH.max(head[*at].width()))
                    .max_by_key(|at| widths[*at]);
                let Some(widest) = widest else { break };
                widths[widest] -= 1;
            }
        }
    }
}

/// Cuts a cell that is too wide, and marks the cut with `…`.
fn cut(cell: &str, width: usize) -> Cow<'_, str> {
    if cell.width() <= width {
        return cell.into();
    }
    let ends = cell.char_indices().map(|(at, _)| at);
    let end = ends
        .take_while(|end| cell[..*end].width() < width)
        .last()
        .unwrap_or(0);
    format!("{}…", &cell[..end]).into()
}

/// The text of a cell, without characters that could control the terminal: the values come from the
/// internet.
pub(super) fn cell(value: impl Display) -> String {
    printable(&value.to_string())
}

/// The text of a cell that may have none.
pub(super) fn maybe(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}

/// Escapes control characters and invisible ones.
pub(super) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_invisible(letter) {
            plain.extend(letter.escape_unicode());
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// Escapes control characters and invisible ones in JSON without changing its meaning. JSON itself
/// escapes only the control characters below the space.
pub(super) fn printable_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for letter in json.chars() {
        if matches!(letter, '\u{7f}'..='\u{9f}') || is_invisible(letter) {
            plain.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// Whether a character is invisible or changes the direction of the text.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The name of a stream: domain, appname and streamid, as far as known.
pub(super) fn stream(parts: [&Option<String>; 3]) -> String {
    let parts: Vec<&str> = parts.into_iter().filter_map(Option::as_deref).collect();
    maybe(Some(parts.join("/")).filter(|_| !parts.is_empty()))
}

/// The kind: the CloudEvents type without its common prefix.
pub(super) fn kind(event_type: &str) -> String {
    cell(event_type.strip_prefix("css.").unwrap_or(event_type))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn cells_contain_no_control_characters() {
        let name = "a\u{1b}[2Jb\nc\u{202e}d\u{7f}";
        assert_eq!(cell(name), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d\\u{7f}");
        assert_eq!(cell("推流"), "推流");
        assert_eq!(maybe(None::<u64>), "-");
    }

    #[test]
    fn printable_json_has_no_control_characters_and_the_same_meaning() {
        let event = json!({ "a\u{9b}": ["\u{1b}[2J\u{7f}\u{85}\u{202e}\u{feff}", "推流\u{e9}"] });
        for text in [event.to_string(), format!("{event:#}")] {
            let plain = printable_json(&text);
            assert!(
                plain
                    .chars()
                    .all(|letter| letter == '\n' || !letter.is_control() && !is_invisible(letter)),
                "{plain}"
            );
            assert!(plain.contains("推流\u{e9}"), "{plain}");
            assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), event);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let mut table = TextTable::new(&["A", "B", "C"]);
        table.row(["1".to_owned(), "long".to_owned(), "3".to_owned()]);
        table.row(["推流".to_owned(), "e\u{301}".to_owned(), "4".to_owned()]);
        let mut widths = Vec::new();
        assert_eq!(
            table.lines(&mut widths, None),
            ["A     B     C", "1     long  3", "推流  e\u{301}     4"]
        );
    }

    #[test]
    fn the_widest_column_is_cut_until_the_table_fits() {
        let mut table = TextTable::new(&["KIND", "STREAM", "ID"]);
        let cells = ["stream-begin", "直播/room-7-of-many", "0123456789abcdef"];
        table.row(cells.map(str::to_owned));
        let at = |width| {
            let lines = table.lines(&mut Vec::new(), Some(width));
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
            lines[1].clone()
        };
        assert_eq!(
            at(51),
            "stream-begin  直播/room-7-of-many  0123456789abcdef"
        );
        assert_eq!(at(50), "stream-begin  直播/room-7-of-ma…  0123456789abcdef");
        assert_eq!(at(36), "stream-…  直播/ro…  0123456789abcdef");
        assert_eq!(at(30), "stream-…  直播/ro…  012345678…");
        // A wide letter does not fit by half.
        assert_eq!(cut("直播直播", 4), "直…");
        assert_eq!(cut("直播直播", 8), "直播直播");
        // The table cannot get narrower than the least widths.
        assert_eq!(
            table.lines(&mut Vec::new(), Some(1))[1],
            "stream-…  直播/ro…  0123456…"
        );
        // Later rows align with earlier ones.
        let mut widths = Vec::new();
        let first = table.lines(&mut widths, Some(40));
        assert_eq!(table.lines(&mut widths, Some(40)), first);
    }
}
