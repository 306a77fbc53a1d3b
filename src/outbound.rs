//! The HTTP client for everything that livehook sends: it goes where it is told or nowhere.

use anyhow::Context;
use reqwest::{Client, ClientBuilder, Url, redirect};
use rustls::crypto::CryptoProvider;

use crate::settings;

/// A client for `url` that follows no redirects and uses no proxy of the environment; `more` sets what else is wanted.
pub(crate) fn client(
    url: &Url,
    more: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> anyhow::Result<Client> {
    choose_crypto();
    let mut client = Client::builder()
        .user_agent(concat!("livehook/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy();
    if url.scheme() == "http" {
        // It never speaks TLS, so it need not find the system's certificates.
        client = client.tls_certs_only([]);
    }
    more(client).build().context(
        "cannot set up HTTPS; the certificates of the system, or those of $SSL_CERT_FILE, are needed",
    )
}

/// TLS needs to know who does the cryptography for the process.
pub(crate) fn choose_crypto() {
    if CryptoProvider::get_default().is_none() {
        // It fails if another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Reads the URL of an HTTP endpoint; the problem as the rest of a sentence that begins with its place. It does not repeat
/// the URL, which may hold secrets.
pub(crate) fn url(text: &str, example: &str) -> Result<Url, String> {
    settings::check_filled(text)?;
    // The parser's own messages do not repeat the text.
    let url = Url::parse(text)
        .map_err(|error| format!("is no URL ({error}), write one such as {example}"))?;
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
