//! A PgBouncer in front of a server.

use std::process::{Child, Stdio};
use std::time::Instant;

use super::programs::{as_other_user, free_port};
use super::{Postgres, TIMEOUT};

/// The connections to the server for one database: fewer than a single receiver opens.
pub const SERVER_CONNECTIONS: u32 = 4;

/// Ends PgBouncer when the tests end, however they do.
const GUARD: &str = r#""$0" -q "$1" & pid=$!; read -r _; kill -TERM $pid; wait"#;

/// A running PgBouncer. Its files are in the server's directory. Dropping it ends the process.
pub struct Pooler {
    port: u16,
    guard: Child,
}

impl Pooler {
    /// Starts one that takes a server connection back after each transaction.
    pub fn of_transactions(postgres: &Postgres) -> Self {
        let port = free_port();
        let users = postgres.install(&format!("users-{port}.txt"), b"\"postgres\" \"\"\n");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n",
            postgres.port(),
            users.display(),
        );
        let pooler = Self::start(postgres, port, &settings);
        let until = Instant::now() + TIMEOUT;
        while postgres.run(&pooler.url("postgres"), "SELECT 1").is_err() {
            assert!(Instant::now() < until, "PgBouncer does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        pooler
    }

    /// With these settings, which have it listen at this port.
    pub fn start(postgres: &Postgres, port: u16, settings: &str) -> Self {
        let log = postgres.home().join(format!("pooler-{port}.log"));
        let settings = format!(
            "{settings}\nunix_socket_dir =\nlogfile = {}\n",
            log.display()
        );
        let file = postgres.install(&format!("pooler-{port}.ini"), settings.as_bytes());
        let guard = as_other_user("sh")
            .args(["-c", GUARD])
            // Its folder may not be in `PATH`.
            .arg("/usr/sbin/pgbouncer")
            .arg(file)
            .current_dir(postgres.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { port, guard }
    }

    /// The URL of a database through the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
