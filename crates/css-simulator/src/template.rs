//! The URLs of a callback template.

use css_callbacks::{Kind, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

/// The characters that are escaped in a query value: all but the unreserved ones of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The URLs of a callback template: one per kind, or one for all.
#[derive(Debug, Clone)]
pub struct Template {
    base: Url,
    single: bool,
    token: Option<Secret>,
    source: Option<String>,
}

impl Template {
    /// A template whose URLs begin with `base`: `{base}/{kind}`, or `base` itself for all kinds if
    /// `single`. A query in `base` is kept, and `token` is added to it.
    ///
    /// An error continues a sentence that begins with the option's name.
    pub fn new(mut base: Url, token: Option<Secret>, single: bool) -> Result<Self, String> {
        if !base.username().is_empty() || base.password().is_some() {
            return Err("must not hold a user or password: the platform sends neither".to_owned());
        }
        base.set_fragment(None);
        Ok(Self {
            base,
            single,
            token,
            source: None,
        })
    }

    /// The URL for callbacks of this kind. The platform has no URL for an unknown kind, so these go
    /// where pushes go.
    pub fn url(&self, kind: Kind) -> Url {
        self.url_with(kind, self.token.as_ref())
    }

    /// Like [`Template::url`], with another token.
    pub fn url_with(&self, kind: Kind, token: Option<&Secret>) -> Url {
        let mut url = self.base.clone();
        if !self.single {
            let slug = match kind {
                Kind::Unknown => Kind::StreamBegin.slug(),
                known => known.slug(),
            };
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{path}/{slug}"));
        }
        if let Some(token) = token {
            let token = utf8_percent_encode(token.reveal(), ESCAPED);
            let own = format!("token={token}");
            let query = match url.query().unwrap_or_default() {
                "" => own,
                other => format!("{other}&{own}"),
            };
            url.set_query(Some(&query));
        }
        url
    }

    /// The kind for which the URL of this kind was configured.
    pub fn url_kind(&self, kind: Kind) -> Option<Kind> {
        match (self.single, kind) {
            (true, _) => None,
            (false, Kind::Unknown) => Some(Kind::StreamBegin),
            (false, known) => Some(known),
        }
    }

    /// The token in the URLs.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// The start of all URLs.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The host and port to connect to. An IPv6 address has brackets only in a URL.
    pub fn address(&self) -> (&str, u16) {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or(80);
        (host.trim_matches(['[', ']']), port)
    }

    /// The same template for a livehook source with this name, whatever the path of the URL is.
    #[must_use]
    pub fn of_source(self, name: &str) -> Self {
        Self {
            source: Some(name.to_owned()),
            ..self
        }
    }

    /// The name of the source, if the receiver is a livehook: the last part of the path, unless it
    /// was set.
    pub fn source(&self) -> Option<&str> {
        if self.source.is_some() {
            return self.source.as_deref();
        }
        let path = self.base.path().trim_end_matches('/');
        path.rsplit('/').next().filter(|name| !name.is_empty())
    }
}

/// The part of a URL for the first line of a request.
pub(super) fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(base: &str, token: Option<&str>, single: bool, kind: Kind) -> String {
        let template =
            Template::new(base.parse().unwrap(), token.map(Secret::new), single).unwrap();
        template.url(kind).to_string()
    }

    #[test]
    fn every_kind_has_its_url() {
        let push = Kind::StreamBegin;
        assert_eq!(
            url("http://h/css", None, false, push),
            "http://h/css/stream-begin"
        );
        assert_eq!(
            url("http://h/css/", None, false, push),
            "http://h/css/stream-begin"
        );
        assert_eq!(
            url("https://h:1", None, false, push),
            "https://h:1/stream-begin"
        );
        assert_eq!(
            url("http://h/css", Some("a b+c"), false, Kind::Unknown),
            "http://h/css/stream-begin?token=a%20b%2Bc"
        );
        assert_eq!(
            url("http://h/css?action=x#y", Some("s"), true, push),
            "http://h/css?action=x&token=s"
        );
    }

    #[test]
    fn the_source_is_the_last_part_of_the_path() {
        let source = |url| {
            Template::new(Url::parse(url).unwrap(), None, false)
                .unwrap()
                .source()
                .map(str::to_owned)
        };
        assert_eq!(source("http://h/css"), Some("css".to_owned()));
        assert_eq!(source("http://h/behind/a/proxy/"), Some("proxy".to_owned()));
        assert_eq!(source("http://h"), None);
    }

    #[test]
    fn a_user_is_refused_without_repeating_the_password() {
        let url = "http://user:secret@h/css".parse().unwrap();
        let problem = Template::new(url, None, false).unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
