//! The page `docs/kinds.md` of the repository: what stands behind its mark is made from the types.
//!
//! `LIVEHOOK_BLESS=1 cargo test -p css-callbacks` writes it anew.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::payload::Payload;

/// What follows is made.
const MARK: &str =
    "<!-- Made from the types. To make it anew: LIVEHOOK_BLESS=1 cargo test -p css-callbacks -->\n";

/// Members of every kind, which the page explains once.
const EVERYWHERE: [&str; 3] = ["event_type", "t", "sign"];

/// Units as descriptions name them, behind a comma. Of two that begin the same the longer one stands first.
const UNITS: [&str; 13] = [
    "UNIX seconds",
    "UNIX milliseconds",
    "seconds",
    "milliseconds",
    "microseconds",
    "pixels",
    "bytes",
    "kbit/s",
    "degrees",
    "years",
    "0 to 100",
    "0 to 4",
    "unit not documented",
];

/// Ends of names that have a unit.
const MEASURED: [&str; 9] = [
    "time",
    "timestamp",
    "duration",
    "_usec",
    "_pts",
    "_size",
    "width",
    "height",
    "_bps",
];

type Object = Map<String, Value>;

fn page() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = here.ancestors().map(|folder| folder.join("docs/kinds.md"));
    folders.find(|page| page.is_file()).unwrap()
}

#[test]
fn the_page_of_kinds_is_fresh() {
    let page = page();
    let written = std::fs::read_to_string(&page).unwrap();
    let (head, rest) = written.split_once(MARK).unwrap();
    let made = Page::default().made();
    if std::env::var_os("LIVEHOOK_BLESS").is_some() {
        std::fs::write(&page, [head, MARK, &made].concat()).unwrap();
        return;
    }
    assert!(
        rest == made,
        "the types have changed: LIVEHOOK_BLESS=1 cargo test -p css-callbacks makes {} anew",
        page.display()
    );
}

#[test]
fn what_is_measured_has_a_unit() {
    for (name, definition) in Page::default().definitions {
        for (member, it) in members(definition.as_object().unwrap()) {
            if MEASURED.iter().any(|end| member.ends_with(end)) && it.contains_key("type") {
                let text = it["description"].as_str().unwrap();
                assert!(unit(text).is_some(), "{name}.{member}: {text}");
            }
        }
    }
}

/// The part that is made.
struct Page {
    definitions: Object,
    /// The schema of each kind, as a reference.
    kinds: Vec<(Kind, String)>,
    /// What has a section already.
    shown: HashSet<String>,
    text: String,
}

impl Default for Page {
    fn default() -> Self {
        let mut generator = SchemaGenerator::default();
        let kinds = Kind::ALL.map(|kind| {
            let schema = Payload::schema(kind, &mut generator).unwrap();
            (
                kind,
                reference(schema.as_object().unwrap()).unwrap().to_owned(),
            )
        });
        Self {
            definitions: generator.take_definitions(false),
            kinds: kinds.into(),
            shown: HashSet::new(),
            text: String::new(),
        }
    }
}

impl Page {
    fn made(mut self) -> String {
        self.text += "\n| Kind | `event_type` | What it tells |\n|---|--:|---|\n";
        for (kind, _) in &self.kinds {
            let (slug, code) = (kind.slug(), kind.code().unwrap());
            let meaning = kind.meaning();
            writeln!(self.text, "| [`{slug}`](#{slug}) | {code} | {meaning} |").unwrap();
        }
        for (kind, name) in self.kinds.clone() {
            let code = kind.code().unwrap();
            let what = format!("`event_type` {code}: {}.", kind.meaning());
            let mut same = self.kinds.iter().filter(|(_, of)| *of == name);
            let first = same.next().map_or(kind, |(first, _)| *first);
            write!(self.text, "\n## {kind}\n\n").unwrap();
            if first != kind {
                let fields = format!("{what} Its fields are those of [`{first}`](#{first}).");
                self.text += &wrapped(&fields);
                continue;
            }
            write!(self.text, "{what}\n\n").unwrap();
            self.object(&name);
            self.parts_of(&name);
        }
        self.text
    }

    /// The sections of what an object refers to, each where it appears first.
    fn parts_of(&mut self, name: &str) {
        self.shown.insert(name.to_owned());
        let definition = self.definitions[name].as_object().unwrap().clone();
        let members = members(&definition);
        let parts = members
            .iter()
            .filter_map(|(_, it)| inner(it))
            .map(str::to_owned);
        for part in parts.collect::<Vec<_>>() {
            if self.shown.contains(&part) {
                continue;
            }
            write!(self.text, "\n### {part}\n\n").unwrap();
            if self.definitions[&part].get("properties").is_some() {
                self.object(&part);
                self.parts_of(&part);
            } else {
                self.values(&part);
                self.shown.insert(part);
            }
        }
    }

