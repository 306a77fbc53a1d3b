//! A PostgreSQL server for one test.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};

pub(super) struct Server {
    dir: tempfile::TempDir,
    pub(super) port: u16,
    child: Option<Child>,
}

/// The superuser comes through the socket; others through the network with passwords, encrypted or not.
const HBA: &str = "local all postgres trust\nhost all stranger 127.0.0.1/32 reject\nhost all all localhost scram-sha-256\n";

impl Server {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            port: free.local_addr().unwrap().port(),
            dir,
            child: None,
        };
        server.own(&[server.dir.path()]);
        run(server
            .as_user("initdb")
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"])
            .arg(server.data()));
        fs::write(server.data().join("pg_hba.conf"), HBA).unwrap();
        fs::write(server.data().join("postgresql.auto.conf"), "ssl = on\n").unwrap();
        server.own(&[&server.data().join("postgresql.auto.conf")]);
        server.certify();
        drop(free);
        server.go();
        server.sql(
            "CREATE ROLE livehook LOGIN PASSWORD 'hush'; CREATE DATABASE inbox OWNER livehook",
        );
        server
    }

    /// Starts it, also after [`stop`](Self::stop), and waits until it answers.
    pub(super) fn go(&mut self) {
        let child = self
            .as_user("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-k", self.dir.path().to_str().unwrap()])
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "max_connections=30"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let began = Instant::now();
        while !self.psql("SELECT 1").status().unwrap().success() {
            assert!(began.elapsed() < Duration::from_secs(30));
            sleep(Duration::from_millis(50));
        }
    }

    /// Stops it at once, as a crash does.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
            let _ = child.wait();
        }
    }

    pub(super) fn sql(&self, statements: &str) {
        for statement in statements.split("; ") {
            run(&mut self.psql(statement));
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://livehook:hush@127.0.0.1:{}/inbox", self.port)
    }

    fn psql(&self, statement: &str) -> Command {
        let mut psql = self.as_user("psql");
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.dir.path())
            .args(["-p", &self.port.to_string(), "-c", statement])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        psql
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Makes a certificate authority, and a certificate for `localhost`.
    fn certify(&self) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        fs::write(self.path("names"), "subjectAltName=DNS:localhost").unwrap();
        for line in [
            format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 30"),
            format!("req {key} -keyout data/server.key -out server.csr -subj /CN=localhost"),
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names \
             -out data/server.crt"
                .to_owned(),
        ] {
            run(Command::new("openssl")
                .current_dir(self.dir.path())
                .args(line.split_whitespace()));
        }
        let [key, certificate] = ["server.key", "server.crt"].map(|file| self.data().join(file));
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        self.own(&[&key, &certificate]);
    }

    fn own(&self, paths: &[&Path]) {
        if let Some((user, group)) = user() {
            for path in paths {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
    }

    /// A program of PostgreSQL. It refuses to run as root, so another user runs it.
    fn as_user(&self, program: &str) -> Command {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
        let newest = versions.map(|version| version.unwrap().path()).max();
        let mut command = Command::new(newest.unwrap().join("bin").join(program));
        command.current_dir(self.dir.path()).env("LC_ALL", "C");
        if let Some((user, group)) = user() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The user that runs PostgreSQL if the test runs as root.
fn user() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let mut users = String::new();
    let mut file = fs::File::open("/etc/passwd").unwrap();
    file.read_to_string(&mut users).unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line
        .unwrap()
        .split(':')
        .skip(2)
        .map(|id| id.parse().unwrap());
    ids.next().zip(ids.next())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}
