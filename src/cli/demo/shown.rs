//! Text that people read and paste, at most 80 columns wide.

use std::path::Path;

use css_callbacks::json;
use serde_json::Value;

const WIDTH: usize = 80;
/// The indent of a command, and of its further lines.
const INDENT: [&str; 2] = ["     ", "       "];

/// A JSON object with one member per line, in the original order. Members inside of a member are
/// sorted.
pub(super) fn pretty(text: &str) -> String {
    let Ok(members) = json::members(text.as_bytes()) else {
        return text.to_owned();
    };
    let lines = members.iter().map(|member| {
        let name = Value::from(String::from_utf8_lossy(&member.name));
        let value = match serde_json::from_slice::<Value>(member.value) {
            Ok(value) => format!("{value:#}"),
            Err(_) => String::from_utf8_lossy(member.value).into_owned(),
        };
        // A line break within a text is escaped, so this one is between members.
        format!("  {name}: {}", value.replace('\n', "\n  "))
    });
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join(",\n"))
}

/// A shell command. If it is too long, it continues in the next line. An option stays with its
/// value.
pub(super) fn command(words: &[&str]) -> String {
    let mut line = INDENT[0].to_owned();
    let mut lines = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let mut part = quoted(word);
        if word.starts_with('-')
            && let Some(value) = words.next_if(|next| !next.starts_with('-'))
        {
            part = format!("{part} {}", quoted(value));
        }
        let is_begun = !line.trim_start().is_empty();
        // Leaves room for ` \` at the end.
        if is_begun && line.len() + 1 + part.len() + 2 > WIDTH {
            lines.push(line + " \\");
            line = INDENT[1].to_owned() + &part;
        } else {
            line = if is_begun {
                line + " " + &part
            } else {
                line + &part
            };
        }
    }
    lines.push(line);
    lines.join("\n")
}

/// Quotes a word for a shell, if needed.
fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=@%+,".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How to call this program from the current directory. After `cargo run` it is not in `PATH`.
pub(super) fn program() -> String {
    let name = "livehook";
    let Ok(own) = std::env::current_exe() else {
        return name.to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    let is_own = |file: &Path| file.canonicalize().is_ok_and(|file| file == own);
    if found.is_some_and(|file| is_own(&file)) {
        return name.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    match own.strip_prefix(here) {
        Ok(below) => Path::new(".").join(below).display().to_string(),
        Err(_) => own.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pretty_json_is_the_same_json() {
        let value =
            json!({ "a": "x, y: {\"[\\", "b": [1, -2.5e3, {}, [], { "c": null }], "d": {} });
        for text in [value.to_string(), format!("{value:#}")] {
            let pretty = pretty(&text);
            assert_eq!(pretty, format!("{value:#}"));
            assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), value);
        }
        assert_eq!(pretty(r#"{"b":1,"a":2}"#), "{\n  \"b\": 1,\n  \"a\": 2\n}");
    }

    #[test]
    fn a_long_command_goes_on_in_the_next_line() {
        assert_eq!(command(&["livehook", "key"]), "     livehook key");
        let file = format!("/tmp/{}/it's mine", "long/".repeat(6));
        let long = command(&[
            "livehook", "events", "--config", &file, "-i", "--limit", "1",
        ]);
        let quoted = file.replace('\'', r"'\''");
        let expected =
            format!("     livehook events \\\n       --config '{quoted}' -i \\\n       --limit 1");
        assert_eq!(long, expected);
        assert!(long.lines().all(|line| line.len() <= WIDTH), "{long}");
        let words = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s|' {}", long.trim_start())])
            .output()
            .unwrap();
        let words = String::from_utf8(words.stdout).unwrap();
        assert_eq!(
            words,
            format!("livehook|events|--config|{file}|-i|--limit|1|")
        );
    }
}
