//! What happens to servers: they are stopped, killed, frozen.

use std::path::PathBuf;

use super::Postgres;
use super::processes::{family, is_running_in, signal};

impl Postgres {
    /// As an operator stops it: connections are broken, what is committed is on disk.
    pub fn stop(&self) {
        let mut postmaster = self.postmaster.lock().unwrap();
        let mut child = postmaster.take().expect("it runs");
        signal("INT", &[child.id()]);
        child.wait().unwrap();
    }

    /// All its processes at once, as a power cut would. Returns when they are gone.
    pub fn kill(&self) {
        let mut child = self.postmaster.lock().unwrap().take().expect("it runs");
        // Stopped, it cannot have more children than are seen.
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

    /// Stops all its processes where they are: connections stay, answers do not come.
    pub fn freeze(&self) {
        let postmaster = self.pid();
        signal("STOP", &[postmaster]);
        signal("STOP", &family(postmaster));
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        signal("CONT", &family(self.pid()));
    }

    /// The processes it consists of.
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
