//! Finds the position of a key in the file, and common mistakes in a file that is not TOML.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind::{
    self, BasicString, LiteralString, MlBasicString, MlLiteralString,
};

/// The position of a dotted key, as `:line:column`. If the key is not in the file, the position of
/// the nearest table around it, or an empty text if there is none.
pub(super) fn position(text: &str, place: &str) -> String {
    let found = DeTable::parse(text).ok();
    let found = found.and_then(|root| nearest(root.get_ref(), place));
    found.map_or_else(String::new, |at| line_and_column(text, at))
}

/// An offset as `:line:column`.
fn line_and_column(text: &str, at: usize) -> String {
    let begin = line(text, at).start;
    let number = text[..begin].matches('\n').count() + 1;
    let before = text.get(begin..at).unwrap_or_default();
    format!(":{number}:{}", before.chars().count() + 1)
}

/// The line around an offset.
fn line(text: &str, at: usize) -> Range<usize> {
    let (before, after) = text.as_bytes().split_at(at);
    let is_end = |byte: &u8| *byte == b'\n';
    let begin = before.iter().rposition(is_end).map_or(0, |end| end + 1);
    begin..at + after.iter().position(is_end).unwrap_or(after.len())
}

/// The offset of the deepest key of `place` that is in the file.
fn nearest(root: &DeTable, place: &str) -> Option<usize> {
    let mut table = root;
    let mut found = None;
    for name in place.split('.') {
        let name = name.trim_matches('"');
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
            break;
        };
        found = Some(key.span().start);
        match value.get_ref() {
            DeValue::Table(below) => table = below,
            _ => break,
        }
    }
    found
}

/// The position and the problem of a text that is not TOML, or holds a number that no option can
/// have. The text itself is left out, because it may contain a secret.
pub(super) fn malformed(text: &str) -> Option<(String, String)> {
    let error = toml::from_str::<toml::Table>(text).err()?;
    let found = error.span().unwrap_or_default();
    let (at, problem) = likely_problem(text, found, error.message());
    Some((line_and_column(text, at), problem))
}

/// The probable mistake and its offset. The parser only names the character that it expected.
fn likely_problem(text: &str, found: Range<usize>, problem: &str) -> (usize, String) {
    let line = line(text, found.start);
    let is_content = |line: &&str| !line.is_empty() && !line.trim_start().starts_with('#');
    let first = text.lines().map(str::trim_end).find(is_content);
    let problem = if DeTable::parse(text).is_ok() {
        "the number is too large".to_owned()
    } else if first.is_some_and(is_yaml) {
        "this is YAML, livehook reads TOML".to_owned()
    } else if let Some(open) = unclosed_text(text, line.end) {
        // If the parser stopped in the same line, its column is more exact.
        let at = if open < line.start { open } else { found.start };
        return (at, format!("a quote is missing ({problem})"));
    } else if problem == "duplicate key" {
        let key = text.get(found.clone()).unwrap_or_default();
        format!("duplicate key `{key}`")
    } else if is_bare_text(&text[line]) {
        format!("a text must stand in quotes ({problem})")
    } else {
        problem.to_owned()
    };
    (found.start, problem)
}

/// The offset of the first text that lacks a quote, if it begins up to `end`.
fn unclosed_text(text: &str, end: usize) -> Option<usize> {
    let lacks_quote = |(kind, span): &(TokenKind, Range<usize>)| match kind {
        BasicString | LiteralString | MlBasicString | MlLiteralString => {
            // One more letter becomes a part of a text that is not closed.
            let longer = format!("{}x", &text[span.clone()]);
            let first = Source::new(&longer).lex().next();
            first.is_some_and(|first| first.span().end() == longer.len())
        }
        TokenKind::Atom => text[span.clone()].contains(['"', '\'']),
        _ => false,
    };
    let tokens = Source::new(text).lex();
    let mut spans = tokens.map(|token| (token.kind(), token.span().start()..token.span().end()));
    let (_, found) = spans.find(lacks_quote)?;
    Some(found.start).filter(|begin| *begin <= end)
}

/// Whether the line is `key = text` without quotes, where the text is an address, a path, a time or
/// a word, and not a value that TOML knows.
fn is_bare_text(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default();
    let Some((_, value)) = line.split_once('=') else {
        return false;
    };
    let value = value.trim();
    let is_word = !value.contains(['"', '\'', '[', '{', '=', ','])
        && (value.contains(|c: char| c.is_alphabetic() || ":/".contains(c))
            || value.matches('.').count() > 1);
    let is_boolean = ["true", "false"].contains(&&*value.to_ascii_lowercase());
    is_word && !is_boolean && DeTable::parse(&format!("x = {value}")).is_err()
}

/// Whether the line is `---`, `- item`, `key:` or `key: value`. No line of TOML is like that.
fn is_yaml(line: &str) -> bool {
    let key_fits = |c: char| c.is_alphanumeric() || "_-. \"'".contains(c);
    let key = line
        .split_once(':')
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with(' '));
    line == "---"
        || line.starts_with("- ")
        || line.starts_with("%YAML")
        || key.is_some_and(|(key, _)| !key.is_empty() && key.chars().all(key_fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_as_deep_as_they_are_there() {
        let text = "# one\n[sources.css]\nkeys = 1\n\n[handlers]\na = { kinds = [], to = { type = \"log\" } }\n\"b.c\" = 2\n";
        for (place, expected) in [
            ("sources.css.keys", ":3:1"),
            ("sources.css.token", ":2:10"),
            ("sources.css", ":2:10"),
            ("sources.other.keys", ":2:2"),
            ("handlers.a.to.type", ":6:26"),
            ("handlers.a.to.path", ":6:19"),
            ("server.listen", ""),
        ] {
            assert_eq!(position(text, place), expected, "{place}");
        }
    }

    #[test]
    fn a_text_with_colons_is_not_always_yaml() {
        for line in [
            "sources:",
            "listen: 0.0.0.0:80",
            "---",
            "- a",
            "\"key\": 1",
            "%YAML 1.2",
        ] {
            assert!(is_yaml(line), "{line}");
        }
        for line in [
            "[sources.css]",
            "listen = \"0.0.0.0:80\"",
            "a = { b: 1 }",
            "listen:80",
            "{",
        ] {
            assert!(!is_yaml(line), "{line}");
        }
    }
}
