//! livehook with a handler in Rust that succeeds at once: this shows the cost of the dispatch
//! alone.

use std::path::Path;

use livehook::{Config, Event, Handler, Handling, Server, environment};

/// The argument that makes the benchmark this server, in a process of its own.
pub const ARGUMENT: &str = "serve-instant";

struct Instant;

impl Handler for Instant {
    fn handle<'a>(&'a self, _: &'a Event) -> Handling<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// Runs the server. The last argument is the configuration. The runtime has the same options as
/// that of the program.
pub fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let Some(file) = arguments.last() else {
        anyhow::bail!("the configuration is missing");
    };
    let config = Config::load(Path::new(file), &environment())?;
    config.init_log()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors - 1).max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::builder(config).handler("instant", Instant);
        let server = server.bind().await?;
        server.run(std::future::pending()).await?;
        Ok(())
    })
}