    /// What an object is, and its members.
    fn object(&mut self, name: &str) {
        let definition = self.definitions[name].as_object().unwrap();
        let text = definition["description"].as_str().unwrap();
        // What rustdoc links is a section here.
        let linked = self.definitions.keys().fold(text.to_owned(), |text, name| {
            let section = format!("[`{name}`](#{})", name.to_lowercase());
            text.replace(&format!("[`{name}`]"), &section)
        });
        for paragraph in linked.split("\n\n") {
            self.text += &(wrapped(paragraph) + "\n");
        }
        self.text += "| Field | Also named | Type | Unit | Meaning |\n|---|---|---|---|---|\n";
        for (member, it) in members(definition) {
            if EVERYWHERE.contains(&member) {
                continue;
            }
            let names = it
                .get("x-wire")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let names = names
                .filter_map(Value::as_str)
                .filter(|name| *name != member);
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let text = it["description"].as_str().unwrap();
            let (unit, meaning) = match unit(text) {
                Some(unit) => (unit, text.replacen(&format!(", {unit}"), "", 1)),
                None => ("", text.to_owned()),
            };
            let cells = [
                &format!("`{member}`"),
                &names.join(", "),
                &type_of(it),
                unit.strip_prefix("unit ").unwrap_or(unit),
                &meaning,
            ];
            assert!(
                cells.iter().all(|cell| !cell.contains(['|', '\n'])),
                "{name}.{member}"
            );
            writeln!(self.text, "| {} |", cells.join(" | ")).unwrap();
        }
    }

    /// What an open enumeration is, and its documented values.
    fn values(&mut self, name: &str) {
        let definition = self.definitions[name].as_object().unwrap();
        let text = definition["description"].as_str().unwrap();
        let forms = definition["anyOf"].as_array().unwrap();
        let is_text = forms.iter().any(|form| form["type"] == "string");
        let type_name = if is_text { "text" } else { "integer" };
        self.text += &wrapped(&format!(
            "{text} Type: {type_name}. Other values are possible and are kept as they came."
        ));
        self.text += "\n| Value | Meaning |\n|---|---|\n";
        // Values of one meaning share a row.
        let mut rows: Vec<(String, &str)> = Vec::new();
        for form in forms {
            let Some(value) = form.get("const") else {
                continue;
            };
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let meaning = form["description"].as_str().unwrap();
            match rows.iter_mut().find(|(_, of)| *of == meaning) {
                Some((values, _)) => write!(values, ", `{value}`").unwrap(),
                None => rows.push((format!("`{value}`"), meaning)),
            }
        }
        for (values, meaning) in rows {
            let meaning = meaning.trim_end_matches('.');
            let (first, rest) = meaning.split_at(1);
            writeln!(self.text, "| {values} | {}{rest} |", first.to_uppercase()).unwrap();
        }
    }
}

/// A paragraph in lines that people can read in a diff.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        match length {
            0 => {}
            1..100 if length + 1 + word.len() <= 100 => {
                lines.push(' ');
                length += 1;
            }
            _ => {
                lines.push('\n');
                length = 0;
            }
        }
        lines += word;
        length += word.len();
    }
    lines + "\n"
}

/// The members in the order of their declaration.
fn members(definition: &Object) -> Vec<(&str, &Object)> {
    let Some(order) = definition.get("x-order").and_then(Value::as_array) else {
        return Vec::new();
    };
    let names = order.iter().filter_map(Value::as_str);
    let member = |name| (name, definition["properties"][name].as_object().unwrap());
    names.map(member).collect()
}

/// The definition that a schema refers to.
fn reference(schema: &Object) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// The definition that a member, its elements, or one of its forms refers to.
fn inner(schema: &Object) -> Option<&str> {
    let forms = schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    reference(schema).or_else(|| {
        let of = schema.get("items").into_iter().chain(forms);
        of.filter_map(Value::as_object).find_map(inner)
    })
}

fn type_of(schema: &Object) -> String {
    if let Some(name) = reference(schema) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        let forms = forms.iter().filter_map(Value::as_object).map(type_of);
        return forms.collect::<Vec<_>>().join(" or ");
    }
    match schema.get("type").and_then(Value::as_str) {
        None => "anything".to_owned(),
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("list of {}", type_of(schema["items"].as_object().unwrap())),
        Some(other) => other.to_owned(),
    }
}

/// The unit that a description names first.
fn unit(text: &str) -> Option<&'static str> {
    let places = UNITS.into_iter().filter_map(|unit| {
        let (before, after) = text.split_once(&format!(", {unit}"))?;
        let ends = !after.starts_with(char::is_alphanumeric);
        ends.then_some((before.len(), unit))
    });
    places.min_by_key(|(at, _)| *at).map(|(_, unit)| unit)
}
