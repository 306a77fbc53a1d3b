//! A scanner for one JSON object as bytes.
//!
//! `serde_json` refuses invalid UTF-8, lone surrogates and numbers out of range, and skips values of any depth. The platform
//! repeats a refused callback some times and then drops it, so a receiver must be able to keep such bodies. The scanner checks
//! the grammar, accepts any bytes in strings and numbers of any size, and gives slices of the received bytes. Invariant: every
//! slice is a part of the body as received. Nothing is decoded unless a function here is asked to.

use std::borrow::Cow;

/// How deep a body may be nested; its own braces are the first level.
pub const MAX_DEPTH: usize = 128;

/// The body is not exactly one JSON object, or is nested deeper than 128 levels. The object itself is the first level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not one JSON object")]
pub struct NotOneObject;

/// A member of the JSON object that a body consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name without its quotes and escapes. It is bytes because it may be invalid UTF-8.
    pub name: Cow<'a, [u8]>,
    /// The JSON text of the value as received, without the blanks around it.
    pub value: &'a [u8],
}

/// The members of the object that `body` consists of, in the order received. A name can be there twice.
pub fn members(body: &[u8]) -> Result<Vec<Member<'_>>, NotOneObject> {
    Scanner::<false>::new(body).top().or_else(|refused| {
        // In GBK the second byte of a character may be that of a backslash. A sender that writes GBK by characters does not
        // escape it. Only a body that is no UTF-8, and that cannot be read otherwise, is read as GBK.
        match std::str::from_utf8(body) {
            Ok(_) => Err(refused),
            Err(_) => Scanner::<true>::new(body).top(),
        }
    })
}

/// The elements of the array that `value` consists of, as received; none for other values.
pub fn elements(value: &[u8]) -> Option<Vec<&[u8]>> {
    let read = Scanner::<false>::new(value).elements();
    let read = read.or_else(|_| Scanner::<true>::new(value).elements());
    read.ok()
}

/// The content of a string, which may be JSON; any other value as it is.
pub fn opened(value: &[u8]) -> Cow<'_, [u8]> {
    match value {
        [b'"', content @ .., b'"'] => unescape(content),
        _ => Cow::Borrowed(value),
    }
}

/// The text of a string or number; none for other values. What is not valid Unicode becomes U+FFFD.
pub fn scalar_text(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'"' => Some(match unescape(&value[1..value.len() - 1]) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }),
        b'-' | b'0'..=b'9' => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// An integer given as a number or as a string that holds one; `5.0` and `1e3` are integers too.
pub fn integer(value: &[u8]) -> Option<i64> {
    /// Up to this number `f64` can hold every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let text = scalar_text(value)?;
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
    })
}

/// Whether the value is `null` or an empty string.
pub fn is_empty(value: &[u8]) -> bool {
    matches!(value, b"null" | b"\"\"")
}

/// The JSON in one line: line breaks between tokens are removed, nothing else. `json` must be valid JSON.
pub fn one_line(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.contains(&b'\n') && !json.contains(&b'\r') {
        return Cow::Borrowed(json);
    }
    // A string cannot contain a line break, so each line break is between tokens.
    Cow::Owned(
        json.iter()
            .copied()
            .filter(|byte| !matches!(byte, b'\n' | b'\r'))
            .collect(),
    )
}

/// Resolves the escapes of a string's content. Surrogate halves without their other half become U+FFFD.
fn unescape(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.contains(&b'\\') {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, tail)) = rest.split_first() else {
            out.push(byte);
            break;
        };
        rest = tail;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut unit = hex4(rest).unwrap_or(0xFFFD);
                rest = &rest[rest.len().min(4)..];
                if (0xD800..0xDC00).contains(&unit)
                    && rest.starts_with(b"\\u")
                    && let Some(low @ 0xDC00..0xE000) = hex4(&rest[2..])
                {
                    unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                    rest = &rest[6..];
                }
                let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// How many bytes of a string's content come before the next special byte: a quote, a backslash, a control character, and in
/// GBK any byte of a longer character. It looks at eight bytes at a time, because bodies consist mostly of strings.
fn plain<const GBK: bool>(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGH: u64 = ONES << 7;
    // The lowest marked byte is always right: a borrow can only mark bytes above a byte that is marked rightly.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = text.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let longer = if GBK { word & HIGH } else { 0 };
        let marked = quote | backslash | control | longer;
        if marked != 0 {
            return n * 8 + (marked.trailing_zeros() / 8) as usize;
        }
    }
    let means_something =
        |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20) || (GBK && *byte >= 0x80);
    let before = rest.iter().position(means_something);
    words.len() * 8 + before.unwrap_or(rest.len())
}

/// `GBK`: a byte that starts no valid UTF-8 sequence and the byte after it are one character, whatever that byte is.
struct Scanner<'a, const GBK: bool> {
    body: &'a [u8],
    at: usize,
}

