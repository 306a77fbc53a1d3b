//! What must be refused: forgeries, and bodies that are none.

use css_callbacks::{Kind, Secret};
use reqwest::Url;

use super::content::{Content, Signature};
use super::template::Template;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Signed with another key.
    WrongKey,
    /// Signed as by a template without a key.
    EmptyKey,
    /// Without the signature that its kind always has.
    Stripped,
    /// `sign` without `t`.
    WithoutT,
    /// The signature of another `t`.
    OtherT,
    /// `sign` is `true`, which in some languages is equal to every text.
    NotText,
    /// Correctly signed, but expired a day ago.
    Expired,
    /// Without the token.
    WithoutToken,
    /// With another token.
    WrongToken,
    /// A body that ends too early.
    Truncated,
    /// More behind the body.
    Trailing,
    /// A list.
    List,
    /// Nothing.
    Empty,
    /// Form fields.
    Form,
}

/// What the sender knows of the receiver's secrets.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The CallbackKey.
    pub key: Option<&'a Secret>,
    /// The token of the URLs.
    pub token: Option<&'a Secret>,
}

impl Bad {
    /// All, forgeries first.
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

    /// In one word.
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

    /// Whether it is a callback that somebody else made up, and not merely no callback.
    pub fn is_forgery(self) -> bool {
        !matches!(
            self,
            Self::Truncated | Self::Trailing | Self::List | Self::Empty | Self::Form
        )
    }

    /// Whether a receiver with these secrets can tell: where there is no key, nobody's signature proves anything.
    pub fn is_detectable(self, secrets: Secrets) -> bool {
        match self {
            Self::WithoutToken | Self::WrongToken => secrets.token.is_some(),
            _ if self.is_forgery() => secrets.key.is_some(),
            _ => true,
        }
    }

    /// The request, made of a genuine callback of a kind that is always signed.
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

    /// The kinds that forgeries are made of: they always come signed.
    pub(super) const KINDS: [Kind; 2] = [Kind::StreamBegin, Kind::StreamEnd];
}
