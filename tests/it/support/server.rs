//! The built binary as a process, with a directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::postgres::shared;
use super::{Answer, Client, KEY, wait_for};

/// A running `livehook serve`. Dropping it kills the process.
pub struct TestServer {
    child: Child,
    /// Where callbacks go.
    pub addr: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    directory: Directory,
}

enum Directory {
    Own(TempDir),
    Given(PathBuf),
}

/// How to start a server. The default is a source `css` with [`KEY`], free ports, and nothing else.
pub struct Settings {
    pub server: String,
    pub inbox: String,
    pub admin: String,
    pub sources: String,
    pub handlers: String,
    pub env: Vec<(String, String)>,
    /// A program with arguments that becomes the server, such as `strace -D`; empty: none.
    pub under: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: "drain_delay = \"0s\"".into(),
            inbox: String::new(),
            admin: String::new(),
            sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\n"),
            handlers: String::new(),
            env: Vec::new(),
            under: Vec::new(),
        }
    }
}

/// A file handler that writes `events.jsonl` into the server's directory.
pub const FILE_HANDLER: &str =
    "[handlers.file]\nto = { type = \"file\", path = \"events.jsonl\" }\n";

/// `[inbox]` of both engines, each empty.
pub fn both_engines() -> [String; 2] {
    let url = shared().url(&shared().create_database());
    [
        String::new(),
        format!("engine = \"postgres\"\nurl = \"{url}\""),
    ]
}

impl Settings {
    /// The default with these `[handlers.…]` sections.
    pub fn with_handlers(handlers: &str) -> Self {
        Self {
            handlers: handlers.to_owned(),
            ..Self::default()
        }
    }

    /// At these addresses, also when it starts again.
    #[must_use]
    pub fn at(mut self, callbacks: SocketAddr, admin: SocketAddr) -> Self {
        for (name, address) in [("SERVER", callbacks), ("ADMIN", admin)] {
            let variable = format!("LIVEHOOK__{name}__LISTEN");
            self.env.push((variable, address.to_string()));
        }
        self
    }

    /// The text of the configuration file.
    pub fn to_toml(&self) -> String {
        // The other engine has no directory.
        let path = if self.inbox.contains("engine") {
            ""
        } else {
            "path = \"data\""
        };
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{}\n[admin]\nlisten = \"127.0.0.1:0\"\n{}\n[inbox]\n{path}\n{}\n\n{}\n{}\n",
            self.server, self.admin, self.inbox, self.sources, self.handlers
        )
    }
}

/// The built binary with a clean environment.
pub fn livehook() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_livehook")))
}

fn clean(mut command: Command) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn livehook_under(under: &[String]) -> Command {
    let Some((program, arguments)) = under.split_first() else {
        return livehook();
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(env!("CARGO_BIN_EXE_livehook"));
    clean(command)
}

/// The process, which logs into the directory.
fn serve(directory: &Path, settings: &Settings) -> Child {
    std::fs::write(directory.join("livehook.toml"), settings.to_toml()).unwrap();
    let log = std::fs::File::create(directory.join("log.txt")).unwrap();
    livehook_under(&settings.under)
        .args(["serve", "--config"])
        .arg(directory.join("livehook.toml"))
        .envs(settings.env.iter().cloned())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl TestServer {
    /// Starts in a fresh directory.
    pub fn start(settings: &Settings) -> Self {
        Self::spawn(Directory::Own(tempfile::tempdir().unwrap()), settings)
    }

    /// Starts in a directory that stays.
    pub fn start_in(directory: &Path, settings: &Settings) -> Self {
        Self::spawn(Directory::Given(directory.to_owned()), settings)
    }

    /// Starts at these addresses without waiting until it listens.
    pub fn launch(settings: Settings, callbacks: SocketAddr, admin: SocketAddr) -> Self {
        let directory = Directory::Own(tempfile::tempdir().unwrap());
        let child = serve(directory.path(), &settings.at(callbacks, admin));
        Self {
            child,
            addr: callbacks,
            admin,
            directory,
        }
    }

    fn spawn(directory: Directory, settings: &Settings) -> Self {
        let path = directory.path().to_owned();
        let mut child = serve(&path, settings);
        let (addr, admin) = wait_for("the server to listen", || {
            let log = std::fs::read_to_string(path.join("log.txt")).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{log}");
            }
            let line = log
                .lines()
                .find(|line| line.contains("callbacks are taken"))?;
            // `name=value` in a log for people, `"name":"value"` in a JSON one.
            let field = |name: &str| {
                let rest = line.split(name).nth(1)?.trim_start_matches(['"', ':', '=']);
                rest.split([' ', '"']).next()?.parse().ok()
            };
            Some((field("server.listen")?, field("admin.listen")?))
        });
        Self {
            child,
            addr,
            admin,
            directory,
        }
    }

    /// Its directory: `livehook.toml`, `data`, `log.txt`, and whatever handlers write.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log.txt")).unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Posts over a connection of its own.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.client().post(path, body).unwrap()
    }

    /// Asks the admin listener.
    pub fn get(&self, path: &str) -> Answer {
        Client::new(self.admin).get(path).unwrap()
    }

    /// Posts to the admin listener.
    pub fn command(&self, path: &str, body: &Value) -> Answer {
        Client::new(self.admin)
            .post(path, body.to_string())
            .unwrap()
    }

    /// The value of a metric with exactly these labels (as in `name{a="b"}`); zero if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// All events that are stored, by their attributes, in arrival order.
    pub fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/api/events?limit=1000{after}")).json();
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return all,
            }
        }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it at once, as a power cut would end the process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Where callbacks of the source `css` go.
    pub fn css(&self) -> String {
        format!("http://{}/css", self.addr)
    }

    /// The admin listener as a URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it has not ended:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(Duration::from_secs(16))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}
