//! Prints items as they arrive, aligned with the earlier ones.

use serde::Serialize;

use super::table::TextTable;
use super::{json_line, print_line, terminal_width};
use crate::cli::Failed;

/// Prints items as a growing table or as JSON lines.
pub(super) struct Printer<T> {
    json: bool,
    head: &'static [&'static str],
    row: fn(&T) -> Vec<String>,
    widths: Vec<usize>,
}

impl<T: Serialize> Printer<T> {
    /// `row` returns the cells of an item, one for each column of `head`.
    pub(super) fn new(
        json: bool,
        head: &'static [&'static str],
        row: fn(&T) -> Vec<String>,
    ) -> Self {
        Self {
            json,
            head,
            row,
            widths: Vec::new(),
        }
    }

    /// Prints items. Returns false if nobody reads any more.
    pub(super) fn print(&mut self, items: &[T]) -> Result<bool, Failed> {
        let lines: Vec<String> = if self.json {
            items.iter().map(json_line).collect()
        } else {
            let is_first = self.widths.is_empty();
            let mut table = TextTable::new(self.head);
            for item in items {
                table.row((self.row)(item));
            }
            let lines = table.lines(&mut self.widths, terminal_width());
            lines.into_iter().skip(usize::from(!is_first)).collect()
        };
        for line in lines {
            if !print_line(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
