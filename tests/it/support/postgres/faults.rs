//! Faults of servers: stops, kills and freezes.

use std::path::PathBuf;

use super::Postgres;
use super::processes::{family, is_running_in, signal};

impl Postgres {
    /// Stops the server like an operator: open connections break, and commits are on disk.
    pub fn stop(&self) {
        let mut postmaster = self.postmaster.lock().unwrap();
        let mut child = postmaster.take().expect("it runs");
        signal("INT", &[child.id()]);
        child.wait().unwrap();
    }

    /// Kills all its processes at once, like a power cut. Returns when they have ended.
    pub fn kill(&self) {
        let mut child = self.postmaster.lock().unwrap().take().expect("it runs");
        // A stopped postmaster cannot start more children.
        signal("STOP", &[child.id()]);
        let processes = family(child.id());
        signal("KILL", &processes);
        child.wait().unwrap();
        self.wait("its processes to be gone", || {
            !processes
                .iter()
                .any(|pid| is_running_in(*pid, &self.data()))
        });
    }

    /// Freezes all its processes: connections stay open, but get no answers.
    pub fn freeze(&self) {
        let postmaster = self.pid();
        signal("STOP", &[postmaster]);
        signal("STOP", &family(postmaster));
    }

    /// Continues a frozen server.
    pub fn thaw(&self) {
        signal("CONT", &family(self.pid()));
    }

    /// The ids of its processes.
    pub fn processes(&self) -> Vec<u32> {
        family(self.pid())
    }

    fn pid(&self) -> u32 {
        self.postmaster
            .lock()
            .unwrap()
            .as_ref()
            .expect("it runs")
            .id()
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }
}
