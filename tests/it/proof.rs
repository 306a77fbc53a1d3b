//! Checks with the simulator that nothing is lost: kills, an outage, wrong clocks, many
//! connections, slow connections.
//! `LIVEHOOK_CRASHES=100` makes the test with kills longer. `soak` is ignored by default; it does
//! everything at once for `LIVEHOOK_SOAK` (such as `2h`; one minute if unset).

mod clocks;
mod kills;
mod load;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use css_callbacks::Kind;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::server::FILE_HANDLER;
use crate::support::target::reserve;
use crate::support::{KEY, Settings, TestServer, wait_for};

/// A server that can be killed and started again with the same store and addresses.
struct RestartedServer {
    settings: Settings,
    directory: TempDir,
    callbacks: SocketAddr,
    admin: SocketAddr,
    server: Option<TestServer>,
}

impl RestartedServer {
    /// Starts it with a key, a token (so that unsigned kinds are accepted too), and a file handler.
    fn start() -> Self {
        let (callbacks, admin) = (reserve(), reserve());
        let settings = Settings {
            sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"hush\"\n"),
            ..Settings::with_handlers(FILE_HANDLER)
        };
        let mut restarted = Self {
            settings: settings.at(callbacks, admin),
            directory: tempfile::tempdir().unwrap(),
            callbacks,
            admin,
            server: None,
        };
        restarted.start_again();
        restarted
    }

    fn css(&self) -> String {
        format!("http://{}/css", self.callbacks)
    }

    /// The arguments of a simulation, except the key.
    fn arguments(&self) -> String {
        format!("--token hush --verify http://{}", self.admin)
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn start_again(&mut self) {
        self.server = Some(TestServer::start_in(self.directory.path(), &self.settings));
    }

    /// Waits until callbacks arrive.
    fn wait_for_callbacks(&self) {
        wait_for("the first callbacks", || {
            let metrics = self.server().get("/metrics").text();
            let mut accepted = metrics
                .lines()
                .filter(|line| line.contains("result=\"accepted\""));
            accepted.any(|line| !line.ends_with(" 0")).then_some(())
        });
    }

    fn server(&self) -> &TestServer {
        self.server.as_ref().unwrap()
    }
}

/// Fails unless the file has exactly the stored events.
fn assert_delivered(server: &TestServer) {
    let stored = server.events();
    let ids = |events: &[Value]| -> BTreeSet<String> {
        let ids = events
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    wait_for("the file to have everything", || {
        (server.metric("livehook_handler_lag_events{handler=\"file\"}") == 0.0).then_some(())
    });
    assert_eq!(ids(&lines(server.path())), ids(&stored));
}

/// The lines of the file, except those that a kill left incomplete.
fn lines(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("events.jsonl")).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The kinds that the platform repeats for longer than this, for `--kinds`. Others may be given up.
fn repeated_for(time: Duration) -> String {
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| kind.retry_schedule().window() > time);
    kinds.map(Kind::slug).collect::<Vec<_>>().join(",")
}

/// Fails if an event was lost, altered, doubled, forged or given up.
#[track_caller]
fn assert_proven(report: &Value) {
    assert_eq!(report["sent"], report["acknowledged"], "{report}");
    for name in ["lost", "given_up", "accepted_bad", "pending"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    for name in [
        "wrong_content",
        "stored_twice",
        "forged_stored",
        "others",
        "stored_unacknowledged",
    ] {
        assert_eq!(report["verified"][name], 0, "{name}: {report}");
    }
}
