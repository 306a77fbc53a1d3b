//! What sends: wrk as fast as answers come, the simulator at a given rate.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use livehook::auth::sign;
use livehook::clock::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The key of every server.
pub const KEY: &str = "BenchBenchBenchBenchBenchBench12";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/callback.lua");

/// What wrk does.
pub struct Load {
    pub connections: u32,
    pub seconds: u32,
    /// Another one for each load on the same store.
    pub seed: u32,
}

/// What its script says.
#[derive(Debug, Deserialize)]
pub struct Answers {
    pub answers: u64,
    pub failed: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// What `livehook simulate` says.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub sent: u64,
    pub acknowledged: u64,
    pub retried: u64,
    pub rate: f64,
    pub kept_up: bool,
    pub latency_ms: Latency,
}

#[derive(Debug, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

/// Fails if there is no wrk.
pub fn check() -> anyhow::Result<()> {
    // It has no option that does nothing and succeeds.
    let found = Command::new("wrk")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found
        .map(|_| ())
        .context("cannot start wrk; on Debian and Ubuntu: apt-get install wrk")
}

impl Load {
    /// Fails unless there were answers and all of them were 200.
    pub fn put_on(&self, port: u16) -> anyhow::Result<Answers> {
        // The platform's ten minutes, from when the last one is sent.
        let t = (Clock::system().now().seconds() + i64::from(self.seconds) + 600).to_string();
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "--latency", "--timeout", "20s", "-s", SCRIPT])
            .arg(format!("-c{}", self.connections))
            .arg(format!("-d{}s", self.seconds))
            .arg(format!("http://127.0.0.1:{port}/css"))
            .args(["--", &t, &sign(KEY, &t), &self.seed.to_string()]);
        let answers: Answers = last_line(wrk)?;
        let Answers {
            answers: number,
            failed,
            ..
        } = answers;
        ensure!(
            failed == 0,
            "{failed} of {number} requests were NOT answered 200"
        );
        ensure!(number > 0, "nothing was answered");
        Ok(answers)
    }
}

/// Sends so many events per second. Fails unless there were some and all of them were acknowledged at once.
pub fn simulate(port: u16, rate: f64, connections: u32, seconds: u32) -> anyhow::Result<Report> {
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_livehook"));
    simulator
        .args([
            "simulate",
            "--report",
            "json",
            "--kinds",
            "stream-begin,stream-end",
            "--key",
            KEY,
        ])
        .args(["--url", &format!("http://127.0.0.1:{port}/css")])
        .args(["--rate", &rate.to_string()])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .stderr(Stdio::null());
    let report: Report = last_line(simulator)?;
    let Report {
        sent,
        acknowledged,
        retried,
        ..
    } = report;
    ensure!(
        acknowledged == sent && retried == 0,
        "of {sent} events {acknowledged} were acknowledged, and {retried} requests had to be repeated"
    );
    ensure!(sent > 0, "nothing was sent");
    Ok(report)
}

/// Runs it and reads the last line that it prints.
fn last_line<T: DeserializeOwned>(mut command: Command) -> anyhow::Result<T> {
    let output = command.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().last().filter(|_| output.status.success()) else {
        bail!("the generator ended with {}: {text}", output.status);
    };
    serde_json::from_str(line).with_context(|| format!("the generator said {line}"))
}
