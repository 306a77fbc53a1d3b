//! A server that only answers: the upper limit of axum and this machine.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;

/// The argument that makes the benchmark this server, in a process of its own.
pub const ARGUMENT: &str = "serve-nothing";

/// Runs the server. The only argument is the port. Runtime and sockets have the same options as
/// livehook's.
pub fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let [port] = arguments else {
        anyhow::bail!("one argument is needed, the port");
    };
    let port: u16 = port.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().route("/css", post(answer))).await?;
        Ok(())
    })
}

async fn answer(_: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], r#"{"code":0}"#)
}
