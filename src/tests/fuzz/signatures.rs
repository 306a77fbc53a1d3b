//! `sign` and `t`: as the platform sends them, and in every way it does not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::bodies::Body;
use super::oracle::signature;
use super::sites::{FOREIGN_KEY, KEYS};

/// `t` as it may stand in a body; some are no JSON.
const TS: [&str; 27] = [
    "1795420800",
    "\"1795420800\"",
    "1795420801",
    "1795420799",
    "1",
    "9999999999999999",
    "\"9999999999999999\"",
    "17954208000000000",
    "\"17954208000000000\"",
    "01795420800",
    "\"01795420800\"",
    "\"0\"",
    "-1795420800",
    "\"+1795420800\"",
    "1795420800.0",
    "1.7954208e9",
    "\" 1795420800\"",
    "\"1795420800 \"",
    "\"\\u0031795420800\"",
    "\"1795420800\\u0000\"",
    "\"１795420800\"",
    "123456789012345678901234567890",
    "\"\"",
    "null",
    "true",
    "[1795420800]",
    "{\"t\":1795420800}",
];

/// How `sign` comes out.
#[derive(Debug, Clone, Copy)]
enum Form {
    Right,
    Upper,
    Shorter,
    Longer,
    Escaped,
    Blank,
    Swapped,
    OfAnotherT,
    Number,
    Literal(&'static str),
}

const FORMS: [Form; 14] = [
    Form::Right,
    Form::Upper,
    Form::Shorter,
    Form::Longer,
    Form::Escaped,
    Form::Blank,
    Form::Swapped,
    Form::OfAnotherT,
    Form::Number,
    Form::Literal("null"),
    Form::Literal("\"\""),
    Form::Literal("[]"),
    Form::Literal("{\"sign\":\"x\"}"),
    Form::Literal("true"),
];

/// The value of `sign` for a `t` as it stands in the body: the quotes are no part of what is signed.
fn sign(key: &str, t: &str, form: Form) -> Body {
    let t = t.trim_matches(['"', '[', ']']);
    let right = signature(key, t);
    let text = match form {
        Form::Right => right,
        Form::Upper => right.to_ascii_uppercase(),
        Form::Shorter => right[..31].to_owned(),
        Form::Longer => format!("{right}0"),
        Form::Escaped => format!("\\u{:04x}{}", right.as_bytes()[0], &right[1..]),
        Form::Blank => format!("{right} "),
        Form::Swapped => signature(t, key),
        Form::OfAnotherT => signature(key, &format!("{t}0")),
        Form::Number => {
            return Body(
                right
                    .replace(|c: char| !c.is_ascii_digit(), "7")
                    .into_bytes(),
            );
        }
        Form::Literal(text) => return Body(text.into()),
    };
    Body(format!("\"{text}\"").into_bytes())
}

/// The first key signs most; the empty one is what the platform signs with where the template has none.
fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just(KEYS[0]),
        2 => Just(KEYS[1]),
        1 => Just(FOREIGN_KEY),
        1 => Just(""),
    ]
}

/// The members that sign a body, each with its place; none, the right two, or anything else.
pub fn members() -> impl Strategy<Value = Vec<(Index, Body, Body)>> {
    prop_oneof![
        2 => Just(Vec::new()),
        4 => genuine(),
        3 => odd(),
    ]
}

/// As the platform sends them.
fn genuine() -> impl Strategy<Value = Vec<(Index, Body, Body)>> {
    (key(), select(&TS[..4]), any::<[Index; 2]>()).prop_map(|(key, t, places)| {
        vec![
            (places[0], Body(b"t".into()), Body(t.into())),
            (places[1], Body(b"sign".into()), sign(key, t, Form::Right)),
        ]
    })
}

/// One or two pairs under some of their names and in some form, at most one of them torn. Each `sign` fits a `t` that is there,
/// or would be but for its form, so that nothing but the form is wrong.
fn odd() -> impl Strategy<Value = Vec<(Index, Body, Body)>> {
    let t_name = name("t", &["\\u0074", "T", "t ", "\\u0074\\u0000"]);
    let sign_name = name("sign", &["\\u0073ign", "s\\u0069gn", "Sign", "sign\\u0000"]);
    let t = prop_oneof![1 => Just(TS[0]), 1 => select(&TS[..])];
    let form = prop_oneof![1 => Just(Form::Right), 1 => select(&FORMS[..])];
    let pair = (t_name, t, sign_name, form, key(), any::<[Index; 2]>());
    let torn = prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (vec(pair, 1..3), torn).prop_map(|(pairs, torn)| {
        let mut all = Vec::new();
        for (t_name, t, sign_name, form, key, places) in pairs {
            all.push((places[0], Body(t_name.into()), Body(t.into())));
            all.push((places[1], Body(sign_name.into()), sign(key, t, form)));
        }
        if let Some(torn) = torn {
            all.remove(torn.index(all.len()));
        }
        all
    })
}

fn name(
    right: &'static str,
    others: &'static [&'static str],
) -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(right), 1 => select(others)]
}
