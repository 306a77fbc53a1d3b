//! Finds placeholders that somebody forgot to replace, before they are used as real values.

/// Invisible characters that may be copied with a text: direction and order marks, the soft hyphen,
/// joiners.
const INVISIBLE: [char; 13] = [
    '\u{00AD}',
    '\u{200B}',
    '\u{200C}',
    '\u{200D}',
    '\u{200E}',
    '\u{200F}',
    '\u{202A}',
    '\u{202B}',
    '\u{202C}',
    '\u{202D}',
    '\u{202E}',
    '\u{2060}',
    BYTE_ORDER_MARK,
];

/// Some editors put this at the start of a file.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// Opening and closing quotes.
const QUOTES: [(char, char); 6] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('\u{201C}', '\u{201D}'),
    ('\u{2018}', '\u{2019}'),
    ('\u{00AB}', '\u{00BB}'),
];

/// Removes white space and a byte order mark from both ends of a text of a file or a variable.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK)
}

/// Refuses placeholders and invisible characters. The error continues a sentence that begins with
/// the place. It does not repeat the text, which may be a secret.
pub(crate) fn check_no_placeholder(text: &str) -> Result<(), &'static str> {
    if text.contains("replace-me") {
        return Err("still is the placeholder `replace-me`");
    }
    if has_placeholder(text) {
        return Err(
            "still holds a placeholder such as ${NAME}, $NAME, {{ name }} or <name>, which nothing fills in; \
             write the value itself",
        );
    }
    if text.contains(|c: char| c.is_control() || INVISIBLE.contains(&c)) {
        return Err("holds a character that cannot be seen; write it anew");
    }
    Ok(())
}

/// Like [`check_no_placeholder`], and refuses quotes around a secret: they would be part of it.
pub(super) fn check_secret(text: &str) -> Result<(), &'static str> {
    check_no_placeholder(text)?;
    let inner = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    if QUOTES.into_iter().find_map(inner).is_some() {
        return Err("stands in quotes, which would be a part of it; remove them");
    }
    Ok(())
}

fn has_placeholder(text: &str) -> bool {
    let between = |open: &str, close: &str| {
        let rest = text.split_once(open).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.contains(close))
    };
    between("${", "}")
        || between("$(", ")")
        || between("{{", "}}")
        || in_angles(text)
        || variable(text)
}

/// Finds `<your-key>`, but accepts the address in `<https://example.com>` or `<me@example.com>`.
fn in_angles(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || " _-.\u{2026}".contains(c);
    text.split('<').skip(1).any(|rest| {
        let word = rest.split_once('>').map(|(word, _)| word);
        word.is_some_and(|word| !word.is_empty() && word.chars().all(is_word))
    })
}

/// Finds `$NAME` alone, or in capitals within a text such as `https://$HOST/`. A password may
/// contain a `$`.
fn variable(text: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let alone = text.trim().strip_prefix('$');
    if alone.is_some_and(|name| begins(name) && name.chars().all(of_name)) {
        return true;
    }
    text.match_indices('$').any(|(at, _)| {
        let rest = &text[at + 1..];
        let name = &rest[..rest.find(|c| !of_name(c)).unwrap_or(rest.len())];
        let stands_alone = !text[..at].ends_with(|c: char| c.is_alphanumeric());
        stands_alone
            && begins(name)
            && name.len() > 1
            && !name.contains(|c: char| c.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_filled_in_is_found() {
        for text in [
            "${CSS_KEY}",
            "${CSS_KEY:-none}",
            "$CSS_KEY",
            "$key",
            "$(cat key)",
            "{{ .Values.key }}",
            "{{key}}",
            "<your-key>",
            "<your key>",
            "<\u{4F60}\u{7684}\u{5BC6}\u{94A5}>",
            "replace-me",
            "Bearer ${TOKEN}",
            "Bearer $TOKEN",
            "Bearer <token>",
            "https://$HOST/hook",
            "https://<host>/hook",
            "https://example.com/hook?token={{ token }}",
            "postgres://livehook:$PASSWORD@db/livehook",
            "postgres://livehook:replace-me@db/livehook",
            "abc\u{200B}def",
            "abc\u{FEFF}def",
            "\u{202E}abc",
            "abc\ndef",
        ] {
            assert!(check_no_placeholder(text).is_err(), "{text:?}");
            assert!(check_secret(text).is_err(), "{text:?}");
        }
        for text in ["\"abc\"", "'abc'", "\u{201C}abc\u{201D}", "\"\""] {
            assert!(check_secret(text).is_err(), "{text:?}");
            assert!(check_no_placeholder(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_taken() {
        for text in [
            "0123456789abcdef0123456789abcdef",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==",
            "pa$sword",
            "p$9",
            "1$A",
            "a<b",
            "a>b<c",
            "$",
            "$$",
            "${",
            "{x}",
            "a b&c",
            "it's",
            "\"",
            "<https://example.com/>; rel=\"next\"",
            "live <me@example.com>",
            "https://example.com/users?$filter=a&$top=5",
            "\u{5BC6}\u{94A5}",
        ] {
            assert_eq!(check_secret(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn what_stands_around_a_text_goes() {
        assert_eq!(trimmed("\u{FEFF}abc\r\n"), "abc");
        assert_eq!(trimmed(" \u{3000}a b\t\u{FEFF}\n"), "a b");
        assert_eq!(trimmed("\u{200B}abc"), "\u{200B}abc");
    }
}