impl<'a, const GBK: bool> Scanner<'a, GBK> {
    fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    fn top(mut self) -> Result<Vec<Member<'a>>, NotOneObject> {
        let mut found = Vec::with_capacity(24);
        self.blanks();
        self.expect(b'{')?;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                found.push(self.member()?);
                self.blanks();
                match self.next()? {
                    b',' => self.blanks(),
                    b'}' => break,
                    _ => return Err(NotOneObject),
                }
            }
        }
        self.blanks();
        if self.at == self.body.len() {
            Ok(found)
        } else {
            Err(NotOneObject)
        }
    }

    fn elements(mut self) -> Result<Vec<&'a [u8]>, NotOneObject> {
        let mut found = Vec::new();
        self.blanks();
        self.expect(b'[')?;
        self.blanks();
        if self.peek() == Some(b']') {
            return Ok(found);
        }
        loop {
            let begin = self.at;
            self.value()?;
            found.push(&self.body[begin..self.at]);
            self.blanks();
            match self.next()? {
                b',' => self.blanks(),
                b']' => return Ok(found),
                _ => return Err(NotOneObject),
            }
        }
    }

    fn member(&mut self) -> Result<Member<'a>, NotOneObject> {
        let begin = self.at;
        let has_escapes = self.string()?;
        let name = &self.body[begin + 1..self.at - 1];
        let name = if has_escapes {
            unescape(name)
        } else {
            Cow::Borrowed(name)
        };
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        let begin = self.at;
        self.value()?;
        Ok(Member {
            name,
            value: &self.body[begin..self.at],
        })
    }

    /// Steps over any value. There is no recursion: each open bracket is a bit.
    fn value(&mut self) -> Result<(), NotOneObject> {
        let mut objects = 0u128; // bit n: whether the container at depth n is an object
        let mut depth = 0;
        loop {
            // Here a value must begin.
            match self.peek().ok_or(NotOneObject)? {
                open @ (b'{' | b'[') => {
                    if depth + 1 == MAX_DEPTH {
                        return Err(NotOneObject);
                    }
                    self.at += 1;
                    self.blanks();
                    let object = open == b'{';
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.at += 1;
                    } else {
                        depth += 1;
                        objects = objects & !(1 << depth) | u128::from(object) << depth;
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // Here a value has ended.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.blanks();
                let object = objects >> depth & 1 == 1;
                match (self.next()?, object) {
                    (b',', _) => {
                        self.blanks();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => depth -= 1,
                    _ => return Err(NotOneObject),
                }
            }
        }
    }

    fn name(&mut self) -> Result<(), NotOneObject> {
        self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Ok(())
    }

    /// Steps over a string, and tells whether it has escapes.
    fn string(&mut self) -> Result<bool, NotOneObject> {
        self.expect(b'"')?;
        let mut has_escapes = false;
        loop {
            self.at += plain::<GBK>(&self.body[self.at..]);
            match self.next()? {
                b'"' => return Ok(has_escapes),
                b'\\' => {
                    has_escapes = true;
                    self.escape()?;
                }
                0x80.. if GBK => self.character(),
                _ => return Err(NotOneObject),
            }
        }
    }

    /// Steps over what follows a backslash.
    fn escape(&mut self) -> Result<(), NotOneObject> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                hex4(&self.body[self.at..]).ok_or(NotOneObject)?;
                self.at += 4;
            }
            _ => return Err(NotOneObject),
        }
        Ok(())
    }

    /// Steps over the rest of the character whose first byte was just read.
    fn character(&mut self) {
        let from = self.at - 1;
        let window = &self.body[from..self.body.len().min(from + 4)];
        let valid = match std::str::from_utf8(window) {
            Ok(_) => window.len(),
            Err(error) => error.valid_up_to(),
        };
        match std::str::from_utf8(&window[..valid])
            .ok()
            .and_then(|text| text.chars().next())
        {
            Some(character) => self.at = from + character.len_utf8(),
            None => self.at = (self.at + 1).min(self.body.len()),
        }
    }

    fn number(&mut self) -> Result<(), NotOneObject> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(NotOneObject),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), NotOneObject> {
        let begin = self.at;
        self.digits();
        if self.at > begin {
            Ok(())
        } else {
            Err(NotOneObject)
        }
    }

    fn digits(&mut self) {
        let rest = &self.body[self.at..];
        let length = rest.iter().position(|byte| !byte.is_ascii_digit());
        self.at += length.unwrap_or(rest.len());
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotOneObject> {
        if self.body[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(NotOneObject)
        }
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Result<u8, NotOneObject> {
        let byte = self.peek().ok_or(NotOneObject)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), NotOneObject> {
        if self.next()? == byte {
            Ok(())
        } else {
            Err(NotOneObject)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(body: &[u8]) -> Vec<String> {
        let found = members(body).unwrap();
        found
            .iter()
            .map(|member| String::from_utf8_lossy(&member.name).into_owned())
            .collect()
    }

    #[test]
    fn values_are_the_received_text() {
        let body = br#" { "a" : 1.50e+3 , "b":{"c":[1, "x]"]},"a":"\u00e9", "n":null } "#;
        let found = members(body).unwrap();
        let values: Vec<_> = found
            .iter()
            .map(|m| std::str::from_utf8(m.value).unwrap())
            .collect();
        assert_eq!(
            values,
            ["1.50e+3", r#"{"c":[1, "x]"]}"#, r#""\u00e9""#, "null"]
        );
        assert_eq!(names(body), ["a", "b", "a", "n"]);
        assert!(members(b"{}").unwrap().is_empty());
    }

    #[test]
    fn elements_are_the_received_text() {
        let found = elements(b" [ 1.50 , [2,3],\"\xc4\xe3]\" , {\"a\":[]}\n] ").unwrap();
        let expected: [&[u8]; 4] = [b"1.50", b"[2,3]", b"\"\xc4\xe3]\"", b"{\"a\":[]}"];
        assert_eq!(found, expected);
        assert_eq!(elements(b"[ ]"), Some(Vec::new()));
        for other in ["", "1", "{}", "\"[]\"", "[1", "[1 2]", "[,]", "[1,]"] {
            assert_eq!(elements(other.as_bytes()), None, "{other}");
        }
        assert_eq!(&*opened(br#""[\"a\"]\n""#), b"[\"a\"]\n");
        assert_eq!(&*opened(b"[1]"), b"[1]");
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        let bad: [&[u8]; 26] = [
            b"",
            b" ",
            b"[]",
            b"1",
            b"\"x\"",
            b"null",
            b"{",
            b"}",
            b"{}x",
            b"{}{}",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{,}",
            b"{a:1}",
            b"{\"a\":01}",
            b"{\"a\":1.}",
            b"{\"a\":+1}",
            b"{\"a\":\"\x01\"}",
            b"{\"a\":\"\\x\"}",
            b"{\"a\":\"\\u12g4\"}",
            b"{\"a\":[1,]}",
            b"{\"a\":[1}",
            b"{\"a\":tru}",
            b"{\"a\":NaN}",
            b"\xef\xbb\xbf{}",
        ];
        for body in bad {
            assert_eq!(
                members(body),
                Err(NotOneObject),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn what_serde_json_refuses_is_kept() {
        let body = b"{\"gbk\":\"\xc4\xe3\xba\xc3\",\"half\":\"\\ud800\",\"big\":1e99999,\"long\":123456789012345678901234567890}";
        assert_eq!(names(body), ["gbk", "half", "big", "long"]);
        assert_eq!(
            scalar_text(members(body).unwrap()[1].value).unwrap(),
            "\u{FFFD}"
        );
    }

    #[test]
    fn a_gbk_character_may_end_in_a_backslash() {
        // U+8A89 is D3 5C in GBK: escaped byte-wise, and not escaped at all.
        for body in [
            &b"{\"a\":\"\xd3\\\\\",\"b\":1}"[..],
            b"{\"a\":\"\xd3\\\",\"b\":1}",
            b"{\"a\":\"\xd3\\x\",\"b\":1}",
        ] {
            assert_eq!(names(body), ["a", "b"]);
        }
        assert_eq!(
            members("{\"a\":\"é\\x\"}".as_bytes()),
            Err(NotOneObject),
            "UTF-8 has no such excuse"
        );
    }

    #[test]
    fn depth_is_limited_and_the_outer_braces_count() {
        let nested = |depth: usize| {
            [
                r#"{"a":"#.repeat(depth).into_bytes(),
                b"1".to_vec(),
                "}".repeat(depth).into_bytes(),
            ]
            .concat()
        };
        assert!(members(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(members(&nested(MAX_DEPTH + 1)), Err(NotOneObject));
        let wide = format!(
            "{{\"a\":{}{}}}",
            "[".repeat(1_000_000),
            "]".repeat(1_000_000)
        );
        assert_eq!(members(wide.as_bytes()), Err(NotOneObject));
    }

    #[test]
    fn escapes_in_names_are_resolved() {
        assert_eq!(names(br#"{"\u0074":1,"\ud83d\ude00\/":2}"#), ["t", "😀/"]);
    }

    proptest! {
        #[test]
        fn whatever_serde_json_takes_is_taken(value in json_value()) {
            let body = serde_json::json!({"k": value, "z": 1}).to_string();
            prop_assert_eq!(members(body.as_bytes()).unwrap().len(), 2);
        }

        #[test]
        fn no_bytes_make_it_panic_and_slices_stay_inside(
            body in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b':'), Just(b','), Just(b'\\'), Just(b'['), Just(b']'), any::<u8>()], 0..200)
        ) {
            if let Ok(found) = members(&body) {
                for member in found {
                    prop_assert!(body.as_ptr_range().contains(&member.value.as_ptr()));
                    let _ = scalar_text(member.value);
                }
            }
        }

        #[test]
        fn agrees_with_serde_json_on_mutated_text(mut body in json_value().prop_map(|v| serde_json::json!({"k": v}).to_string().into_bytes()), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let at = at.index(body.len());
            body[at] = byte;
            // serde_json reads a subset: whatever it takes as an object must be taken here.
            if let Ok(serde_json::Value::Object(_)) = serde_json::from_slice(&body) {
                prop_assert!(members(&body).is_ok());
            }
            // The other way round it holds for ASCII, but for numbers out of range and surrogates.
            if members(&body).is_ok() && body.is_ascii() {
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok());
            }
        }
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
