//! Finds PostgreSQL's programs, and runs them as the right user.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below 32768: from there on, the system hands out ports itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A command for one of PostgreSQL's programs.
pub fn program(name: &str) -> Command {
    as_other_user(folder().join(name))
}

/// A command with a clean environment. If the tests run as root, it runs as another user, because
/// PostgreSQL and PgBouncer refuse to run as root.
pub fn as_other_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C");
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Gives a path to the server's user, with these permissions.
pub fn give(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if let Some((user, group)) = other_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// A port at which nobody listens now.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different ports.
    let first = std::process::id().wrapping_mul(97);
    let many = u32::from(PORTS.end - PORTS.start);
    loop {
        let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (first.wrapping_add(tried) % many) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The folder of the programs: from `PATH`, or the newest of the packages of Debian or PostgreSQL.
fn folder() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A folder in `PATH` may have links to only some of the programs.
    let mut folders = std::env::split_paths(&path).filter_map(|folder| {
        Some(
            folder
                .join("initdb")
                .canonicalize()
                .ok()?
                .parent()?
                .to_owned(),
        )
    });
    folders
        .find(|folder| is_complete(folder))
        .or_else(newest_package)
        .expect("PostgreSQL's server programs are not installed: see tests/run")
}

fn is_complete(folder: &Path) -> bool {
    let mut needed = ["initdb", "postgres", "pg_basebackup", "pg_isready", "psql"].iter();
    needed.all(|name| folder.join(name).exists())
}

fn newest_package() -> Option<PathBuf> {
    let (debian, others) = (Path::new("/usr/lib/postgresql"), Path::new("/usr"));
    let folders = [(debian, ""), (others, "pgsql-")]
        .into_iter()
        .flat_map(|(folder, prefix)| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(move |entry| {
                let name = entry.file_name();
                let version: u32 = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
        });
    let installed = folders.filter(|(_, folder)| is_complete(folder));
    installed.max().map(|(_, folder)| folder)
}

/// The user for the programs if the tests run as root: that of the package, or nobody.
fn other_user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}
