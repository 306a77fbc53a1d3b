//! Validators and parsers of other projects, for commands and files that need Docker, Kubernetes,
//! systemd, nginx or Prometheus.
//!
//! Those from PyPI and npm are installed once, into cargo's folder for tests. `tests/run` installs
//! small programs. If another program is missing, a test that needs it prints SKIPPED.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::clients::{node_packages, python_packages, run};

/// No server runs at this address.
const NOBODY: &str = "127.0.0.1:1";

fn part(name: &str) -> PathBuf {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/validators");
    parts.join(name)
}

static PYTHON: LazyLock<PathBuf> =
    LazyLock::new(|| python_packages("validators", &part("requirements.txt")));

/// dclint contains the schema of the compose specification.
static COMPOSE_SCHEMA: LazyLock<PathBuf> = LazyLock::new(|| {
    node_packages("compose", &part("package.json"))
        .join("node_modules/dclint/schemas/compose.schema.json")
});

/// Whether a program is installed that `tests/run` does not install.
pub fn is_there(program: &str) -> bool {
    let asked = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .output();
    let is_there = asked.unwrap().status.success();
    if !is_there {
        println!("SKIPPED: there is no {program}");
    }
    is_there
}

/// The errors of a validator.
fn verdict(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// The schema of the compose specification.
pub fn compose(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder, "compose.yaml", text);
    let mut validate = Command::new(PYTHON.join("bin/python"));
    validate.arg(part("validate.py")).arg("compose");
    verdict(validate.arg(&*COMPOSE_SCHEMA).arg(file))
}

/// The schemas of Kubernetes. Unknown fields are errors.
pub fn kubernetes(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder, "manifest.yaml", text);
    let mut validate = Command::new(PYTHON.join("bin/kubernetes-validate"));
    verdict(validate.arg("--strict").arg(file))
}

/// The grammar of PromQL.
pub fn promql(expressions: &[String]) -> Result<(), String> {
    let mut validate = Command::new(PYTHON.join("bin/python"))
        .arg(part("validate.py"))
        .arg("promql")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = expressions
        .iter()
        .map(|expression| expression.replace('\n', " "));
    let lines: Vec<String> = lines.collect();
    let mut input = validate.stdin.take().unwrap();
    input.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(input);
    let output = validate.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

/// Runs `systemd-analyze verify` on the shipped unit with this drop-in. Uses another program,
/// because the unit's program must exist.
pub fn systemd(drop_in: &str) -> Result<(), String> {
    let unit = include_str!("../../config/livehook.service");
    let program = "/usr/local/bin/livehook";
    assert!(unit.contains(program));
    let folder = tempfile::tempdir().unwrap();
    let unit = file(
        &folder,
        "livehook.service",
        &unit.replace(program, env!("CARGO_BIN_EXE_livehook")),
    );
    file(&folder, "livehook.service.d/override.conf", drop_in);
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no"]).arg(unit);
    let output = analyze.output().unwrap();
    // For unknown options it only warns, and succeeds.
    let said = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("livehook"))
        .collect();
    if output.status.success() && about.is_empty() {
        Ok(())
    } else {
        Err(said.into_owned())
    }
}

/// `haproxy -c`.
pub fn haproxy(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder, "haproxy.cfg", text);
    verdict(
        Command::new("haproxy")
            .env("PATH", path())
            .args(["-c", "-f"])
            .arg(file),
    )
}

