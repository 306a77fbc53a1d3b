//! The `sh` blocks of a page are one script. It runs in a new directory with a copy of `config/`.
//!
//! - `livehook` is the built program, and `cargo run -- X` is `livehook X`.
//! - Commands that build, install or test are not run: [`NOT_RUN`]. Their files and variables must
//!   exist.
//! - A block of any language may name a file after its language, such as "toml livehook.toml". From
//!   there on, the script has this file.
//! - The usual ports are replaced by free ones, in the script and in `config/`: each page has its
//!   own pair of addresses.
//! - A command that does not end by itself must be the last of its block. It runs in the
//!   background, and the script waits until a server is ready. A server ends when the page starts
//!   the next one at the same address, or at the end of the page, and must end without an error.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::page::{Block, Page, root};
use super::{assert_none, pages};
use crate::support::target::reserve;
use crate::support::wait_up_to;

/// Commands that are checked but not run, by their first words.
const NOT_RUN: &[&str] = &[
    ".ci/run",
    "bash .ci/run",
    "cargo add",
    "cargo bench",
    "cargo build",
    "cargo clippy",
    "cargo deny",
    "cargo doc",
    "cargo fmt",
    "cargo install",
    "cargo run --example",
    "cargo test",
    "cd livehook",
    "git clone",
    "npm install",
    "pip install",
    "tests/run",
];

/// Commands that would take too long, and the commands that are run instead.
const SHORTER: &[(&str, &str)] = &[
    ("cargo run -- ", "livehook "),
    ("--duration 1m", "--duration 2s"),
];

/// The longest time for a whole page, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Shell functions, defined before the lines of the page.
const PRELUDE: &str = r#"set -euo pipefail
server=
stop() {
  if [[ -n $server ]]; then
    kill -TERM "$server"
    wait "$server"
    server=
  fi
}
wait_until() {
  for _ in {1..1000}; do
    if "$@" >>waiting.log 2>&1; then return; fi
    kill -0 "$!" || break
    sleep 0.2
  done
  echo "waited in vain: $*"
  cat server.log
  exit 1
}
set -v
"#;

enum Step {
    Run(String),
    /// Whether the command does not end by itself.
    Background(String),
    LeftOut,
}

/// The variables that a line sets for a command, and the rest without its comment.
fn words(line: &str) -> (Vec<&str>, Vec<&str>) {
    let command = line.split(" #").next().unwrap_or("");
    let mut rest: Vec<&str> = command.split_whitespace().collect();
    let is_variable = |word: &&str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let variables = rest.iter().take_while(|word| is_variable(word)).count();
    let arguments = rest.split_off(variables);
    (rest, arguments)
}

fn does_not_end(arguments: &[&str]) -> bool {
    let has = |names: &[&str]| arguments.iter().any(|word| names.contains(word));
    match arguments {
        ["livehook", "serve" | "demo", ..] => true,
        ["livehook", ..] => has(&["--follow", "-f"]),
        ["curl", ..] => has(&["-N", "--no-buffer"]),
        _ => false,
    }
}

fn is_mentioned(text: &str, folders: &[&str]) -> bool {
    let found = Command::new("grep")
        .args(["-rqF", "--exclude-dir=docs", "--", text])
        .args(folders.iter().filter(|folder| root().join(folder).exists()))
        .current_dir(root())
        .status();
    found.unwrap().success()
}

/// Checks, without running a command, that the files that it names exist.
fn check_left_out(variables: &[&str], arguments: &[&str]) -> Result<(), String> {
    let exists = |path: &str| root().join(path).exists();
    for variable in variables {
        let name = variable.split('=').next().unwrap();
        if name.starts_with("LIVEHOOK") && !is_mentioned(name, &["tests", "benches", ".ci"]) {
            return Err(format!("nothing reads {name}"));
        }
    }
    for pair in arguments.windows(2) {
        let name = pair[1];
        let is_there = match pair[0] {
            "--bench" => exists(&format!("benches/{name}")),
            "--test" => exists(&format!("tests/{name}")),
            "--example" => {
                let source = format!("examples/{name}.rs");
                let folders = ["", "crates/css-callbacks/", "crates/css-simulator/"];
                folders.iter().any(|it| exists(&format!("{it}{source}")))
            }
            "-p" | "--package" => name == "livehook" || exists(&format!("crates/{name}")),
            "--path" | "--config" => exists(name),
            "install" if matches!(arguments[0], "npm" | "pip") => {
                is_mentioned(name, &["tests/it/clients"])
            }
            _ => true,
        };
        if !is_there {
            return Err(format!("there is no {name}"));
        }
    }
    let program = arguments.iter().find(|word| word.ends_with("/run"));
    match program.is_none_or(|program| exists(program)) {
        true => Ok(()),
        false => Err(format!("there is no {program:?}")),
    }
}

fn step(line: &str) -> Result<Step, String> {
    let line = SHORTER.iter().fold(line.to_owned(), |line, (long, short)| {
        line.replace(long, short)
    });
    let (variables, arguments) = words(&line);
    let command = format!("{} ", arguments.join(" "));
    let is_left_out = |known: &&str| command.starts_with(&format!("{known} "));
    if NOT_RUN.iter().any(is_left_out) {
        check_left_out(&variables, &arguments)?;
        return Ok(Step::LeftOut);
    }
    if arguments.first() == Some(&"cargo") {
        return Err(format!("tests/it/docs/shell.rs does not know `{command}`"));
    }
    let ends = !does_not_end(&arguments) || line.trim_end().ends_with('&');
    Ok(match ends {
        true => Step::Run(line),
        false => Step::Background([variables, arguments].concat().join(" ")),
    })
}

