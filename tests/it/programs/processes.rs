//! Reads the states of processes.

use std::fs;
use std::process::Command;

pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    pub(super) state: char,
    command: String,
}

impl Process {
    pub(super) fn is_guard(&self) -> bool {
        self.command.contains("__guard")
    }

    pub(super) fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Process {
        pid,
        state,
        parent: fields.next()?.parse().ok()?,
        command: fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default(),
    })
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(read).collect()
}

pub(super) fn children(pid: u32) -> Vec<Process> {
    let mut all = all();
    all.retain(|process| process.parent == pid);
    all
}

/// The process and its descendants.
pub(super) fn descendants(pid: u32) -> Vec<Process> {
    let mut found: Vec<Process> = read(pid).into_iter().collect();
    for child in children(pid) {
        found.extend(descendants(child.pid));
    }
    found
}

/// Whether the process runs. A zombie does not.
pub(super) fn lives(pid: u32) -> bool {
    read(pid).is_some_and(|process| !process.is_zombie())
}

pub(super) fn kill(signal: &str, pid: u32) {
    let mut command = Command::new("kill");
    let sent = command
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The tracer of the process.
pub(super) fn tracer(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.unwrap().trim().parse().unwrap()
}
