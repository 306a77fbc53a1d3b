//! The HTTP client for all requests of livehook. It follows no redirect and uses no proxy.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, ClientBuilder, Url, redirect};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::Instant;

/// A connection that is idle for this long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// The client's default is 100. With more headers a good answer would count as a failure.
const MAX_HEADERS: usize = 2000;

use crate::settings;

/// A client for `url`. `configure` adds settings.
pub(crate) fn client(
    url: &Url,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> anyhow::Result<Client> {
    configure(settings(tls(url)?))
        .build()
        .context("cannot set up the HTTP client")
}

/// Clients for one URL, one after the other. Each is used for a limited time, and its connections
/// end with it. So when the server's name moves to another address, livehook follows, even if the
/// old address still answers.
pub(crate) struct Clients {
    tls: Option<ClientConfig>,
    lifetime: Duration,
    configure: fn(ClientBuilder) -> ClientBuilder,
    current: Mutex<(Instant, Client)>,
}

impl Clients {
    pub(crate) fn new(
        url: &Url,
        lifetime: Duration,
        configure: fn(ClientBuilder) -> ClientBuilder,
    ) -> anyhow::Result<Self> {
        // Only once, because it reads the certificates of the system.
        let tls = tls(url)?;
        let first = configure(settings(tls.clone())).build();
        let first = first.context("cannot set up the HTTP client")?;
        Ok(Self {
            tls,
            lifetime,
            configure,
            current: Mutex::new((Instant::now(), first)),
        })
    }

    /// The client for the next request.
    pub(crate) fn current(&self) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, client) = &mut *current;
        if since.elapsed() >= self.lifetime
            && let Ok(fresh) = (self.configure)(settings(self.tls.clone())).build()
        {
            (*since, *client) = (Instant::now(), fresh);
        }
        client.clone()
    }
}

fn settings(tls: Option<ClientConfig>) -> ClientBuilder {
    let client = Client::builder()
        .user_agent(concat!("livehook/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .http1_max_headers(MAX_HEADERS)
        .no_proxy();
    match tls {
        Some(tls) => client.tls_backend_preconfigured(tls),
        // Without TLS it needs no certificates of the system.
        None => client.tls_certs_only([]),
    }
}

/// The TLS settings for `url`; none for HTTP.
fn tls(url: &Url) -> anyhow::Result<Option<ClientConfig>> {
    choose_crypto();
    if url.scheme() == "http" {
        return Ok(None);
    }
    let config = ClientConfig::builder().with_platform_verifier().context(
        "cannot set up HTTPS; the certificates of the system, or those of $SSL_CERT_FILE, are needed",
    )?;
    let mut tls = config.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(tls))
}

/// Chooses the cryptography library of the process, which TLS needs.
pub(crate) fn choose_crypto() {
    if CryptoProvider::get_default().is_none() {
        // It fails only if another thread has chosen meanwhile, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Reads the URL of an HTTP endpoint. The error is the rest of a sentence that begins with the
/// option's place. It does not repeat the URL, which may contain secrets.
pub(crate) fn url(text: &str, example: &str) -> Result<Url, String> {
    settings::check_no_placeholder(text)?;
    // The parser's own messages do not repeat the text.
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL ({error}), write one such as {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "is neither http nor https, write one such as {example}"
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no host, write one such as {example}"));
    }
    Ok(url)
}
