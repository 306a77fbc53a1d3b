//! Runs `livehook simulate` as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use super::KEY;
use super::server::livehook;

/// A running simulation. Dropping it kills the process.
pub struct Simulation {
    child: Child,
    stderr: Option<JoinHandle<String>>,
}

/// The exit code and the output of a simulation.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Simulation {
    /// Starts with exactly these arguments.
    pub fn start<A: AsRef<str>>(arguments: &[A]) -> Self {
        let mut child = livehook()
            .arg("simulate")
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let stderr = std::thread::spawn(move || {
            let lines: Vec<String> = lines.map_while(Result::ok).collect();
            lines.join("\n")
        });
        Self {
            child,
            stderr: Some(stderr),
        }
    }

    /// Starts a simulation against `url` that signs with [`KEY`] and reports in JSON. `more` holds
    /// further arguments.
    pub fn of(url: &str, more: &str) -> Self {
        let mut arguments = vec!["--url", url, "--key", KEY, "--report", "json"];
        arguments.extend(more.split_whitespace());
        Self::start(&arguments)
    }

    /// Sends the process a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let mut stdout = String::new();
        std::io::Read::read_to_string(self.child.stdout.as_mut().unwrap(), &mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        Ended {
            code,
            stdout,
            stderr: self.stderr.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The report of a simulation that must have succeeded.
    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.report()
    }

    /// The report of a simulation that must have ended with exit code 1.
    #[track_caller]
    pub fn bad(self) -> Value {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.report()
    }

    /// The JSON report.
    #[track_caller]
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a simulation to its end. See [`Simulation::of`].
pub fn simulate(url: &str, more: &str) -> Ended {
    Simulation::of(url, more).wait()
}
