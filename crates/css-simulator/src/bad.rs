//! Requests that a receiver must refuse: forgeries, and bodies that are not callbacks.

use css_callbacks::{Kind, Secret};
use reqwest::Url;

use super::content::{Content, Signature};
use super::template::Template;

/// A bad request: what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// It is signed with another key.
    WrongKey,
    /// It is signed like a callback of a template without a key.
    EmptyKey,
    /// The signature is missing, although its kind always has one.
    Stripped,
    /// It has `sign` without `t`.
    WithoutT,
    /// It has the signature of another `t`.
    OtherT,
    /// `sign` is `true`, which equals every text in some languages.
    NotText,
    /// It is signed correctly, but expired a day ago.
    Expired,
    /// The token is missing.
    WithoutToken,
    /// It has another token.
    WrongToken,
    /// The body ends too early.
    Truncated,
    /// More text follows the body.
    Trailing,
    /// The body is a list.
    List,
    /// The body is empty.
    Empty,
    /// The body is form fields.
    Form,
}

/// The secrets of the receiver.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The CallbackKey.
    pub key: Option<&'a Secret>,
    /// The token of the URLs.
    pub token: Option<&'a Secret>,
}

impl Bad {
    /// All bad requests, forgeries first.
    pub const ALL: [Self; 14] = [
        Self::WrongKey,
        Self::EmptyKey,
        Self::Stripped,
        Self::WithoutT,
        Self::OtherT,
        Self::NotText,
        Self::Expired,
        Self::WithoutToken,
        Self::WrongToken,
        Self::Truncated,
        Self::Trailing,
        Self::List,
        Self::Empty,
        Self::Form,
    ];

    /// Its name in reports.
    pub fn slug(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong-key",
            Self::EmptyKey => "empty-key",
            Self::Stripped => "stripped-signature",
            Self::WithoutT => "sign-without-t",
            Self::OtherT => "changed-t",
            Self::NotText => "sign-is-true",
            Self::Expired => "expired-a-day-ago",
            Self::WithoutToken => "missing-token",
            Self::WrongToken => "wrong-token",
            Self::Truncated => "truncated",
            Self::Trailing => "trailing-bytes",
            Self::List => "not-an-object",
            Self::Empty => "empty",
            Self::Form => "form-fields",
        }
    }

    /// Whether it is a callback made by somebody else, and not just an invalid body.
    pub fn is_forgery(self) -> bool {
        !matches!(
            self,
            Self::Truncated | Self::Trailing | Self::List | Self::Empty | Self::Form
        )
    }

    /// Whether a receiver with these secrets can recognise it. Without a key, no signature proves
    /// anything.
    pub fn is_detectable(self, secrets: Secrets) -> bool {
        match self {
            Self::WithoutToken | Self::WrongToken => secrets.token.is_some(),
            _ if self.is_forgery() => secrets.key.is_some(),
            _ => true,
        }
    }

    /// Makes the request from a genuine callback of a kind that is always signed.
    pub fn request(
        self,
        content: &Content,
        now: i64,
        secrets: Secrets,
        template: &Template,
    ) -> (Url, String) {
        debug_assert!(!content.kind.may_be_unsigned());
        let key = secrets.key.map(Secret::reveal);
        let good = Signature::new(key, now + 600);
        let signed = |signature| content.body(Some(&signature));
        let body = match self {
            Self::WrongKey => signed(Signature::new(
                Some("NotTheKeyOfThisTemplate0123456789"),
                now + 600,
            )),
            Self::EmptyKey => signed(Signature::new(None, now + 600)),
            Self::Stripped => content.body(None),
            Self::WithoutT => {
                let mut content = content.clone();
                content.members.insert("sign".to_owned(), good.sign.into());
                content.body(None)
            }
            Self::NotText => {
                let mut content = content.clone();
                content.members.insert("sign".to_owned(), true.into());
                content.members.insert("t".to_owned(), good.t.into());
                content.body(None)
            }
            Self::OtherT => signed(Signature {
                t: good.t + 3600,
                ..good
            }),
            Self::Expired => signed(Signature::new(key, now - 24 * 3600)),
            Self::WithoutToken | Self::WrongToken => signed(good),
            Self::Truncated => {
                let body = signed(good);
                let mut end = body.len() / 2;
                while !body.is_char_boundary(end) {
                    end -= 1;
                }
                body[..end].to_owned()
            }
            Self::Trailing => signed(good) + "{}",
            Self::List => format!("[{}]", signed(good)),
            Self::Empty => String::new(),
            Self::Form => format!(
                "event_type=1&stream_id=room-7&t={}&sign={}",
                good.t, good.sign
            ),
        };
        let url = match self {
            Self::WithoutToken => template.url_with(content.kind, None),
            Self::WrongToken => template.url_with(
                content.kind,
                Some(&Secret::new("not-the-token-of-this-template")),
            ),
            _ => template.url(content.kind),
        };
        (url, body)
    }

    /// The kinds from which forgeries are made: they are always signed.
    pub(super) const KINDS: [Kind; 2] = [Kind::StreamBegin, Kind::StreamEnd];
}
