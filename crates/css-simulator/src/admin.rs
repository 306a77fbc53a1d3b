//! A client of livehook's admin listener, for the checks.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use css_callbacks::Secret;
use reqwest::header::DATE;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::HttpEndpoint;

/// The longest wait for an admin listener that is away. It may be restarting.
pub(super) const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait before anything is sent. Then the address is more likely wrong.
pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// The longest time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends requests to the admin listener of a livehook.
pub(super) struct AdminClient {
    client: Client,
    url: Url,
    token: Option<Secret>,
    /// The command line option with the URL, for messages.
    option: &'static str,
}

/// A page of a list.
#[derive(Deserialize)]
struct ListPage<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// An answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) date: Option<String>,
    pub(super) body: Vec<u8>,
}

impl AdminClient {
    /// Makes a client for `url`. An error continues a sentence that begins with the option's name.
    pub(super) fn new(
        endpoint: HttpEndpoint,
        token: Option<Secret>,
        option: &'static str,
    ) -> anyhow::Result<Self> {
        let HttpEndpoint { client, mut url } = endpoint;
        if !url.username().is_empty() || url.password().is_some() {
            bail!("must not hold a user or password; --admin-token-file takes the token");
        }
        url.set_query(None);
        Ok(Self {
            client,
            url,
            token,
            option,
        })
    }

    /// The message if another program answers at this address.
    pub(super) fn not_livehook(&self, why: impl std::fmt::Display) -> String {
        let option = self.option;
        format!("what answers at {option} is no admin listener of a livehook ({why})")
    }

    /// Returns all items of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        timeout: Duration,
    ) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let fields = [fields, &[("limit", "1000"), ("after", &*after)]].concat();
            let answer = self.ask(path, &fields, timeout).await?;
            let status = answer.status;
            if status != StatusCode::OK {
                bail!(self.not_livehook(format_args!("it answers {status}")));
            }
            let page: ListPage<T> = serde_json::from_slice(&answer.body).map_err(|error| {
                anyhow!(self.not_livehook(format_args!("it answers {status}: {error}")))
            })?;
            all.extend(page.items);
            match page.next {
                Some(next) if next == after => bail!(self.not_livehook("its list does not end")),
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// Returns the answer, 200 or 404. Waits if the listener is away.
    pub(super) async fn ask(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        timeout: Duration,
    ) -> anyhow::Result<Answered> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        if !fields.is_empty() {
            url.query_pairs_mut().extend_pairs(fields);
        }
        let until = Instant::now() + timeout;
        loop {
            match self.try_ask(url.clone()).await {
                Ok(answer) => match answer.status {
                    StatusCode::OK | StatusCode::NOT_FOUND => return Ok(answer),
                    StatusCode::UNAUTHORIZED => {
                        bail!("the admin listener wants another token: --admin-token-file")
                    }
                    status if status.is_server_error() && Instant::now() < until => {}
                    status => bail!("the admin listener answers {status}"),
                },
                Err(_) if Instant::now() < until => {}
                Err(error) => {
                    return Err(error)
                        .context(format!("no answer from the admin listener at {}", self.url));
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_ask(&self, url: Url) -> Result<Answered, reqwest::Error> {
        let mut request = self.client.get(url).timeout(REQUEST_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let date = answer
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        Ok(Answered {
            status: answer.status(),
            date: date.map(str::to_owned),
            body: answer.bytes().await?.to_vec(),
        })
    }
}
