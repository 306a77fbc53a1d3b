//! Other servers that verify callbacks and store them durably. Each is a folder in `benches/peers`.
//! Its program `install` fetches packages from ordinary registries into the working directory. Its
//! program `start` becomes the server. Both get the variable `PARTS`, their folder. `start` also
//! gets `PACKAGES` (the installed packages), `PORT`, `KEY`, and `STORE` (a SQLite file with a table
//! `events`).

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::generator::KEY;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

/// The peers with these names; `all` means all of them.
pub fn chosen(names: &[String]) -> anyhow::Result<Vec<String>> {
    let mut known = vec!["all".to_owned()];
    for entry in std::fs::read_dir(PEERS)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            known.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    known.sort();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("--peers: there is no `{unknown}`, but {}", known.join(", "));
    }
    let all = names.iter().any(|name| name == "all");
    known.retain(|name| name != "all" && (all || names.contains(name)));
    Ok(known)
}

/// Installs a peer, unless it is installed and its folder has not changed since.
pub fn install(name: &str) -> anyhow::Result<()> {
    let (parts, packages) = folders(name);
    let mut wanted = String::new();
    for entry in std::fs::read_dir(&parts)? {
        let path = entry?.path();
        write!(
            wanted,
            "{}:\n{}\n",
            path.display(),
            std::fs::read_to_string(&path)?
        )?;
    }
    let record = packages.join("installed.txt");
    if std::fs::read_to_string(&record).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("installing {name}");
    if packages.exists() {
        std::fs::remove_dir_all(&packages)?;
    }
    std::fs::create_dir_all(&packages)?;
    let mut install = Command::new(parts.join("install"));
    let status = install
        .env("PARTS", &parts)
        .current_dir(&packages)
        .status()?;
    ensure!(status.success(), "its `install` ended with {status}");
    Ok(std::fs::write(record, wanted)?)
}

/// The command that starts a peer in its own folder.
pub fn command(name: &str, dir: &Path, store: &Path, port: u16) -> Command {
    let (parts, packages) = folders(name);
    let mut command = Command::new(parts.join("start"));
    command
        .current_dir(dir)
        .env("PARTS", parts)
        .env("PACKAGES", packages);
    command
        .env("PORT", port.to_string())
        .env("KEY", KEY)
        .env("STORE", store);
    command
}

/// The number of events in the store of a peer.
pub fn count(store: &Path) -> anyhow::Result<u64> {
    let store = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let count: i64 = store.query_row("SELECT count(*) FROM events", (), |row| row.get(0))?;
    u64::try_from(count).context("less than no events")
}

fn folders(name: &str) -> (PathBuf, PathBuf) {
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    (Path::new(PEERS).join(name), packages.join(name))
}
