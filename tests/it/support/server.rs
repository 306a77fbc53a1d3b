//! Runs the built binary as a process with its own directory.

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
    /// The address for callbacks.
    pub addr: SocketAddr,
    /// The address of the admin listener.
    pub admin: SocketAddr,
    directory: Directory,
}

enum Directory {
    Own(TempDir),
    Given(PathBuf),
}

/// The configuration of a server, as parts of TOML. The default is a source `css` with [`KEY`],
/// free ports, and no handler.
pub struct Settings {
    pub server: String,
    pub inbox: String,
    pub admin: String,
    pub sources: String,
    pub handlers: String,
    pub env: Vec<(String, String)>,
    /// A program with arguments that runs the server, such as `strace -D`. Empty: none.
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

/// The `[inbox]` sections of both engines, each with an empty store.
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

    /// The same settings with fixed addresses, so that a restarted server keeps them.
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
        // PostgreSQL needs no directory.
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

/// A command for the built binary, with a clean environment.
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

/// Compiles a library of the tests into a directory. The variable `LD_PRELOAD` has a server load it.
pub fn preloaded(source: &str, directory: &Path) -> PathBuf {
    let library = directory.join("preloaded.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it")
        .join(source);
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(
        compiled.unwrap().success(),
        "cc could not compile {}",
        source.display()
    );
    library
}

/// Starts the process. Its log goes to `log.txt` in the directory.
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
    /// Starts a server in a new directory, and waits until it listens.
    pub fn start(settings: &Settings) -> Self {
        Self::spawn(Directory::Own(tempfile::tempdir().unwrap()), settings)
    }

    /// Starts a server in a given directory, which is not removed.
    pub fn start_in(directory: &Path, settings: &Settings) -> Self {
        Self::spawn(Directory::Given(directory.to_owned()), settings)
    }

    /// Starts a server at these addresses without waiting until it listens.
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
                .find(|line| line.contains("accepting callbacks"))?;
            // `name=value` in a text log, `"name":"value"` in a JSON log.
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

    /// The directory of the server: `livehook.toml`, `data`, `log.txt`, and the files of handlers.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log.txt")).unwrap()
    }

    /// A client for callbacks.
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Posts a callback over a new connection.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.client().post(path, body).unwrap()
    }

    /// Gets a page of the admin listener.
    pub fn get(&self, path: &str) -> Answer {
        Client::new(self.admin).get(path).unwrap()
    }

    /// Posts to the admin listener.
    pub fn command(&self, path: &str, body: &Value) -> Answer {
        Client::new(self.admin)
            .post(path, body.to_string())
            .unwrap()
    }

    /// The value of a metric, named with its labels as in `name{a="b"}`. A missing metric is zero.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// The attributes of all stored events, in arrival order.
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

    /// Sends the process a signal by its name, such as `TERM`.
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

    /// Kills the process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The callback URL of the source `css`.
    pub fn css(&self) -> String {
        format!("http://{}/css", self.addr)
    }

    /// The URL of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Waits until the process ends. Fails after `limit`.
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

    /// Sends SIGTERM and waits for the end.
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
