//! What is measured: the bare server, livehook with more and more handlers, and the peers.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::generator::KEY;
use crate::peer;
use crate::process::{Process, free_port};
use crate::{bare, instant};

/// The store moves its log into its file a moment after the answers.
const COMMIT_DELAY: Duration = Duration::from_millis(300);
/// The beginning of a successful answer.
const OK: &str = "HTTP/1.1 200 ";
/// The longest time until handlers have caught up.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A server to measure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Subject {
    /// (a): an axum handler that reads the body and answers
    Axum,
    /// (b): livehook without handlers, and the open loop
    Livehook,
    /// (b) with a handler that gets every event and is done at once
    Instant,
    /// (c): livehook with a handler that writes a file
    One,
    /// (c): livehook with three handlers, a file, a file of typed events, and the log
    Three,
    /// A folder of `benches/peers`.
    #[value(skip)]
    Peer(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Axum => f.write_str("(a) axum, stores nothing"),
            Self::Livehook => f.write_str("(b) livehook, no handler"),
            Self::Instant => f.write_str("(b) and a handler that does nothing"),
            Self::One => f.write_str("(c) livehook, one handler"),
            Self::Three => f.write_str("(c) livehook, three handlers"),
            Self::Peer(name) => write!(f, "{name} and SQLite"),
        }
    }
}

/// A started subject.
pub struct Server {
    pub process: Process,
    pub port: u16,
    events: Events,
}

/// Where the stored events can be counted.
enum Events {
    Nowhere,
    /// At the admin listener of livehook.
    Metrics(u16),
    /// In the store of a peer.
    Table(PathBuf),
}

impl Subject {
    /// The servers of this repository.
    pub const OWN: [Self; 5] = [
        Self::Axum,
        Self::Livehook,
        Self::Instant,
        Self::One,
        Self::Three,
    ];

    /// Starts the server with its store in this folder.
    pub fn start(&self, dir: &Path) -> anyhow::Result<Server> {
        let log = match self {
            // Its handler writes a line for each event.
            Self::Three => "/dev/null".into(),
            _ => dir.join("log.txt"),
        };
        let (process, port, events) = match self {
            Self::Axum => {
                let port = free_port()?;
                let mut command = Command::new(std::env::current_exe()?);
                command.args([bare::ARGUMENT, &port.to_string()]);
                (Process::start(command, port, log)?, port, Events::Nowhere)
            }
            Self::Peer(name) => {
                let port = free_port()?;
                let store = dir.join("store.db");
                let command = peer::command(name, dir, &store, port);
                let process = Process::start(command, port, log)?;
                (process, port, Events::Table(store))
            }
            Self::Instant => {
                let mut command = Command::new(std::env::current_exe()?);
                command.env_clear().arg(instant::ARGUMENT);
                return livehook(command, self.handlers(), dir, &log);
            }
            _ => return livehook(program(), self.handlers(), dir, &log),
        };
        Ok(Server {
            process,
            port,
            events,
        })
    }

    /// The `[handlers]` sections of the configuration.
    pub fn handlers(&self) -> &'static str {
        match self {
            Self::One => "[handlers.file]\nto = { type = \"file\", path = \"events.jsonl\" }\n",
            Self::Three => {
                "[handlers.file]\nto = { type = \"file\", path = \"events.jsonl\" }\n\
                 [handlers.typed]\npayload = \"typed\"\nto = { type = \"file\", path = \"typed.jsonl\" }\n\
                 [handlers.log]\nto = { type = \"log\" }\n"
            }
            _ => "",
        }
    }
}

/// A command for livehook.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livehook"));
    // Variables might change the configuration.
    command.env_clear();
    command
}

