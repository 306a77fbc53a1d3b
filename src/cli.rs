//! The command line.
//!
//! Exit codes: 0 success; 2 wrong usage, wrong configuration or an unwritable directory; 1 any
//! other failure.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Arg, Parser, Subcommand};

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

/// Receives Tencent Cloud CSS live-streaming callbacks, stores them durably and hands them to your
/// handlers
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success; 2 wrong usage, wrong configuration or an unwritable directory; \
        1 any other failure."
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
    /// Start a server, send it one signed callback, and show the event
    ///
    /// Keeps everything in a directory of its own and listens on this machine only. Prints the
    /// request, the answer, the event that a handler received, the address of the console, and what
    /// to try next. The server runs until Ctrl-C. Started again, the demo continues with what is
    /// stored.
    #[command(arg = unused_config())]
    Demo(demo::DemoArgs),
    /// Run the server: accept callbacks and deliver them, until SIGTERM
    Serve,
    /// Check the configuration and print the URLs for the callback template
    ///
    /// Reads the configuration and the files it names, and changes nothing. Prints the URL for each
    /// field of the template of each source, the events that each handler receives, hints, and what
    /// it cannot check. The URLs contain the token of the source.
    ///
    /// With --store, reads the whole store instead, and prints a line for each damage and a summary.
    /// Exits 0 if the store is whole, 1 if it is damaged. It changes nothing. It also checks a
    /// backup.
    Check(check::CheckArgs),
    /// Print a new CallbackKey: 32 random letters and digits
    ///
    /// Put it into the callback template and into the `keys` of the source.
    #[command(arg = unused_config())]
    Key,
    /// Ask a running server whether it works, for container probes
    ///
    /// Exits 0 if the server answers 200 within two seconds, else 1.
    Health(health::HealthArgs),
    /// List, follow or delete the events of a running server
    ///
    /// Lists the newest events, the oldest of them first. With an id, shows that whole event as
    /// handlers receive it. With --delete, removes the events of a stream: it first shows how many
    /// these are, and asks.
    Events(RemoteArgs<operate::EventsArgs>),
    /// List the live streams of a running server, or show one in detail
    ///
    /// Lists the streams that are live, the newest last. With a stream, shows its sessions,
    /// recordings, last snapshot and last events. With --rebuild, rebuilds the board of streams
    /// from the stored events: it asks first.
    Streams(RemoteArgs<operate::StreamsArgs>),
    /// List the callbacks that a running server rejected, or check them again
    ///
    /// After you correct a wrong key and reload the configuration, --recheck accepts those that are
    /// authentic now.
    Rejected(RemoteArgs<operate::RejectedArgs>),
    /// List the handlers of a running server, or pause or resume one
    Handlers(RemoteArgs<operate::HandlersArgs>),
    /// List the parked events of the handlers, with their last errors
    Parked(RemoteArgs<operate::ParkedArgs>),
    /// Deliver events to a handler of a running server again
    ///
    /// First shows how many events these are, and asks. The events pass the handler's filters
    /// again.
    Replay(RemoteArgs<operate::ReplayArgs>),
    /// Copy the store of a running server into a directory that a server can be started on
    ///
    /// Callbacks are accepted and delivered meanwhile; retention and deletions wait. The copy has
    /// everything that was acknowledged before it began. If no server runs, the command opens the
    /// store itself. To restore, start livehook with the directory as its inbox.path. Check a backup
    /// with `livehook check --store DIR`.
    Backup(operate::BackupArgs),
    /// Send callbacks like the platform to any receiver, and report the result
    ///
    /// Posts signed callbacks of realistic streams, and repeats those not answered 200 on the
    /// platform's schedule. The report says what was acknowledged, refused and lost. Exits 1 if an
    /// event was given up or a bad request was accepted; with --verify, also if an acknowledged
    /// event is not stored as it was sent; with --verify-streams, also if the board shows a wrong
    /// state of a stream. An interrupt prints the report so far. With --conformance, checks the
    /// receiver case by case, and exits 1 if one case fails.
    #[command(arg = unused_config())]
    Simulate(Box<simulate::SimulateArgs>),
}

/// The `--config` of a command that reads no configuration: it is not in the help.
fn unused_config() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .hide(true)
}

/// Why a command failed.
enum Failed {
    /// Exit code 2: the operator must correct the usage, the configuration or a directory.
    Setup(anyhow::Error),
    /// Exit code 1: anything else.
    Run(anyhow::Error),
}

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    // livehook starts itself for programs of exec handlers. Such a process does only that, and
    // quickly.
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
    // Standard error may be closed; the exit code says it too.
    log::write_last_message(format!("livehook: {error:#}"));
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
        CliCommand::Check(args) if let Some(store) = args.store() => match store {
            Some(path) => check::store::run(path),
            None => check::store::run(&check::store_of(&load()?)?),
        },
        CliCommand::Check(_) => {
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
        CliCommand::Backup(args) => args.run(&file),
        CliCommand::Simulate(args) => simulate::simulate(args),
    }
}

/// Prints to standard output. A closed pipe is not a failure: its reader has seen enough.
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
        for arguments in [
            ["livehook", "demo", "--config", "x.toml"],
            ["livehook", "--config", "x.toml", "key"],
            ["livehook", "serve", "--config", "x.toml"],
            ["livehook", "--config", "x.toml", "serve"],
        ] {
            let cli = Cli::parse_from(arguments);
            assert_eq!(cli.config, Some("x.toml".into()), "{arguments:?}");
        }
    }
}
