//! Checks whether SQLite was built with the flags in `.cargo/config.toml`. `cargo install` outside
//! of a clone does not read that file, and does not say so.

use rusqlite::Connection;

/// The flags are in this file only.
const CARGO_CONFIG: &str = include_str!("../../.cargo/config.toml");
/// SQLite lists this option if it was built with the flags. It does not list all of them:
/// `fdatasync` is missing.
const MARK: &str = "DEFAULT_MEMSTATUS=0";

/// Warns if SQLite was built without the flags. Uses only a database in memory.
pub(super) fn warn_if_missing() {
    match compile_options() {
        Ok(options) if lacks_flags(&options) => tracing::warn!(
            "SQLite was built without the flags that livehook sets for it, so storing takes longer; install livehook again \
             with: {}",
            command()
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "SQLite does not say how it was built"),
    }
}

fn compile_options() -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open_in_memory()?;
    let mut options = connection.prepare("PRAGMA compile_options")?;
    let options = options.query_map([], |row| row.get(0))?;
    options.collect()
}

fn lacks_flags(options: &[String]) -> bool {
    !options.iter().any(|option| option == MARK)
}

/// A shell command. `--force` is needed because this version is already installed.
fn command() -> String {
    let flags = CARGO_CONFIG.split("\"\"\"").nth(1).unwrap_or_default();
    let flags: Vec<_> = flags.split_whitespace().collect();
    format!(
        "LIBSQLITE3_FLAGS='{}' cargo install --force --locked livehook",
        flags.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_flags_is_found() {
        let usual = [
            "COMPILER=gcc-12.2.0",
            "DEFAULT_FOREIGN_KEYS",
            "THREADSAFE=1",
        ];
        let usual = usual.map(str::to_owned);
        assert!(lacks_flags(&usual));
        assert!(lacks_flags(&[]));
        assert!(lacks_flags(&["DEFAULT_MEMSTATUS=01".to_owned()]));
        assert!(!lacks_flags(&[&usual[..], &[MARK.to_owned()]].concat()));
        assert!(
            !lacks_flags(&compile_options().unwrap()),
            "this build has them"
        );
    }

    #[test]
    fn the_command_holds_all_flags() {
        let command = command();
        let begin = "LIBSQLITE3_FLAGS='-DHAVE_FDATASYNC=1 -DSQLITE_DEFAULT_MEMSTATUS=0 -USQLITE_ENABLE_API_ARMOR ";
        let end = " -USQLITE_SOUNDEX' cargo install --force --locked livehook";
        assert!(command.starts_with(begin), "{command}");
        assert!(command.ends_with(end), "{command}");
        assert_eq!(command.lines().count(), 1, "{command}");
        assert_eq!(
            command.matches(" -").count(),
            CARGO_CONFIG.matches("-USQLITE").count() + 3
        );
    }
}