/// Starts the command. Waits until it is ready if it is a server.
fn in_background(command: &str, usual: &str) -> String {
    if !command.contains("livehook serve") && !command.contains("livehook demo") {
        return format!("{command} >>background.log 2>&1 &\n");
    }
    let own = command.split_once("LIVEHOOK__SERVER__LISTEN=");
    let own = own.and_then(|(_, rest)| rest.split_whitespace().next());
    let ready = |address| format!("wait_until livehook health --ready --url http://{address}\n");
    let started = format!("{command} >>server.log 2>&1 &\n");
    let mut lines = match own {
        // Starts it in the background, as in a second terminal.
        Some(address) => started + &ready(address),
        None => format!("stop\n{started}server=$!\n{}", ready(usual)),
    };
    if command.contains("livehook demo") {
        // Its effects come after everything that it shows.
        lines += "wait_until grep 'try next' server.log\n";
    }
    lines
}

/// The script of a page.
fn script(page: &Page, addresses: &[(&str, String)]) -> Result<String, String> {
    let mut script = PRELUDE.to_owned();
    for block in &page.blocks {
        match &block.file {
            Some(file) => {
                write!(
                    script,
                    "cat >{file} <<'END OF FILE'\n{}END OF FILE\n",
                    block.text
                )
                .unwrap();
            }
            None if block.language == "sh" => {
                add_commands(&mut script, block)
                    .map_err(|problem| page.at(block.line, &problem))?;
            }
            None => {}
        }
    }
    script += "stop\n";
    Ok(replace(&script, addresses))
}

fn add_commands(script: &mut String, block: &Block) -> Result<(), String> {
    // Joins a command and its continuation lines.
    let text = block.text.replace("\\\n", " ");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match step(line)? {
            Step::Run(line) => writeln!(script, "{line}").unwrap(),
            Step::LeftOut => writeln!(script, ":").unwrap(),
            Step::Background(_) if lines.peek().is_some() => {
                return Err(format!(
                    "`{line}` does not end: let it be its block's last line"
                ));
            }
            Step::Background(command) => *script += &in_background(&command, "127.0.0.1:8080"),
        }
    }
    Ok(())
}

fn replace(text: &str, addresses: &[(&str, String)]) -> String {
    let mut text = text.to_owned();
    for (usual, free) in addresses {
        text = text.replace(usual, free);
    }
    text
}

fn copy_config(to: &Path, addresses: &[(&str, String)]) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(root().join("config")).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let copy = to.join(file.file_name().unwrap());
        std::fs::write(copy, replace(&text, addresses)).unwrap();
    }
}

fn run(page: &Page) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let [callbacks, admin] = [reserve().to_string(), reserve().to_string()];
    let addresses = [
        ("127.0.0.1:8080", callbacks.clone()),
        ("127.0.0.1:9090", admin.clone()),
    ];
    let script = script(page, &addresses)?;
    // The directory of the script's own files, which the page does not see.
    let [bin, work, file, output] =
        ["bin", "work", "script", "output"].map(|name| directory.path().join(name));
    std::fs::create_dir(&work).unwrap();
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_livehook"), bin.join("livehook")).unwrap();
    copy_config(&work.join("config"), &addresses);
    std::fs::write(&file, script).unwrap();
    let out = std::fs::File::create(&output).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash")
        .arg(&file)
        .current_dir(&work)
        .env_clear()
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("HOME", &work)
        .env("LANG", "C.UTF-8")
        // A configuration without addresses would use the usual ports, too.
        .env("LIVEHOOK__SERVER__LISTEN", callbacks)
        .env("LIVEHOOK__ADMIN__LISTEN", admin)
        .env("LIVEHOOK__SERVER__DRAIN_DELAY", "0s")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_child(&bash);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_up_to(PATIENCE, &page.path, || bash.try_wait().unwrap())
    }));
    // Ends the processes in the background, or all of them if the page took too long.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = bash.wait();
    let said = std::fs::read_to_string(&output).unwrap();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}:\n{said}", page.path)),
        Err(_) => Err(format!("{}: it does not end:\n{said}", page.path)),
    }
}

#[test]
fn the_commands_of_every_page_work() {
    let mut pages = pages();
    pages.retain(|page| page.blocks_of("sh").next().is_some());
    let (pages, problems) = (Mutex::new(pages), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(page) = pages.lock().unwrap().pop() else {
                return;
            };
            if let Err(problem) = run(&page) {
                problems.lock().unwrap().push(problem);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    assert_none(&problems.into_inner().unwrap());
}

#[test]
fn commands_are_run_left_out_or_refused() {
    let is_left_out = |line: &str| matches!(step(line), Ok(Step::LeftOut));
    assert!(is_left_out("tests/run   # all tests"));
    assert!(is_left_out("cargo bench --bench throughput -- --peers all"));
    assert!(step("cargo bench --bench nothing").is_err());
    assert!(step("LIVEHOOK_NOBODY_READS_IT=1 tests/run").is_err());
    assert!(step("cargo publish").is_err());
    let Ok(Step::Background(command)) = step("A=b cargo run -- serve --config x.toml # goes on")
    else {
        panic!("a server goes on")
    };
    assert_eq!(command, "A=b livehook serve --config x.toml");
    assert!(matches!(
        step("livehook events --follow"),
        Ok(Step::Background(_))
    ));
    assert!(matches!(
        step("curl -s http://x | head -1"),
        Ok(Step::Run(_))
    ));
}
