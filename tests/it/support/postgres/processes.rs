//! Processes by their ids: signals, children, and whether they still run.

use std::path::Path;
use std::process::{Command, Stdio};

/// Sends a signal by its name. Processes that have ended are ignored.
pub fn signal(name: &str, pids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string));
    kill.stderr(Stdio::null()).status().unwrap();
}

/// A process and its children.
pub fn family(parent: u32) -> Vec<u32> {
    let mut pids = vec![parent];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // The process may have ended.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `pid (name) state parent …`, where the name may contain any characters.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        if after_name.split(' ').nth(1) == Some(&parent.to_string()) {
            pids.push(pid);
        }
    }
    pids
}

/// Whether the process runs with this working directory. A zombie does not.
pub fn is_running_in(pid: u32, directory: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
}
