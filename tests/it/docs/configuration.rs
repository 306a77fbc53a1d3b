//! `livehook check` accepts each TOML block, which is a whole configuration or a part of one.

use std::path::Path;

use config::{File, FileFormat};
use serde_json::Value;

use super::page::{Block, root};
use super::{assert_none, pages};
use crate::support::receiver::SECRET;
use crate::support::server::livehook;

const KEY: &str = "DocsKeyDocsKeyDocsKeyDocsKey1234";

/// The content of a file or variable that an option names.
fn secret_for(option: &str) -> &'static str {
    match option.split('_').next() {
        Some("key" | "keys") => KEY,
        Some("url") => "postgres://livehook:secret@127.0.0.1/livehook",
        Some("secret") => SECRET,
        _ => "a-long-random-text",
    }
}

/// The files and variables that a block needs, by option and name.
#[derive(Default)]
struct Needs {
    files: Vec<(String, String)>,
    variables: Vec<(String, String)>,
}

impl Needs {
    fn collect(&mut self, option: &str, value: &Value) {
        match value {
            Value::Object(table) => table
                .iter()
                .for_each(|(key, value)| self.collect(key, value)),
            Value::Array(items) => items.iter().for_each(|item| self.collect(option, item)),
            Value::String(text) if option.ends_with("_file") => {
                self.files.push((option.to_owned(), text.clone()));
            }
            Value::String(text) if option.ends_with("_env") => {
                let name = text.trim_end_matches('?');
                self.variables
                    .push((name.to_owned(), secret_for(option).to_owned()));
            }
            _ => {}
        }
    }
}

/// The dependencies of a program that uses livehook: its crates are at the given paths.
fn check_dependencies(dependencies: &Value) -> Result<(), String> {
    for (name, dependency) in dependencies.as_object().into_iter().flatten() {
        if let Some(path) = dependency.get("path").and_then(Value::as_str) {
            let is_there = ["", "crates/css-callbacks", "crates/css-simulator"]
                .iter()
                .any(|folder| path.ends_with(folder) && root().join(folder).exists());
            if !is_there {
                return Err(format!("{name}: there is no {path}"));
            }
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Value, config::ConfigError> {
    let source = File::from_str(text, FileFormat::Toml);
    let parsed = config::Config::builder().add_source(source).build()?;
    parsed.try_deserialize()
}

fn check(block: &Block) -> Result<(), String> {
    let table = parse(&block.text).map_err(|error| error.to_string())?;
    if let Some(dependencies) = table.get("dependencies") {
        return check_dependencies(dependencies);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut needs = Needs::default();
    needs.collect("", &table);
    let mut text = block.text.clone();
    for (option, file) in &needs.files {
        let place = directory.path().join(file.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, secret_for(option)).unwrap();
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        text = text.replace(&quoted(Path::new(file)), &quoted(&place));
    }
    if table.get("sources").is_none() {
        text += &format!("\n[sources.css]\nkeys = [\"{KEY}\"]\n");
    }
    if table.get("handlers").is_none() {
        text += "\n[handlers.log]\nto = { type = \"log\" }\n";
    }
    let file = directory.path().join("livehook.toml");
    std::fs::write(&file, text).unwrap();
    let checked = livehook()
        .args(["check", "--config"])
        .arg(&file)
        .envs(needs.variables)
        .current_dir(directory.path())
        .output()
        .unwrap();
    match checked.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&checked.stderr).trim().to_owned()),
    }
}

#[test]
fn toml_blocks_are_taken_by_livehook_check() {
    let mut problems = Vec::new();
    for page in pages() {
        for block in page.blocks_of("toml") {
            if let Err(problem) = check(block) {
                problems.push(page.at(block.line, &problem));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn a_wrong_option_is_found() {
    let block = |text: &str| Block {
        language: "toml".into(),
        file: None,
        text: text.into(),
        line: 1,
    };
    let files = "[sources.css]\nkey_file = \"/run/secrets/key\"\ntoken_env = \"TOKEN\"\n";
    assert_eq!(check(&block(files)), Ok(()));
    let problem = check(&block("[server]\nlissten = \"127.0.0.1:80\"\n")).unwrap_err();
    assert!(problem.contains("listen"), "{problem}");
}
