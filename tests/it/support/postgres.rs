//! Runs PostgreSQL servers for the tests, from the installed programs: each in a new directory, at
//! a free port, on loopback.
//!
//! This uses only the standard library, because the unit tests of the library include this file
//! too. Processes and files of a server are removed however the test process ends: a shell waits
//! for the end of a pipe that only this process holds, see `guard.sh`.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

// With paths, so that they are found from both places that include this file.
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/pooler.rs"]
pub mod pooler;
#[path = "postgres/processes.rs"]
mod processes;
#[path = "postgres/programs.rs"]
pub mod programs;
#[path = "postgres/replication.rs"]
mod replication;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use self::programs::{give, program};

/// A role with a password that may create tables in every database.
pub const OWNER: &str = "owner";
/// The password of [`OWNER`], with characters that a URL has to escape.
pub const OWNER_PASSWORD: &str = "a/b@c:d%e";
/// A role that may connect, but create nothing.
pub const GUEST: &str = "guest";

/// The `pg_hba.conf`: who may log in, and how. Others are refused.
const HBA: &str = "\
host all owner 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
";

/// A small server with full durability. The shared memory is in the directory, so that a SIGKILL
/// leaves nothing behind.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("shared_buffers", "32MB"),
    ("max_connections", "200"),
    ("dynamic_shared_memory_type", "mmap"),
    ("wal_keep_size", "256MB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("password_encryption", "scram-sha-256"),
    ("autovacuum_naptime", "5s"),
    ("log_line_prefix", "%m %u@%d "),
];

/// The longest time for a server to start, stop, follow or be promoted.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A PostgreSQL server. Dropping it ends its processes and removes its directory.
pub struct Postgres {
    /// The directory with `data`, the log, and the socket.
    home: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Child>>,
    /// Removes everything when its standard input ends.
    guard: Child,
}

/// One server for the whole test process, started at the first call.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

impl Postgres {
    /// Starts a server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with additional settings.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let server = Self::empty();
        let initdb = server
            .command("initdb")
            .args(["--no-sync", "--locale=C", "--encoding=UTF8"])
            .args(["--username=postgres", "--auth=trust", "--pgdata=data"])
            .output()
            .unwrap();
        assert!(
            initdb.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let mut text = String::new();
        for (name, value) in SETTINGS.iter().chain(settings) {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        server.append("data/postgresql.conf", &text);
        std::fs::write(server.home.join("data/pg_hba.conf"), HBA).unwrap();
        let server = server.started();
        let roles = format!(
            "CREATE ROLE {OWNER} LOGIN PASSWORD '{OWNER_PASSWORD}'; CREATE ROLE {GUEST} LOGIN;"
        );
        server.sql("postgres", &roles);
        server
    }

    /// Makes a directory without a database cluster, and its guard.
    fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("livehook-postgres-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        // It may remain from an earlier process with this id whose guard was killed.
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        give(&home, 0o700);
        let guard = Command::new("sh")
            .args(["-c", include_str!("postgres/guard.sh"), "guard"])
            .arg(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // In its own group, the guard does not get the Ctrl-C that ends the tests.
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            home,
            port: 0,
            postmaster: Mutex::new(None),
            guard,
        }
    }

    /// Starts at a free port.
    fn started(mut self) -> Self {
        let until = Instant::now() + TIMEOUT;
        loop {
            self.port = programs::free_port();
            if self.try_start() {
                return self;
            }
            // Another process may have taken the port meanwhile.
            assert!(
                self.log().contains("could not bind"),
                "it does not start:\n{}",
                self.log()
            );
            assert!(Instant::now() < until, "no port is free:\n{}", self.log());
        }
    }

    /// Starts again at the same port with the same data.
    pub fn start_again(&self) {
        assert!(self.try_start(), "it does not start again:\n{}", self.log());
    }

    /// Starts at the current port. Returns false if the server ends before it is ready.
    fn try_start(&self) -> bool {
        let mut postmaster = self.postmaster.lock().unwrap();
        assert!(postmaster.is_none(), "it runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .unwrap();
        let child = self
            .command("postgres")
            .args(["-D", "data", "-p", &self.port.to_string()])
            .arg("-k")
            .arg(&self.home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let child = postmaster.insert(child);
        let until = Instant::now() + TIMEOUT;
        while !self.is_ready(child.id()) {
            if child.try_wait().unwrap().is_some() {
                *postmaster = None;
                return false;
            }
            assert!(
                Instant::now() < until,
                "it does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Whether this postmaster says that it is ready. Another server might answer at the port.
    fn is_ready(&self, postmaster: u32) -> bool {
        let text = std::fs::read_to_string(self.home.join("data/postmaster.pid"));
        let text = text.unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&postmaster.to_string())
            && lines
                .nth(6)
                .is_some_and(|status| ["ready", "standby"].contains(&status.trim()))
    }

    /// Whether the server accepts connections.
    pub fn answers(&self) -> bool {
        let asked = self
            .command("pg_isready")
            .args([
                "-q",
                "-t",
                "2",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
            ])
            .status();
        asked.unwrap().success()
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a database for a role. An empty password is left out.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        let mut secret = String::new();
        for byte in password.bytes() {
            secret += &format!("%{byte:02X}");
        }
        let colon = if secret.is_empty() { "" } else { ":" };
        format!(
            "postgres://{role}{colon}{secret}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Creates a database in which [`OWNER`] may do everything and [`GUEST`] nothing. Returns its
    /// name.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"));
        // PostgreSQL 13 and 14 let everybody create tables in `public`.
        self.sql(
            &name,
            &format!(
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO {OWNER}"
            ),
        );
        name
    }

    /// Runs statements and returns their rows as `a|b` lines. Each statement is its own
    /// transaction, unless they say otherwise.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The same, but returns errors of the server.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.run(&self.url(database), sql)
    }

    /// The same, as the user of the URL.
    pub fn run(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut psql = self
            .command("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-d", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // psql may have ended already because no server answers.
        let _ = psql.stdin.take().unwrap().write_all(sql.as_bytes());
        let out = psql.wait_with_output().unwrap();
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        Ok(String::from_utf8(out.stdout).unwrap().trim_end().to_owned())
    }

    /// Changes settings that need no restart.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.sql(
                "postgres",
                &format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")),
            );
        }
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Writes a file into the server's directory that only the server's user can read, such as a
    /// key.
    pub fn install(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.home.join(name);
        std::fs::write(&path, contents).unwrap();
        give(&path, 0o600);
        path
    }

    /// The log of the server.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// The directory of the server.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// One of the server's programs, as the server's user, in its home.
    pub fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        command.current_dir(&self.home);
        command
    }

    fn append(&self, file: &str, text: &str) {
        let mut file = std::fs::File::options()
            .append(true)
            .open(self.home.join(file))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !is_so() {
            assert!(
                Instant::now() < until,
                "waited in vain for {what}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        // The lock is poisoned if the start panicked.
        let postmaster = self.postmaster.get_mut();
        if let Some(child) = postmaster.unwrap_or_else(PoisonError::into_inner) {
            let _ = child.wait();
        }
    }
}
