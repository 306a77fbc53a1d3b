//! Runs wrk, which sends as fast as the server answers.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use css_callbacks::sign;
use livehook::Clock;
use serde::Deserialize;

/// The key of every server.
pub const KEY: &str = "BenchBenchBenchBenchBenchBench12";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/callback.lua");

/// A load by wrk.
pub struct Load {
    pub connections: u32,
    pub seconds: u32,
    /// Different for each load on the same store.
    pub seed: u32,
}

/// The result that the script of wrk prints.
#[derive(Debug, Deserialize)]
pub struct Answers {
    pub answers: u64,
    pub failed: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Fails if there is no wrk.
pub fn check() -> anyhow::Result<()> {
    // wrk has no option that does nothing and succeeds, so the exit code is ignored.
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
        // Ten minutes, as on the platform, from the time of the last request.
        let t = (Clock::system().now().seconds() + i64::from(self.seconds) + 600).to_string();
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "--latency", "--timeout", "20s", "-s", SCRIPT])
            .arg(format!("-c{}", self.connections))
            .arg(format!("-d{}s", self.seconds))
            .arg(format!("http://127.0.0.1:{port}/css"))
            .args(["--", &t, &sign(KEY, &t), &self.seed.to_string()]);
        let answers = last_line(wrk)?;
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

/// Runs wrk and reads the last line of its output.
fn last_line(mut command: Command) -> anyhow::Result<Answers> {
    let output = command.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().last().filter(|_| output.status.success()) else {
        bail!("the generator ended with {}: {text}", output.status);
    };
    serde_json::from_str(line).with_context(|| format!("the generator said {line}"))
}