/// Whether a program knows the command and its options. Nothing is executed.
pub fn command_line(line: &str) -> Result<(), String> {
    let words = words(line)?;
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path());
    match program.as_str() {
        // They fail only because there is no server.
        "docker" | "kubectl" => {
            let files = words
                .windows(2)
                .filter(|pair| pair[0].starts_with("--file"));
            for pair in files {
                if !Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join(&pair[1])
                    .exists()
                {
                    return Err(format!("there is no {}", pair[1]));
                }
            }
            let is_plugin = words.get(1).is_some_and(|word| word == "compose");
            if !is_there(program) || is_plugin && !has_compose() {
                return Ok(());
            }
            let folder = tempfile::tempdir().unwrap();
            let config = format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"Config\",\"current-context\":\"x\",\
                 \"clusters\":[{{\"name\":\"x\",\"cluster\":{{\"server\":\"http://{NOBODY}\"}}}}],\
                 \"contexts\":[{{\"name\":\"x\",\"context\":{{\"cluster\":\"x\"}}}}]}}"
            );
            command
                .env("KUBECONFIG", file(&folder, "config", &config))
                .env("DOCKER_HOST", format!("tcp://{NOBODY}"))
                .env("HOME", folder.path());
            for variable in ["LIVEHOOK_KEY", "LIVEHOOK_TOKEN", "LIVEHOOK_ADMIN_TOKEN"] {
                command.env(variable, "x");
            }
            match verdict(&mut command) {
                Err(said) if got_as_far_as_the_server(&said) => Ok(()),
                verdict => verdict,
            }
        }
        "nginx" => verdict(command.arg("-h")),
        // The word must be in the list of the help.
        "systemctl" => {
            verdict(command.arg("--help"))?;
            let help = run(Command::new(program).arg("--help"));
            let verb = arguments.iter().find(|word| !word.starts_with('-'));
            let verb = verb.ok_or("no word says what to do")?;
            let is_known = help
                .lines()
                .any(|line| line.split_whitespace().next() == Some(verb));
            is_known
                .then_some(())
                .ok_or(format!("there is no `{verb}`"))
        }
        "cargo" | "cp" | "install" | "journalctl" | "livehook" | "useradd" => {
            verdict(command.arg("--help"))
        }
        _ => Err(format!("tests/it/validators.rs does not know {program}")),
    }
}

/// `PATH` with the folder of the built program first.
fn path() -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_livehook")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}:/usr/sbin", built.display())
}

fn got_as_far_as_the_server(said: &str) -> bool {
    let refused = [
        "Cannot connect to the Docker daemon",
        "failed to connect to the docker API",
        "connection refused",
        "was refused",
    ];
    refused.iter().any(|text| said.contains(text))
}

fn has_compose() -> bool {
    let asked = Command::new("docker").args(["compose", "version"]).output();
    let has_compose = asked.is_ok_and(|asked| asked.status.success());
    if !has_compose {
        println!("SKIPPED: there is no docker compose");
    }
    has_compose
}

/// The words of a simple command. Anything else of a shell is refused.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    if line.contains(['|', '<', '>', ';', '&', '$', '"', '`']) {
        return Err("this is no simple command".into());
    }
    let mut words = Vec::new();
    for (part, is_quoted) in line.split('\'').zip([false, true].into_iter().cycle()) {
        if is_quoted {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    Ok(words)
}

/// The commands of a `console` block: the text after `$ `, with its continuation lines.
pub fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_is_wrong_is_found_by_each_validator() {
    assert!(compose("services:\n  a: { image: b, read_onli: true }\n").is_err());
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { selektor: { a: b } }\n";
    assert!(kubernetes(service).is_err());
    assert!(promql(&["rate(a[5m]".to_owned()]).is_err());
    assert!(systemd("[Service]\nReadWritePath=/srv\n").is_err());
    assert!(haproxy("frontend a\n  bind :8080\n  default_backend b\n").is_err());
    for line in [
        "docker run --stop-timeuot 20 livehook",
        "kubectl apply --filenam config/kubernetes.yaml",
        "kubectl apply --filename config/kubernets.yaml",
        "docker compose --file config/nothing.yaml up",
        "nginx -s relod",
        "systemctl frobnicate livehook",
        "systemctl enable --nov livehook",
        "journalctl --unti livehook",
        "useradd --sistem livehook",
        "install -q a b",
        "livehook check --confg a",
        "rm -rf everything",
        "livehook check | tee log",
    ] {
        let program = line.split(' ').next().unwrap();
        let is_optional = ["docker", "kubectl"].contains(&program) && !line.contains("--file ");
        if !is_optional || is_there(program) {
            assert!(command_line(line).is_err(), "{line}");
        }
    }
}
