//! The proof that nothing is lost, by the simulator as the sender: kills, an outage, wrong clocks, crowds, slow connections.
//!
//! `LIVEHOOK_CRASHES=100` makes the storm longer, and `soak`, which is ignored otherwise, does everything at once for
//! `LIVEHOOK_SOAK` (such as `2h`; one minute if unset).

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

/// A server that can be killed and comes back with its store at its addresses.
struct RestartedServer {
    settings: Settings,
    directory: TempDir,
    callbacks: SocketAddr,
    admin: SocketAddr,
    server: Option<TestServer>,
}

impl RestartedServer {
    /// With a token beside the key, so that kinds without signature are taken, and a file handler.
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

    /// What a simulation needs to know beside the key.
    fn arguments(&self) -> String {
        format!("--token hush --verify http://{}", self.admin)
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn start_again(&mut self) {
        self.server = Some(TestServer::start_in(self.directory.path(), &self.settings));
    }

    /// Until callbacks arrive.
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

/// Every event reached the file: those that are stored, and no other.
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

/// The lines of the file but those that a kill tore.
fn lines(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("events.jsonl")).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The kinds that the platform repeats for longer than this, as `--kinds` takes them: the others may be given up by right.
fn repeated_for(time: Duration) -> String {
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| kind.retry_schedule().window() > time);
    kinds.map(Kind::slug).collect::<Vec<_>>().join(",")
}

/// Nothing was lost, altered, doubled, forged or given up.
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
