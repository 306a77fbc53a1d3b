//! A parser of bytes that knows the grammar of JSON and nothing else.

use super::Member;

/// By the grammar alone, with up to so many levels. What is no UTF-8 and makes no sense byte by byte is read as pairs of
/// bytes, of which the second may be a quote or a backslash (GBK).
pub fn by_bytes(text: &[u8], levels: usize) -> Option<Vec<Member>> {
    let read = |pairs| {
        let grammar = Grammar {
            text,
            pairs,
            levels,
        };
        grammar.whole()
    };
    read(false).or_else(|| read(true).filter(|_| std::str::from_utf8(text).is_err()))
}

/// Every function begins at a place and answers with the place behind what it found.
struct Grammar<'a> {
    text: &'a [u8],
    pairs: bool,
    levels: usize,
}

impl Grammar<'_> {
    fn whole(&self) -> Option<Vec<Member>> {
        let mut all = Vec::new();
        let start = self.blanks(0);
        if *self.text.get(start)? != b'{' {
            return None;
        }
        let end = self.container(start, 1, &mut |name, value| {
            let name = &self.text[name.0 + 1..name.1 - 1];
            let unsure = self.pairs && name.contains(&b'\\') && !name.is_ascii();
            all.push(Member {
                name: (!unsure).then(|| decoded(name)),
                value: self.text[value.0..value.1].to_vec(),
            });
        })?;
        (self.blanks(end) == self.text.len()).then_some(all)
    }

    fn value(&self, at: usize, level: usize) -> Option<usize> {
        match self.text.get(at)? {
            b'{' | b'[' => self.container(at, level + 1, &mut |_, _| ()),
            b'"' => self.string(at),
            b'-' | b'0'..=b'9' => self.number(at),
            _ => (["true", "false", "null"].iter())
                .find(|word| self.text[at..].starts_with(word.as_bytes()))
                .map(|word| at + word.len()),
        }
    }

    fn container(
        &self,
        at: usize,
        level: usize,
        each: &mut dyn FnMut((usize, usize), (usize, usize)),
    ) -> Option<usize> {
        let object = self.text[at] == b'{';
        let close = if object { b'}' } else { b']' };
        let mut at = self.blanks(at + 1);
        if level > self.levels {
            return None;
        }
        if *self.text.get(at)? == close {
            return Some(at + 1);
        }
        loop {
            let begin = at;
            if object {
                let end = self.string(at)?;
                at = self.blanks(end);
                if *self.text.get(at)? != b':' {
                    return None;
                }
                at = self.blanks(at + 1);
                let value = (at, self.value(at, level)?);
                each((begin, end), value);
                at = value.1;
            } else {
                at = self.value(at, level)?;
            }
            at = self.blanks(at);
            match *self.text.get(at)? {
                b',' => at = self.blanks(at + 1),
                byte if byte == close => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn string(&self, at: usize) -> Option<usize> {
        if *self.text.get(at)? != b'"' {
            return None;
        }
        let mut at = at + 1;
        loop {
            at += match self.text.get(at..)? {
                [b'"', ..] => return Some(at + 1),
                [b'\\', b'u', hex @ ..] => {
                    let digits = hex.get(..4)?;
                    digits.iter().all(u8::is_ascii_hexdigit).then_some(6)?
                }
                [b'\\', escaped, ..] if b"\"\\/bfnrt".contains(escaped) => 2,
                [] | [b'\\' | 0..0x20, ..] => return None,
                [0x80..=0xff, ..] if self.pairs => self.character(at),
                _ => 1,
            }
        }
    }

    fn character(&self, at: usize) -> usize {
        let fits = |length: &usize| {
            let bytes = self.text.get(at..at + length);
            bytes.is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
        };
        (2..=4).find(fits).unwrap_or(2)
    }

    fn number(&self, at: usize) -> Option<usize> {
        let at = at + usize::from(self.text[at] == b'-');
        let mut at = match self.text.get(at)? {
            b'0' => at + 1,
            _ => self.digits(at)?,
        };
        if self.text.get(at) == Some(&b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.text.get(at) {
            let signed = matches!(self.text.get(at + 1), Some(b'+' | b'-'));
            at = self.digits(at + 1 + usize::from(signed))?;
        }
        Some(at)
    }

    fn digits(&self, at: usize) -> Option<usize> {
        let digits = self.text.get(at..)?;
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit());
        Some(at + count.count()).filter(|end| *end > at)
    }

    fn blanks(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at + rest
            .iter()
            .take_while(|byte| b" \t\n\r".contains(byte))
            .count()
    }
}

/// The content of a string that is known to be well-formed; half a surrogate pair becomes U+FFFD.
fn decoded(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut units: Vec<u16> = Vec::new();
    loop {
        let (plain, tail) = match rest {
            [b'\\', b'u', tail @ ..] => {
                let hex = std::str::from_utf8(&tail[..4]).unwrap();
                units.push(u16::from_str_radix(hex, 16).unwrap());
                rest = &tail[4..];
                continue;
            }
            [b'\\', escaped, tail @ ..] => {
                let escapes = b"b\x08f\x0cn\nr\rt\t";
                let known = escapes.chunks(2).find(|pair| pair[0] == *escaped);
                (Some(known.map_or(*escaped, |pair| pair[1])), tail)
            }
            [byte, tail @ ..] => (Some(*byte), tail),
            [] => (None, rest),
        };
        out.extend_from_slice(String::from_utf16_lossy(&units).as_bytes());
        units.clear();
        match plain {
            Some(byte) => out.push(byte),
            None => return out,
        }
        rest = tail;
    }
}
