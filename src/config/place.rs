//! Where in the file something stands, and what a file is that is no TOML.

use toml::de::{DeTable, DeValue};

/// Where a dotted key stands, as `:line:column`. Of one that is not in the file, where the table is that it belongs to;
/// empty if that is not there either.
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

/// The offset of the deepest key of the place that is there.
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

/// What most likely is wrong where the parser found a problem in this line; the parser itself speaks of the character that
/// it would have liked instead.
pub(super) fn guess(text: &str, line: usize, problem: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim_end);
    let is_said = |line: &&str| !line.is_empty() && !line.trim_start().starts_with('#');
    if lines.clone().find(is_said).is_some_and(is_yaml) {
        return Some("this is YAML, livehook reads TOML".to_owned());
    }
    // A comment may have an apostrophe.
    let about_quotes = ["string", "quote", "unclosed array"];
    if !about_quotes.iter().any(|words| problem.contains(words)) {
        return None;
    }
    let line = lines.nth(line.checked_sub(1)?)?;
    let odd = |quote: char| line.matches(quote).count() % 2 == 1;
    (odd('"') || (!line.contains('"') && odd('\'')))
        .then(|| format!("a quote is missing ({problem})"))
}

/// `---`, `- item`, `key:` or `key: value`, which no line of TOML begins with.
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
