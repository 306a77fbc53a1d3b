//! The admin API of a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use css_callbacks::Secret;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::table::printable;
use crate::admin::settings::AdminConfig;
use crate::api::ErrorAnswer;
use crate::cli::Failed;
use crate::cli::health::local;
use crate::config::{Config, environment};
use crate::outbound;
use crate::settings::Env;

/// The longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time to an answer. Counting the events of a long replay may take a while.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time to an answer that needs all stored events: a deletion, or a rebuild of the
/// board.
pub(super) const SLOW_TIMEOUT: Duration = Duration::from_secs(3600);

/// Options that name the server and its token.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Access {
    /// The admin listener of the server, such as http://127.0.0.1:9090 [default: from the
    /// configuration, with its token]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with the token for --admin
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,
}

impl Access {
    /// Whether the options name a server.
    pub(super) fn is_given(&self) -> bool {
        self.admin.is_some()
    }
}

/// A server's admin listener.
pub(in crate::cli) struct Remote {
    client: Client,
    url: Url,
    token: Option<Secret>,
    runtime: Runtime,
}

impl Remote {
    /// Finds the server: from the options, else from `[admin]` of the configuration.
    pub(super) fn find(access: &Access, file: &Path) -> anyhow::Result<Self> {
        let env = environment();
        let (url, token) = match &access.admin {
            Some(url) => {
                let named = AdminConfig {
                    token_file: access.admin_token_file.clone(),
                    ..AdminConfig::default()
                };
                let env = Env {
                    base: Path::new(""),
                    variable: &|_| None,
                };
                let token = named.validate("--admin", &env);
                let token =
                    token.map_err(|invalid| anyhow!("--admin-token-file: {}", invalid.problem));
                (url.clone(), token?.token)
            }
            None => {
                let admin = Config::load_admin(file, &env)?;
                (format!("http://{}", local(admin.listen)), admin.token)
            }
        };
        let url = outbound::url(&url, "http://127.0.0.1:9090")
            .map_err(|problem| anyhow!("--admin: {problem}"))?;
        Ok(Self {
            client: outbound::client(&url, |client| client.connect_timeout(CONNECT_TIMEOUT))?,
            url,
            token,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start")?,
        })
    }

    /// Sends a GET request.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failed> {
        self.block_on(self.ask(Method::GET, path, query, None, ANSWER_TIMEOUT))
    }

    /// Sends a POST request.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Failed> {
        self.block_on(self.ask(Method::POST, path, &[], Some(&json!(body)), limit))
    }

    /// Sends a DELETE request.
    pub(super) fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failed> {
        self.block_on(self.ask(Method::DELETE, path, query, None, SLOW_TIMEOUT))
    }

    /// Runs a future to its end.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Sends a request and reads the answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<T, Failed> {
        let asking = async {
            let response = self.send(method, path, query, &[], body).await?;
            let text = response
                .text()
                .await
                .map_err(|error| self.unreachable(error))?;
            serde_json::from_str(&text).map_err(|error| {
                // It may quote the answer.
                let error = printable(&error.to_string());
                Failed::Run(anyhow!(
                    "{}: this is not an admin listener of livehook, or of another version ({error})",
                    self.url
                ))
            })
        };
        let answer = tokio::time::timeout(limit, asking).await;
        answer.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(Failed::Run(anyhow!(
                "{}: no answer within {seconds} s",
                self.url
            )))
        })
    }

    /// Sends a request. Fails unless the answer is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response, Failed> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let said: Option<ErrorAnswer> = serde_json::from_str(&text).ok();
        let problem = match (status, said) {
            (StatusCode::UNAUTHORIZED, _) => anyhow!(
                "{}: the token is wrong or missing; give the token of its [admin] with --admin-token-file, or its configuration with --config",
                self.url
            ),
            (_, Some(said)) => anyhow!("{}", printable(&said.message)),
            _ => anyhow!(
                "{}: it answers {status}; is this an admin listener of livehook?",
                self.url
            ),
        };
        // The user must correct an invalid filter.
        Err(match status {
            StatusCode::BAD_REQUEST => Failed::Setup(problem),
            _ => Failed::Run(problem),
        })
    }

    pub(super) fn unreachable(&self, error: reqwest::Error) -> Failed {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failed::Run(anyhow!("{}: {cause}; is the server running?", self.url))
    }
}
