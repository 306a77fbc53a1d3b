//! The command line.
//!
//! Exit codes: 0 good; 2 bad usage, configuration or an unwritable directory; 1 anything else.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Parser, Subcommand};

use crate::config::{Config, environment};
use crate::handlers::exec;
use crate::log;

mod check;
mod demo;
mod health;
mod init;
mod key;
mod operate;
mod serve;
mod simulate;

use self::operate::RemoteArgs;

/// Receives Tencent Cloud CSS live-streaming callbacks, stores them durably and hands them to your handlers
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 good; 2 bad usage, configuration or an unwritable directory; 1 anything else."
)]
struct Cli {
    /// The configuration file [default: $LIVEHOOK_CONFIG, else /etc/livehook/livehook.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// See it work: start a server, send it one signed callback, and show what came of it
    ///
    /// Keeps everything in a directory of its own, and listens on this machine only. Prints the request, the answer, the
    /// event as a handler got it, the address of the console, and what to try next. Goes on serving until Ctrl-C.
    /// Started again, it goes on with what is stored.
    Demo(demo::DemoArgs),
    /// Take callbacks and deliver them until SIGTERM
    Serve,
    /// Check the configuration without starting, and print the URL for each field of the callback template
    ///
    /// Reads the configuration and everything it refers to, changes nothing, and prints for each source what to paste
    /// where, then what each handler gets, hints, and what it could not check. The URLs hold the source's token.
    Check,
    /// Print a fresh CallbackKey: 32 letters and digits
    ///
    /// Give it to the callback template and to the source's `keys`.
    Key,
    /// Ask a running server whether it is well, for container probes
    ///
    /// Exits 0 if it answers 200 within two seconds, else 1.
    Health(health::HealthArgs),
    /// Show stored events of a running server, follow those that arrive, or delete those of a stream
    ///
    /// Shows the newest, oldest first. With an id shows that event whole, as handlers get it. With --delete removes what is
    /// stored of a stream: it says first how many events it will be, and asks.
    Events(RemoteArgs<operate::EventsArgs>),
    /// Show which streams are live by what a running server knows, or the story of one
    ///
    /// Shows those that are live, the newest last. With a stream shows its sessions, recordings, last screenshot and last
    /// events. With --rebuild has the board made again from everything stored: it asks first.
    Streams(RemoteArgs<operate::StreamsArgs>),
    /// Show what a running server refused, and why, or judge it once more
    ///
    /// After a wrong key was corrected and the configuration reloaded, --recheck takes what is authentic by now.
    Rejected(RemoteArgs<operate::RejectedArgs>),
    /// Show how the handlers of a running server are doing, or pause and resume one
    Handlers(RemoteArgs<operate::HandlersArgs>),
    /// Show what handlers of a running server have given up, and why
    Parked(RemoteArgs<operate::ParkedArgs>),
    /// Have a running server deliver events to a handler again
    ///
    /// Says first how many events it will be, and asks. They go through the handler's own filters.
    Replay(RemoteArgs<operate::ReplayArgs>),
    /// Act as the platform towards a receiver, any receiver, and report what it acknowledged, refused and lost
    ///
    /// Posts the callbacks of a believable day to it, signed, and repeats what is not answered 200 as often as the platform
    /// would. Exits 1 if an event was given up, a bad request was accepted, or (with --verify) something acknowledged is not
    /// stored as it was sent, or (with --verify-streams) a stream is not live, or is, as it was left. Interrupting it prints the report so far. With --conformance it goes through what a receiver
    /// must bear case by case, and exits 1 if it fails one.
    Simulate(Box<simulate::SimulateArgs>),
}

/// Why a command did not succeed.
enum Failed {
    /// Exit code 2: the operator has to mend something.
    Setup(anyhow::Error),
    /// Exit code 1.
    Run(anyhow::Error),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    // livehook starts itself for the programs of exec handlers: these wait for it, and it has no use for the rest.
    if let Some(code) = exec::main(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    if let CliCommand::Serve = cli.command
        && let Some(code) = init::run()
    {
        return code;
    }
    let (error, code) = match run(cli) {
        Ok(()) => {
            log::flush();
            return ExitCode::SUCCESS;
        }
        Err(Failed::Setup(error)) => (error, 2),
        Err(Failed::Run(error)) => (error, 1),
    };
    log::flush();
    // Nobody may be reading any more; the exit code says it too.
    log::last_words(format!("livehook: {error:#}"));
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<(), Failed> {
    let is_given = cli.config.is_some();
    let file = Config::default_path(cli.config);
    let load = || Config::load(&file, &environment()).map_err(|error| Failed::Setup(error.into()));
    match &cli.command {
        CliCommand::Demo(_) if is_given => Err(Failed::Setup(anyhow!(
            "--config: the demo makes its own configuration; name its directory with --dir"
        ))),
        CliCommand::Demo(args) => demo::demo(args),
        CliCommand::Serve => {
            let config = load()?;
            serve::serve(file, config)
        }
        CliCommand::Check => {
            let config = load()?;
            check::validate(&config).map_err(Failed::Setup)?;
            print(&check::report(&config).map_err(|error| Failed::Run(error.into()))?)
        }
        CliCommand::Key => print(&format!("{}\n", key::fresh().map_err(Failed::Run)?)),
        CliCommand::Health(args) => {
            let address = match args.url() {
                Some(url) => health::address_of(url).map_err(Failed::Setup)?,
                None => health::local(load()?.server.listen),
            };
            health::probe(&address, args.path()).map_err(Failed::Run)
        }
        CliCommand::Events(command) => command.operate(&file),
        CliCommand::Streams(command) => command.operate(&file),
        CliCommand::Rejected(command) => command.operate(&file),
        CliCommand::Handlers(command) => command.operate(&file),
        CliCommand::Parked(command) => command.operate(&file),
        CliCommand::Replay(command) => command.operate(&file),
        CliCommand::Simulate(args) => simulate::simulate(args),
    }
}

/// Prints to standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failed::Run(error.into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["livehook", "health", "--ready", "--config", "x.toml"]);
        assert_eq!(cli.config, Some("x.toml".into()));
    }
}
