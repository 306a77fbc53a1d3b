//! Receives server-sent events, and reconnects after the server restarts.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::sleep;

use super::remote::Remote;
use super::table::printable;
use crate::cli::Failed;

/// The pause before each attempt to reconnect.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A connection that receives messages.
pub(super) struct MessageStream<'a> {
    remote: &'a Remote,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    response: Response,
}

impl<'a> MessageStream<'a> {
    /// Connects. The messages begin with what happens after this call.
    pub(super) async fn start(
        remote: &'a Remote,
        path: &'a [&'a str],
        query: Vec<(&'static str, String)>,
    ) -> Result<Self, Failed> {
        let response = connect(remote, path, &query, None).await?;
        Ok(Self {
            remote,
            path,
            query,
            response,
        })
    }

    /// Calls `on_message` for each message until it returns false.
    pub(super) async fn each(
        mut self,
        mut on_message: impl FnMut(Value) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        let mut last: Option<String> = None;
        loop {
            let mut rest = Vec::new();
            // If the connection breaks, the loop below reconnects.
            while let Ok(Some(chunk)) = self.response.chunk().await {
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end();
                    if let Some(skipped) = line
                        .strip_prefix(": ")
                        .filter(|text| text.contains("skipped"))
                    {
                        eprintln!("livehook: {}", printable(skipped));
                    } else if let Some(id) = line.strip_prefix("id: ") {
                        last = Some(id.to_owned());
                    } else if let Some(data) = line.strip_prefix("data: ")
                        && let Ok(message) = serde_json::from_str(data)
                        && !on_message(message)?
                    {
                        return Ok(());
                    }
                }
            }
            loop {
                sleep(RETRY_PAUSE).await;
                match connect(self.remote, self.path, &self.query, last.as_deref()).await {
                    Ok(response) => {
                        self.response = response;
                        break;
                    }
                    Err(Failed::Setup(error)) => return Err(Failed::Setup(error)),
                    // The server may be restarting.
                    Err(Failed::Run(_)) => {}
                }
            }
        }
    }
}

async fn connect(
    remote: &Remote,
    path: &[&str],
    query: &[(&'static str, String)],
    last: Option<&str>,
) -> Result<Response, Failed> {
    let headers: Vec<_> = last
        .map(|last| ("last-event-id", last))
        .into_iter()
        .collect();
    remote.send(Method::GET, path, query, &headers, None).await
}
