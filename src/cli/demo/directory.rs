//! The demo's directory: the configuration, the key, and what the server keeps there.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use toml::de::DeTable;

use crate::cli::key;
use crate::config::{Config, Environment};

/// The first line of the configuration. The demo changes no file that begins otherwise.
const MARK: &str = "# Made by `livehook demo`";

const CONFIG: &str = "livehook.toml";
const KEY: &str = "key";

pub(super) struct DemoDirectory {
    /// The path as it was given, for messages.
    shown: PathBuf,
    absolute: PathBuf,
    /// The configuration, with the addresses to listen on.
    text: String,
}

impl DemoDirectory {
    /// Creates the directory with a key, or uses an existing one.
    pub(super) fn open(path: &Path, listen: [SocketAddr; 2]) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| {
            format!("cannot make the directory {shown}; name another with --dir")
        })?;
        let file = path.join(CONFIG);
        let text = match fs::read_to_string(&file) {
            Ok(text) if text.starts_with(MARK) => text,
            Ok(_) => bail!(
                "{} was not made by the demo; name another directory with --dir",
                file.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => template(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        make_key(&path.join(KEY))?;
        let text = with_addresses(&text, listen)
            .with_context(|| format!("{}: remove it to have it made anew", file.display()))?;
        Ok(Self {
            shown: path.to_owned(),
            absolute: std::path::absolute(path)?,
            text,
        })
    }

    pub(super) fn config(&self, env: &Environment) -> anyhow::Result<Config> {
        Ok(Config::from_toml(&self.text, &self.absolute, env)?)
    }

    /// Writes the configuration with the server's addresses, for other commands and for the next
    /// start.
    pub(super) fn keep(&self, addresses: [SocketAddr; 2]) -> anyhow::Result<()> {
        let text = with_addresses(&self.text, addresses)?;
        let file = self.absolute.join(CONFIG);
        let new = self.absolute.join("livehook.toml.new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    /// The path of the configuration, for messages.
    pub(super) fn file(&self) -> String {
        self.shown(&self.absolute.join(CONFIG))
    }

    /// The path of the key, for messages.
    pub(super) fn key(&self) -> String {
        self.shown(&self.absolute.join(KEY))
    }

    /// A path in the directory, relative to where the directory was given.
    pub(super) fn shown(&self, file: &Path) -> String {
        let inside = file.strip_prefix(&self.absolute);
        let shown = inside.map_or_else(|_| file.to_owned(), |inside| self.shown.join(inside));
        shown.display().to_string()
    }
}

fn template() -> String {
    format!(
        "\
{MARK}, which sets `listen` in both sections anew at each start
# and leaves the rest as it is. `livehook serve --config` takes this file as well.

[server]
listen = \"127.0.0.1:0\"
# Ctrl-C ends it at once. Leave this out behind a load balancer.
drain_delay = \"0s\"

[admin]
listen = \"127.0.0.1:0\"

[inbox]
path = \"data\"

[sources.css]
key_file = \"{KEY}\"

[handlers.file]
to = {{ type = \"file\", path = \"events.jsonl\" }}
"
    )
}

/// Makes a key if there is none. Only this user can read it.
fn make_key(file: &Path) -> anyhow::Result<()> {
    let mut options = fs::File::options();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => writeln!(made, "{}", key::fresh()?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot write {}", file.display()))
}

/// The configuration with these addresses to listen on.
fn with_addresses(text: &str, addresses: [SocketAddr; 2]) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (section, address) in ["server", "admin"].into_iter().zip(addresses) {
        let place = DeTable::parse(&text).ok().and_then(|root| {
            let table = root
                .get_ref()
                .get(section)?
                .get_ref()
                .as_table()?
                .get("listen")?;
            Some(table.span())
        });
        let place = place.with_context(|| format!("there is no {section}.listen"))?;
        text.replace_range(place, &format!("\"{address}\""));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: [u16; 2]) -> [SocketAddr; 2] {
        ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn a_start_changes_only_where_to_listen() {
        let first = with_addresses(&template(), addresses([8080, 9090])).unwrap();
        assert!(
            first.contains("[server]\nlisten = \"127.0.0.1:8080\"\n"),
            "{first}"
        );
        assert!(
            first.contains("[admin]\nlisten = \"127.0.0.1:9090\"\n"),
            "{first}"
        );
        let changed = first.replace("\"0s\"", "\"1s\" # longer") + "[log]\nlevel = \"debug\"\n";
        let second = with_addresses(&changed, addresses([1, 2])).unwrap();
        assert_eq!(
            second,
            changed.replace(":8080", ":1").replace(":9090", ":2")
        );
        for broken in ["", "[server]\n", "no toml"] {
            assert!(
                with_addresses(broken, addresses([1, 2])).is_err(),
                "{broken}"
            );
        }
    }

    #[test]
    fn only_a_directory_of_a_demo_is_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(CONFIG);
        let open = || DemoDirectory::open(directory.path(), addresses([0, 0]));
        let key = || fs::read_to_string(directory.path().join(KEY)).unwrap();
        open().unwrap().keep(addresses([1, 2])).unwrap();
        let first = key();
        assert!(open().unwrap().config(&Environment::new()).is_ok());
        assert_eq!(key(), first);

        let other =
            "# Mine\n[server]\nlisten = \"127.0.0.1:7\"\n[admin]\nlisten = \"127.0.0.1:8\"\n";
        fs::write(&file, other).unwrap();
        let error = open().err().unwrap().to_string();
        assert!(error.contains("was not made by the demo"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), other);
    }
}
