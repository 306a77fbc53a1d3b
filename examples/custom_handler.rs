//! A handler written in Rust: it prints which streams go live.
//!
//! Run it with `cargo run --example custom_handler -- config/small.toml`. Filters, order and
//! retries of the handler come from a section `[handlers.who-is-live]` without `to`, if there is
//! one, else they have their defaults.

use std::path::PathBuf;

use anyhow::Context;
use livehook::{Config, Event, Failure, Handler, Handling, Payload, Server, environment};

struct WhoIsLive;

impl Handler for WhoIsLive {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(async move {
            // An event that does not fit its type never will: park it.
            match event.payload().map_err(Failure::reject)? {
                Payload::StreamBegin(begin) => {
                    println!("live: {}", begin.stream_id.as_deref().unwrap_or("?"));
                }
                Payload::StreamEnd(end) => {
                    println!("over: {}", end.stream_id.as_deref().unwrap_or("?"));
                }
                _ => {}
            }
            Ok(())
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).map(PathBuf::from);
    let file = file.context("usage: custom_handler FILE")?;
    let config = Config::load(&file, &environment())?;
    config.init_log()?;
    let server = Server::builder(config)
        .handler("who-is-live", WhoIsLive)
        .bind()
        .await?;
    println!("callbacks: http://{}", server.addr()?);
    server
        .run(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    livehook::flush_log();
    Ok(())
}
