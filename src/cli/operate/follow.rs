//! Receives server-sent events, and reconnects after the server restarts.

use std::time::Duration;

use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::remote::Remote;
use super::table::printable;
use crate::api::message;
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

    /// Calls `on_message` for each message with this name until it returns false.
    pub(super) async fn each<T: DeserializeOwned>(
        mut self,
        name: &str,
        mut on_message: impl FnMut(T) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        let mut last: Option<String> = None;
        loop {
            let mut received = Vec::new();
            // If the connection breaks, the loop below reconnects.
            while let Ok(Some(chunk)) = self.response.chunk().await {
                received.extend_from_slice(&chunk);
                while let Some(message) = take_message(&mut received) {
                    last = message.id.or(last);
                    if message.name == message::SKIPPED {
                        let skipped = printable(&message.data);
                        eprintln!(
                            "livehook: {skipped} events were skipped, there are more than can be sent"
                        );
                    } else if message.name == name
                        && let Ok(item) = serde_json::from_str(&message.data)
                        && !on_message(item)?
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

/// A message as it was received.
#[derive(Debug, Default, PartialEq)]
struct Message {
    name: String,
    id: Option<String>,
    data: String,
}

/// Takes the first whole message out of what was received. A comment is one without name and data.
fn take_message(received: &mut Vec<u8>) -> Option<Message> {
    let end = received.windows(2).position(|pair| pair == b"\n\n")?;
    let text: Vec<u8> = received.drain(..end + 2).collect();
    let mut message = Message::default();
    for line in String::from_utf8_lossy(&text).lines() {
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut message.name),
            Some(("id", id)) => message.id = Some(id.to_owned()),
            Some(("data", data)) => data.clone_into(&mut message.data),
            _ => {}
        }
    }
    Some(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_when_they_are_whole() {
        let text =
            b": still here\n\nevent: skipped\nid: 60000\ndata: 50001\n\nevent: event\ndata: {}\n";
        let (first, rest) = text.split_at(30);
        let mut received = first.to_vec();
        assert_eq!(take_message(&mut received), Some(Message::default()));
        assert_eq!(take_message(&mut received), None);
        received.extend_from_slice(rest);
        let skipped = take_message(&mut received).unwrap();
        assert_eq!(skipped.name, message::SKIPPED);
        assert_eq!(
            (skipped.id.as_deref(), &*skipped.data),
            (Some("60000"), "50001")
        );
        assert_eq!(take_message(&mut received), None);
        received.push(b'\n');
        assert_eq!(take_message(&mut received).unwrap().data, "{}");
        assert_eq!(received, b"");
    }
}
