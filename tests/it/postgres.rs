//! Several receivers that share one PostgreSQL, and failures of a receiver or the database.

mod failover;
mod failures;
mod harness;
mod operators;
mod pooler;
mod retention;
mod sharing;
mod starting;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::load::{Acknowledged, counts_in_order, whole_lines};
use crate::support::postgres::shared;
use crate::support::target::{Hit, Target, number_in_stream, reserve};
use crate::support::{Settings, TestServer, wait_up_to};

/// The shortest time of a lease. A receiver that does not renew it loses its handlers.
const TERM: Duration = Duration::from_secs(6);

/// The longest time until another receiver takes over an expired lease, on a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(20);

/// `[inbox]` for a PostgreSQL.
fn inbox(url: &str) -> String {
    format!("engine = \"postgres\"\nurl = \"{url}\"")
}

/// A fresh database of the shared server, as a URL.
fn database() -> String {
    shared().url(&shared().create_database())
}

/// A receiver whose addresses stay the same when it restarts.
struct Receiver {
    callbacks: SocketAddr,
    settings: Settings,
    directory: TempDir,
    server: Option<TestServer>,
}

impl Receiver {
    fn start(url: &str, handlers: &str) -> Self {
        Self::start_with(Settings {
            inbox: inbox(url),
            ..Settings::with_handlers(handlers)
        })
    }

    fn start_with(settings: Settings) -> Self {
        let (callbacks, admin) = (reserve(), reserve());
        let mut receiver = Self {
            callbacks,
            settings: settings.at(callbacks, admin),
            directory: tempfile::tempdir().unwrap(),
            server: None,
        };
        receiver.start_again();
        receiver
    }

    fn start_again(&mut self) {
        self.server = Some(TestServer::start_in(self.directory.path(), &self.settings));
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn server(&self) -> &TestServer {
        self.server.as_ref().unwrap()
    }

    /// The handlers that this receiver runs.
    fn handlers(&self) -> BTreeSet<String> {
        let page = self.server().get("/api/handlers").json();
        let items = page["items"].as_array().unwrap();
        let here = items.iter().filter(|item| item["state"] != "elsewhere");
        here.map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until it runs this many handlers. Returns the time that this took.
    fn wait_to_run(&self, handlers: usize) -> Duration {
        let began = Instant::now();
        wait_up_to(TAKE_OVER, "the handlers to be here", || {
            (self.handlers().len() == handlers).then_some(())
        });
        began.elapsed()
    }
}

/// A target and a file that receive all events, wherever their handlers run.
struct Ends {
    target: Target,
    directory: TempDir,
}

impl Ends {
    fn new() -> Self {
        Self {
            target: Target::good(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn handlers(&self) -> String {
        let common = "timeout = \"2s\"\nretry = { initial = \"50ms\", max = \"1s\" }";
        format!(
            "[handlers.file]\n{common}\nto = {{ type = \"file\", path = \"{}\" }}\n\
             [handlers.http]\n{common}\nconcurrency = 32\nto = {{ type = \"http\", url = \"{}\" }}\n",
            self.file().display(),
            self.target.url()
        )
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("events.jsonl")
    }

    /// Waits until all events have arrived, in order, and no others. Returns the numbers of repeats
    /// at the target and in the file.
    #[track_caller]
    fn assert_complete(&self, acknowledged: &Acknowledged) -> [u64; 2] {
        let total: u64 = acknowledged.values().sum();
        let everything = |came: &Acknowledged| came.values().sum::<u64>() >= total;
        let (hits, lines) = wait_up_to(
            Duration::from_secs(60),
            "everything to be delivered",
            || {
                let hits = self.target.delivered() as u64;
                let lines = (hits >= total).then(|| whole_lines(&self.file()).0)?;
                let hits = self.target.hits();
                let complete = everything(&counts_in_order(hits.iter().map(Hit::number_in_stream)))
                    && everything(&counts_in_order(lines.iter().map(number_in_stream)));
                complete.then_some((hits, lines))
            },
        );
        assert_eq!(
            &counts_in_order(hits.iter().map(Hit::number_in_stream)),
            acknowledged,
            "the target"
        );
        assert_eq!(
            &counts_in_order(lines.iter().map(number_in_stream)),
            acknowledged,
            "the file"
        );
        [hits.len() as u64 - total, lines.len() as u64 - total]
    }
}

/// Fails unless every acknowledged event is stored once and every receiver sees it.
fn assert_stored(receivers: &[&Receiver], acknowledged: &Acknowledged) {
    let total: u64 = acknowledged.values().sum();
    for receiver in receivers {
        let events = receiver.server().events();
        let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
        assert_eq!((ids.len() as u64, events.len() as u64), (total, total));
    }
}

/// The last line that a receiver logged before it ended.
fn last_line(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("log.txt")).unwrap();
    log.lines().last().unwrap_or_default().to_owned()
}
