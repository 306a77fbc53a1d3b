//! Finds the position of a key in the file, and common mistakes in a file that is not TOML.

use toml::de::{DeTable, DeValue};

/// The position of a dotted key, as `:line:column`. If the key is not in the file, the position of
/// the nearest table around it, or an empty text if there is none.
pub(super) fn position(text: &str, place: &str) -> String {
    let found = DeTable::parse(text).ok();
    let found = found.and_then(|root| nearest(root.get_ref(), place));
    found.map_or_else(String::new, |at| {
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count())
            + 1;
        format!(":{line}:{column}")
    })
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

/// The probable mistake and its position, if the parser failed at this line and column. The
/// parser's own message only names the character that it expected.
pub(super) fn likely_problem(
    text: &str,
    (line, column): (usize, usize),
    problem: &str,
) -> Option<((usize, usize), String)> {
    let mut lines = text.lines().map(str::trim_end);
    let is_content = |line: &&str| !line.is_empty() && !line.trim_start().starts_with('#');
    if lines.clone().find(is_content).is_some_and(is_yaml) {
        return Some((
            (line, column),
            "this is YAML, livehook reads TOML".to_owned(),
        ));
    }
    if let Some(open) = unclosed_text(text, line) {
        // If the parser stopped in the same line, its column is more exact.
        let at = if open.0 == line { (line, column) } else { open };
        return Some((at, format!("a quote is missing ({problem})")));
    }
    if problem == "duplicate key" {
        let key = DeTable::parse(text).err()?.span()?;
        let key = text.get(key)?;
        return Some(((line, column), format!("duplicate key `{key}`")));
    }
    let found = lines.nth(line.checked_sub(1)?)?;
    is_bare_text(found).then(|| {
        let problem = format!("a text must stand in quotes ({problem})");
        ((line, column), problem)
    })
}

/// The position of the first text without a closing quote, up to line `last`. A text of several
/// lines may be closed after `last`.
fn unclosed_text(text: &str, last: usize) -> Option<(usize, usize)> {
    // The start and the quotes of a text of several lines that is not closed yet.
    let mut multiline: Option<((usize, usize), &str)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let mut rest = line;
        loop {
            if let Some((_, quotes)) = multiline {
                let Some(after) = after_text(rest, quotes) else {
                    break;
                };
                (multiline, rest) = (None, after);
            }
            let Some(found) = rest.find(['"', '\'', '#']) else {
                break;
            };
            rest = &rest[found..];
            if number > last || rest.starts_with('#') {
                break;
            }
            let column = line[..line.len() - rest.len()].chars().count() + 1;
            let is_multiline = rest.starts_with("\"\"\"") || rest.starts_with("'''");
            let (quotes, inside) = rest.split_at(if is_multiline { 3 } else { 1 });
            match after_text(inside, quotes) {
                Some(after) => rest = after,
                None if is_multiline => {
                    multiline = Some(((number, column), quotes));
                    break;
                }
                None => return Some((number, column)),
            }
        }
    }
    multiline.map(|(begin, _)| begin)
}

/// The rest of the line after a text and its closing quotes; none if this line does not close it.
fn after_text<'a>(inside: &'a str, quotes: &str) -> Option<&'a str> {
    let mut is_escaped = false;
    for (at, letter) in inside.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if letter == '\\' && quotes.starts_with('"') {
            is_escaped = true;
        } else if let Some(after) = inside[at..].strip_prefix(quotes) {
            // A text of several lines may itself end in quotes.
            let own = after.chars().take_while(|next| *next == letter).count();
            return Some(&after[if quotes.len() > 1 { own.min(2) } else { 0 }..]);
        }
    }
    None
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
