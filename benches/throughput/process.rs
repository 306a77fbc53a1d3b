//! A server as a process, with the processes it starts: what they use, and their end.

use std::collections::HashSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// The unit of times in `/proc`, the same on every machine that Linux still runs on.
const TICKS_PER_SECOND: u64 = 100;
/// The longest time until a server listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait for a process before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(10);
/// The longest time of an orderly stop, as livehook promises.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// The bytes of the log that an error shows.
const LOG_TAIL: usize = 2000;

/// A server process. Dropping it ends the process and its descendants.
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// What a process and its descendants have used so far.
pub struct Usage {
    pub cpu: Duration,
    /// In bytes, summed over the processes that still run.
    pub peak_memory: u64,
}

/// The processor time of the whole machine, and of this process with the children it has waited for
/// (wrk).
#[derive(Clone, Copy)]
pub struct Machine {
    busy: u64,
    own: u64,
    at: Instant,
}

impl Machine {
    pub fn now() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let cpu = text.lines().next().context("/proc/stat is empty")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of users.
        let fields = cpu.split_whitespace().skip(1).take(8).enumerate();
        let busy = fields.filter(|(at, _)| !matches!(at, 3 | 4));
        let busy = busy.map(|(_, ticks)| ticks.parse::<u64>());
        Ok(Self {
            busy: busy.sum::<Result<_, _>>()?,
            own: Stat::read(std::process::id()).map_or(0, |stat| stat.ticks),
            at: Instant::now(),
        })
    }

    /// The share of all processors that programs other than this process, wrk and the server have
    /// used until now.
    pub fn others_since(self, server: Duration) -> anyhow::Result<f64> {
        let now = Self::now()?;
        let ticks = (now.busy - self.busy).saturating_sub(now.own - self.own);
        let others = ticks as f64 / TICKS_PER_SECOND as f64 - server.as_secs_f64();
        let all =
            std::thread::available_parallelism()?.get() as f64 * self.at.elapsed().as_secs_f64();
        Ok((others / all).max(0.0))
    }
}

/// A port at which nobody listens. Another process might take it, but the system does not hand it
/// out again soon.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Process {
    /// Starts a process and waits until it listens. Its output goes to the file `log`.
    pub fn start(mut command: Command, port: u16, log: PathBuf) -> anyhow::Result<Self> {
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut process = Self { child, log };
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}; {}", process.log_tail());
            }
            if Instant::now() > until {
                bail!("it does not listen; {}", process.log_tail());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end. Fails if it does not end in time with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        signal(self.child.id(), Signal::TERM);
        let until = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("it ended with {status}; {}", self.log_tail()),
                None if Instant::now() > until => bail!("it does not end; {}", self.log_tail()),
                None => sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Ends the process as [`stop`](Self::stop) does. Returns the bytes that it had written until then.
    pub fn stop_and_count(&mut self) -> anyhow::Result<u64> {
        signal(self.child.id(), Signal::TERM);
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.context("the process has no id")?;
        let has_ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let until = Instant::now() + STOP_TIMEOUT;
        // What it wrote can be read until it is waited for.
        while waitid(WaitId::Pid(id), has_ended)?.is_none() {
            ensure!(
                Instant::now() < until,
                "it does not end; {}",
                self.log_tail()
            );
            sleep(Duration::from_millis(5));
        }
        let written = self.written()?;
        self.stop()?;
        Ok(written)
    }

    /// The bytes that this process alone has had the disk write.
    pub fn written(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let bytes = text
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        let bytes = bytes.context("the system does not count written bytes")?;
        Ok(bytes.parse()?)
    }

    /// Kills the process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The name of one of its threads, unless that has ended.
    pub fn thread_name(&self, thread: u32) -> Option<String> {
        let path = format!("/proc/{}/task/{thread}/comm", self.child.id());
        Some(std::fs::read_to_string(path).ok()?.trim_end().to_owned())
    }

    /// The resident memory of this process alone, in bytes: now, and the peak.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let now = memory(self.child.id(), "VmRSS:");
        let peak = memory(self.child.id(), "VmHWM:");
        now.zip(peak).context("the process is gone")
    }

    /// The end of the log, for an error message.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let end = &log[log.len().saturating_sub(LOG_TAIL)..];
        format!(
            "the server's log ends in: {}",
            String::from_utf8_lossy(end).trim()
        )
    }

    /// The usage of the process and its descendants.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let family = self.family()?;
        let ticks: u64 = family.iter().map(|stat| stat.ticks).sum();
        Ok(Usage {
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            peak_memory: family
                .iter()
                .filter_map(|stat| memory(stat.pid, "VmHWM:"))
                .sum(),
        })
    }

    /// The process and its descendants.
    fn family(&self) -> anyhow::Result<Vec<Stat>> {
        let mut others: Vec<Stat> = std::fs::read_dir("/proc")?
            .filter_map(|entry| Stat::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
            .collect();
        let mut members = HashSet::from([self.child.id()]);
        let mut family = Vec::new();
        loop {
            let (new, rest): (Vec<_>, Vec<_>) = others
                .into_iter()
                .partition(|stat| members.contains(&stat.pid) || members.contains(&stat.parent));
            if new.is_empty() {
                return Ok(family);
            }
            members.extend(new.iter().map(|stat| stat.pid));
            family.extend(new);
            others = rest;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family().unwrap_or_default();
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::TERM);
        }
        let until = Instant::now() + KILL_AFTER;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
        // Kills descendants that are left, but only if the id still belongs to the same process.
        for stat in &family {
            if Stat::read(stat.pid).is_some_and(|now| now.started == stat.started) {
                signal(stat.pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// The fields of `/proc/PID/stat`.
struct Stat {
    pid: u32,
    parent: u32,
    /// The processor time of the process and of the children it has waited for.
    ticks: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may contain any characters. proc(5) counts fields from 1; the state
        // is field 3.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            pid,
            parent: u32::try_from(field(4)?).ok()?,
            ticks: field(14)? + field(15)? + field(16)? + field(17)?,
            started: field(22)?,
        })
    }
}

fn memory(pid: u32, which: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(which))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
