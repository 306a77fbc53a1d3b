//! A first run: starts livehook with `config/small.toml`, sends it one signed callback as Tencent would, and keeps serving.
//!
//! `cargo run --example first_callback`, then Ctrl-C. `-- --once` ends it by itself; `-- --config FILE` takes another
//! configuration, which needs a source `css` with a key.

use std::path::PathBuf;

use anyhow::{Context, bail};
use css_callbacks::sign;
use livehook::clock::Clock;
use livehook::config::{Config, environment};
use livehook::log;
use livehook::server::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let once = arguments.iter().any(|argument| argument == "--once");
    let given = arguments
        .iter()
        .position(|argument| argument == "--config")
        .and_then(|at| arguments.get(at + 1));
    let file = given.map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/config/small.toml")),
        PathBuf::from,
    );
    let config = Config::load(&file, &environment())?;
    log::init(&config.log)?;
    let source = config
        .sources
        .get("css")
        .context("the configuration has no source `css`")?;
    let key = source
        .keys()
        .first()
        .context("the source `css` has no key")?
        .reveal()
        .to_owned();

    let server = Server::builder(config).bind().await?;
    let url = format!("http://{}/css/stream-begin", server.addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));

    let now = Clock::system().now().seconds();
    let t = (now + 600).to_string();
    let body = format!(
        r#"{{"event_type":1,"appid":1250000000,"app":"push.example.com","appname":"live","stream_id":"room-7","channel_id":"room-7","event_time":{now},"sequence":"{now}000000001","node":"192.0.2.10","user_ip":"198.51.100.7","stream_param":"","errcode":0,"errmsg":"ok","t":{t},"sign":"{}"}}"#,
        sign(&key, &t)
    );
    println!("\nPOST {url}\n{body}\n");
    // It speaks plain HTTP, but the client wants to know by what it would encrypt.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()?;
    let answer = client.post(&url).body(body).send().await?;
    let status = answer.status();
    println!("{status} {}\n", answer.text().await?);
    if !status.is_success() {
        bail!("the callback was not taken");
    }
    if !once {
        println!("livehook goes on serving; Ctrl-C ends it.\n");
        tokio::signal::ctrl_c().await?;
    }
    let _ = stop.send(());
    serving.await??;
    Ok(())
}
