//! What the server tells as it happens, also across its restarts.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::sleep;

use super::remote::Remote;
use super::table::printable;
use crate::cli::Failed;

/// Between two tries to go on.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Messages that come one after the other.
pub(super) struct MessageStream<'a> {
    remote: &'a Remote,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    response: Response,
}

impl<'a> MessageStream<'a> {
    /// From now on.
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

    /// Hands every message on, until nobody wants the next one.
    pub(super) async fn each(
        mut self,
        mut on_message: impl FnMut(Value) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        let mut last: Option<String> = None;
        loop {
            let mut rest = Vec::new();
            // An answer that is cut off is taken up again.
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
                    // It may just be starting again.
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
