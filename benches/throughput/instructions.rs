//! Instructions per callback, as callgrind counts them: far more repeatable than times, but of one
//! thread at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::callback::Kinds;
use crate::callgrind::{Counts, KINDS, SHA2, ThreadNames};
use crate::measure::folder;
use crate::process::Process;
use crate::sender::{Load, Pace};
use crate::subject::{Subject, livehook};

const SUBJECTS: [Subject; 2] = [Subject::Livehook, Subject::One];
/// The release profile with debug names.
const PROFILE: &str = "symbols";
/// After this many callbacks, valgrind has translated all code and all buffers have their sizes.
const WARM_UP: u64 = 2_000;
const CONNECTIONS: usize = 64;
/// How often the lag of handlers and board is read. Each read costs instructions, too.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The counted instructions.
pub struct Instructions {
    callbacks: u64,
    counts: Vec<(Subject, Counts)>,
}

/// Counts the instructions of this many callbacks for each subject.
pub fn count(parent: &Path, callbacks: u64) -> anyhow::Result<Instructions> {
    check()?;
    let program = build()?;
    let mut counts = Vec::new();
    for subject in SUBJECTS {
        let dir = folder(parent)?;
        let counted = count_one(&subject, dir.path(), &program, callbacks);
        let counted = counted.with_context(|| format!("{subject}: this run is INVALID"))?;
        eprintln!("{subject}: {} instructions", counted.all() / callbacks);
        counts.push((subject, counted));
    }
    Ok(Instructions { callbacks, counts })
}

fn check() -> anyhow::Result<()> {
    let mut version = Command::new("valgrind");
    let found = version
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    ensure!(
        found,
        "--instructions needs valgrind; on Debian and Ubuntu: apt-get install valgrind"
    );
    Ok(())
}

/// Builds the program with names, beside the other builds. Returns its path.
fn build() -> anyhow::Result<std::path::PathBuf> {
    eprintln!("building livehook with symbols, which takes minutes the first time");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo
        .args(["build", "--locked", "--bin", "livehook"])
        .args(["--profile", PROFILE])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    ensure!(status.success(), "cargo ended with {status}");
    // The temporary folder of the build is in the target directory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.context("no target directory")?;
    Ok(target.join(PROFILE).join("livehook"))
}

fn count_one(
    subject: &Subject,
    dir: &Path,
    program: &Path,
    callbacks: u64,
) -> anyhow::Result<Counts> {
    let out = dir.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes"])
        .arg("--separate-threads=yes")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program);
    valgrind.env_clear();
    // To be found, and to be found by callgrind_control.
    for name in ["PATH", "TMPDIR"] {
        valgrind.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let server = livehook(valgrind, subject.handlers(), dir, &dir.join("log.txt"))?;
    let send = |number, seed| {
        let load = Load {
            port: server.port,
            connections: CONNECTIONS,
            pace: Pace::Closed { number },
            seed,
            kinds: Kinds::Begins,
        };
        let answers = load.send();
        answers.with_context(|| server.process.log_tail())
    };
    // Handlers and board lag behind the answers, each time differently. Their work is counted in full.
    let catch_up = || {
        server.catch_up(ASK_EVERY)?;
        server.wait_for_board(ASK_EVERY)
    };
    send(WARM_UP, 0)?;
    catch_up()?;
    control(&["-i", "on"], &server.process)?;
    send(callbacks, 1)?;
    catch_up()?;
    let names = thread_names(&server.process)?;
    control(&["-d"], &server.process)?;
    Counts::read(&out, &names)
}

/// The names that the running threads have in the system, by valgrind's numbers.
fn thread_names(valgrind: &Process) -> anyhow::Result<ThreadNames> {
    let output = Command::new("vgdb")
        .arg(format!("--pid={}", valgrind.id()))
        .args(["v.info", "scheduler"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start vgdb, a part of valgrind")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A line such as "Thread 2: status = VgTs_WaitSys syscall 230 (lwpid 28726)".
    let threads = said.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("Thread ")?.split_once(':')?;
        let (_, id) = rest.rsplit_once("(lwpid ")?;
        let id: u32 = id.split_once(')')?.0.parse().ok()?;
        let name = if id == valgrind.id() {
            "main".to_owned()
        } else {
            valgrind.thread_name(id)?
        };
        Some((number.parse().ok()?, name))
    });
    let names: ThreadNames = threads.collect();
    ensure!(!names.is_empty(), "vgdb names no thread: {said}");
    Ok(names)
}

fn control(what: &[&str], valgrind: &Process) -> anyhow::Result<()> {
    let mut control = Command::new("callgrind_control");
    let output = control
        .args(what)
        .arg(valgrind.id().to_string())
        .stdin(Stdio::null())
        .output()
        .context("cannot start callgrind_control")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("OK"),
        "callgrind_control says {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n| instructions per callback of {}", self.callbacks)?;
        for (subject, _) in &self.counts {
            write!(f, " | {subject}")?;
        }
        writeln!(f, " |\n|---{}|", "|--:".repeat(self.counts.len()))?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(&Counts) -> u64| {
            write!(f, "| {name}")?;
            for (_, counts) in &self.counts {
                write!(f, " | {:.0}", of(counts) as f64 / self.callbacks as f64)?;
            }
            writeln!(f, " |")
        };
        let kind = |counts: &Counts, kind| counts.kinds.get(kind).copied().unwrap_or(0);
        row(f, "**in all**", &Counts::all)?;
        row(f, "**without sha2**", &|counts| {
            counts.all() - kind(counts, SHA2)
        })?;
        let threads = self
            .counts
            .iter()
            .flat_map(|(_, counts)| counts.threads.keys());
        for name in threads.collect::<BTreeSet<_>>() {
            row(f, &format!("thread `{name}`"), &|counts| {
                counts.threads.get(name).copied().unwrap_or(0)
            })?;
        }
        for name in KINDS {
            row(f, &format!("*{name}*"), &|counts| kind(counts, name))?;
        }
        Ok(())
    }
}
