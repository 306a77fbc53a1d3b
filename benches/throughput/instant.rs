//! livehook with a handler of Rust code that gets every event and is done at once: what the dispatch costs by itself.

use std::path::Path;

use livehook::{Config, Event, Handler, Handling, Server, environment};

/// Makes the benchmark this server, so that it is a process of its own.
pub const ARGUMENT: &str = "serve-instant";

struct Instant;

impl Handler for Instant {
    fn handle<'a>(&'a self, _: &'a Event) -> Handling<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// Takes the configuration as the last argument. The runtime is set up as livehook's program does.
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
