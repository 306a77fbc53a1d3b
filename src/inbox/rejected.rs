//! What was refused or misrouted, for the list that several processes share; a single one has a file of its own.

use bytes::Bytes;
use css_callbacks::{Kind, Timestamp};

use crate::auth::Refusal;

/// Why something is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It was refused.
    Refused(Refusal),
    /// It came to a URL that is nobody's, so that there was no source to judge it.
    Misrouted,
}

impl Reason {
    /// Every reason.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let refused = Refusal::ALL.into_iter().map(Self::Refused);
        refused.chain([Self::Misrouted])
    }

    /// The reason in one word.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.slug(),
            Self::Misrouted => "misrouted",
        }
    }

    /// The reason with this slug.
    pub(crate) fn from_slug(slug: &str) -> Option<Self> {
        Self::all().find(|reason| reason.slug() == slug)
    }
}

/// What is kept of a refused callback.
#[derive(Debug, Clone)]
pub(crate) struct RejectedRow {
    pub(crate) source: String,
    pub(crate) reason: &'static str,
    pub(crate) received: Timestamp,
    pub(crate) url_kind: Option<i32>,
    pub(crate) kind: i32,
    pub(crate) client: Option<String>,
    pub(crate) token_hash: Option<Vec<u8>>,
    pub(crate) size: i64,
    pub(crate) body: Option<Vec<u8>>,
}

/// An entry of the rejected list.
#[derive(Debug, Clone)]
pub(crate) struct RejectedEntry {
    /// Its number: a later one is higher.
    pub id: i64,
    /// Why it is there: [`Reason::slug`].
    pub reason: String,
    /// When it arrived.
    pub received: Timestamp,
    /// The source whose URL was called; `unknown` if it is nobody's.
    pub source: String,
    /// The kind whose URL was called.
    pub url_kind: Option<Kind>,
    /// The kind it would have had.
    pub kind: Kind,
    /// Where it came from.
    pub client: Option<String>,
    /// SHA-256 of the presented token.
    pub token_hash: Option<Vec<u8>>,
    /// Bytes of the body.
    pub size: u64,
    /// The body, unless it was too long to be kept.
    pub body: Option<Bytes>,
}

/// Which entries of the rejected list are wanted. What is not set lets everything pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct RejectedQuery {
    /// Of this source.
    pub source: Option<String>,
    /// There for this reason.
    pub reason: Option<Reason>,
    /// That would have been of this kind.
    pub kind: Option<Kind>,
    /// Received at or after this time.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
    /// Beyond this entry in the order that is asked for.
    pub after: Option<i64>,
    /// The newest come first.
    pub newest_first: bool,
}