/// Starts livehook by a command, with its store in this folder.
pub fn livehook(
    mut command: Command,
    handlers: &str,
    dir: &Path,
    log: &Path,
) -> anyhow::Result<Server> {
    let (port, admin) = (free_port()?, free_port()?);
    let file = dir.join("livehook.toml");
    let configuration = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\ndrain_delay = \"0s\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n[sources.css]\nkeys = [\"{KEY}\"]\n{handlers}"
    );
    std::fs::write(&file, configuration)?;
    command.args(["serve", "--config"]).arg(file);
    Ok(Server {
        // The admin listener is the last to be opened.
        process: Process::start(command, admin, log.to_owned())?,
        port,
        events: Events::Metrics(admin),
    })
}

impl Server {
    /// The number of stored events; none if the server does not store.
    pub fn stored(&self) -> anyhow::Result<Option<u64>> {
        match &self.events {
            Events::Nowhere => Ok(None),
            Events::Metrics(admin) => {
                let accepted = |series: &str| {
                    series.starts_with("livehook_callbacks_total{")
                        && series.contains("result=\"accepted\"")
                };
                Ok(Some(metric(*admin, accepted)?))
            }
            Events::Table(store) => peer::count(store).map(Some),
        }
    }

    /// Waits until the server is ready for callbacks.
    pub fn wait_until_ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + TIMEOUT;
        while !get(self.port, "/readyz")?.starts_with(OK) {
            ensure!(
                Instant::now() < until,
                "it is not ready; {}",
                self.process.log_tail()
            );
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until every handler has processed every event, and the store has finished its work
    /// after the answers. Polls every `pause`.
    pub fn catch_up(&self, pause: Duration) -> anyhow::Result<()> {
        sleep(COMMIT_DELAY);
        let Events::Metrics(admin) = self.events else {
            return Ok(());
        };
        let until = Instant::now() + TIMEOUT;
        let lag = |series: &str| series.starts_with("livehook_handler_lag_events{");
        while metric(admin, lag)? > 0 {
            ensure!(
                Instant::now() < until,
                "the handlers do not catch up; {}",
                self.process.log_tail()
            );
            sleep(pause);
        }
        Ok(())
    }
}

impl Server {
    /// Waits until the board has all events and nothing is written any more. Returns the bytes that were written.
    pub fn settle(&self) -> anyhow::Result<u64> {
        self.wait_for_board(COMMIT_DELAY)?;
        let until = Instant::now() + TIMEOUT;
        let mut written = self.process.written()?;
        loop {
            sleep(COMMIT_DELAY);
            let before = std::mem::replace(&mut written, self.process.written()?);
            if before == written {
                return Ok(written);
            }
            ensure!(
                Instant::now() < until,
                "it does not stop writing; {}",
                self.process.log_tail()
            );
        }
    }

    /// The bytes of zeros that livehook has written ahead.
    pub fn zeros(&self) -> anyhow::Result<u64> {
        match self.events {
            Events::Metrics(admin) => metric(admin, |series| {
                series == "livehook_inbox_preallocated_bytes_total"
            }),
            _ => Ok(0),
        }
    }

    /// The answer of the admin listener.
    pub fn ask_admin(&self, path: &str) -> anyhow::Result<String> {
        match self.events {
            Events::Metrics(admin) => get(admin, path),
            _ => anyhow::bail!("it has no admin listener"),
        }
    }

    /// Waits until all stored events are on the board of streams. Polls every `pause`.
    pub fn wait_for_board(&self, pause: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + TIMEOUT;
        let Events::Metrics(admin) = self.events else {
            return Ok(());
        };
        while metric(admin, |series| series == "livehook_streams_lag_events")? > 0 {
            ensure!(
                Instant::now() < until,
                "the board does not catch up; {}",
                self.process.log_tail()
            );
            sleep(pause);
        }
        Ok(())
    }
}

/// The sum of the wanted series of livehook's metrics.
fn metric(admin: u16, wanted: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
    let text = get(admin, "/metrics")?;
    ensure!(text.starts_with(OK), "the metrics cannot be read: {text}");
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let values = series
        .filter(|(series, _)| wanted(series))
        .map(|(_, value)| value.parse::<u64>());
    values
        .sum::<Result<u64, _>>()
        .context("a metric is no number")
}

/// The whole answer.
fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text)
}
