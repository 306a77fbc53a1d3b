//! Reads the files of callgrind, and assigns instructions to threads and kinds of code.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, ensure};

/// The names of threads by valgrind's numbers.
pub type ThreadNames = BTreeMap<u32, String>;
/// What threads did that had ended before they were named.
const ENDED: &str = "ended meanwhile";

/// The purpose of code.
pub const KINDS: [&str; 11] = [
    JSON, HASHES, SHA2, HTTP, AXUM, TOKIO, ALLOCATOR, MEMORY, SQLITE, LIVEHOOK, ELSE,
];
pub const SHA2: &str = "sha2, without the processor's own instructions";
const JSON: &str = "json";
const HASHES: &str = "other hashes";
const HTTP: &str = "hyper and http";
const AXUM: &str = "axum";
const TOKIO: &str = "tokio";
const ALLOCATOR: &str = "allocator";
const MEMORY: &str = "memcpy and the like";
const SQLITE: &str = "sqlite";
const LIVEHOOK: &str = "livehook, the rest";
const ELSE: &str = "all else";

/// Crates by the beginning of their names.
const CRATES: [(&str, &str); 27] = [
    ("css_callbacks::json", JSON),
    ("livehook", LIVEHOOK),
    ("serde_json", JSON),
    ("sha2", SHA2),
    ("block-buffer", HASHES),
    ("digest", HASHES),
    ("hex", HASHES),
    ("hmac", HASHES),
    ("md-5", HASHES),
    ("md5", HASHES),
    ("http", HTTP),
    ("http-body", HTTP),
    ("http-body-util", HTTP),
    ("httparse", HTTP),
    ("httpdate", HTTP),
    ("hyper", HTTP),
    ("hyper-util", HTTP),
    ("axum", AXUM),
    ("axum-core", AXUM),
    ("matchit", AXUM),
    ("tower", AXUM),
    ("tower-service", AXUM),
    ("mio", TOKIO),
    ("tokio", TOKIO),
    ("libsqlite3-sys", SQLITE),
    ("libsqlite3_sys", SQLITE),
    ("rusqlite", SQLITE),
];

const OWN_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");

/// Instructions by thread and by kind.
#[derive(Default)]
pub struct Counts {
    pub threads: BTreeMap<String, u64>,
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Reads all threads of the first dump. Its files begin with this path.
    pub fn read(out: &Path, names: &ThreadNames) -> anyhow::Result<Self> {
        let dir = out.parent().context("a file without a folder")?;
        let name = out.file_name().context("a file without a name")?;
        let begin = format!("{}.1-", name.to_string_lossy());
        let mut counts = Self::default();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&begin) {
                // Function names may have any encoding.
                let text = std::fs::read(entry.path())?;
                counts.add_thread(&String::from_utf8_lossy(&text), names);
            }
        }
        ensure!(counts.all() > 0, "callgrind has counted nothing");
        Ok(counts)
    }

    pub fn all(&self) -> u64 {
        self.threads.values().sum()
    }

    /// Reads the format of callgrind's manual. The cost of a line belongs to the last `fn=` and to
    /// the last named file, which is a different one for inlined code.
    fn add_thread(&mut self, text: &str, names: &ThreadNames) {
        let (mut files, mut functions) = (Names::new(), Names::new());
        let (mut file, mut function) = ("", "");
        let mut of_a_call = false;
        let mut number = None;
        let mut costs = BTreeMap::<(&str, &str), u64>::new();
        for line in text.lines() {
            if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
                // The cost after `calls=` belongs to the callee and is counted there.
                if !std::mem::take(&mut of_a_call) {
                    *costs.entry((file, function)).or_default() += cost.unwrap_or(0);
                }
                continue;
            }
            if let Some(thread) = line.strip_prefix("thread: ") {
                number = thread.parse().ok();
            }
            match line.split_once('=') {
                Some(("fl" | "fi" | "fe", name)) => file = resolve(&mut files, name),
                Some(("cfl" | "cfi", name)) => _ = resolve(&mut files, name),
                Some(("fn", name)) => function = resolve(&mut functions, name),
                Some(("cfn", name)) => _ = resolve(&mut functions, name),
                Some(("calls", _)) => of_a_call = true,
                _ => {}
            }
        }
        let thread = number.and_then(|number| names.get(&number));
        let thread = thread.map_or(ENDED, String::as_str).to_owned();
        *self.threads.entry(thread).or_default() += costs.values().sum::<u64>();
        for ((file, function), cost) in costs {
            *self.kinds.entry(kind(file, function)).or_default() += cost;
        }
    }
}

/// Resolves names: the first time `(7) name`, later only `(7)`.
type Names<'a> = HashMap<&'a str, &'a str>;

fn resolve<'a>(names: &mut Names<'a>, text: &'a str) -> &'a str {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(text).copied().unwrap_or_default(),
    }
}

fn kind(file: &str, function: &str) -> &'static str {
    if let Some(path) = file.strip_prefix(OWN_SOURCE) {
        return if path == "json.rs" { JSON } else { LIVEHOOK };
    }
    if let Some((_, path)) = file.split_once("/registry/src/") {
        let folder = path.split('/').nth(1).unwrap_or_default();
        let version = |rest: &str| {
            rest.strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        let known = CRATES
            .iter()
            .find(|(name, _)| folder.strip_prefix(name).is_some_and(version));
        return known.map_or(ELSE, |(_, kind)| kind);
    }
    let function_is = |names: &[&str]| names.iter().any(|name| function.starts_with(name));
    if file.ends_with("/malloc.c")
        || function_is(&[
            "malloc", "free", "calloc", "realloc", "_int_", "__rdl_", "__rust_",
        ])
    {
        return ALLOCATOR;
    }
    if function_is(&["__mem", "mem", "bcmp", "__str"]) {
        return MEMORY;
    }
    // Rust's standard library, inlined or instantiated for the types of the crate that is named
    // first.
    let places = CRATES.iter().filter_map(|(name, kind)| {
        let place = function.find(&format!("{}::", name.replace('-', "_")))?;
        let word = |before: char| before.is_alphanumeric() || matches!(before, '_' | ':');
        (!function[..place].ends_with(word)).then_some((place, *kind))
    });
    places
        .min_by_key(|(place, _)| *place)
        .map_or(ELSE, |(_, kind)| kind)
}
