//! Entries of the rejected list, also as the shared store holds them.

use bytes::Bytes;
use css_callbacks::{Kind, Timestamp};

use crate::auth::Refusal;

/// Why a callback is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It was not authentic.
    Refused(Refusal),
    /// It came to a URL of no source, so that nothing could authenticate it.
    Misrouted,
}

impl Reason {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let refused = Refusal::ALL.into_iter().map(Self::Refused);
        refused.chain([Self::Misrouted])
    }

    /// The name of the reason in URLs, JSON and the store.
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

/// A refused callback as the shared store takes it.
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
    /// A later entry has a higher number.
    pub id: i64,
    /// [`Reason::slug`].
    pub reason: String,
    pub received: Timestamp,
    /// The source whose URL was called, or `unknown`.
    pub source: String,
    /// The kind whose URL was called.
    pub url_kind: Option<Kind>,
    /// The kind that the body claims.
    pub kind: Kind,
    /// The address of the sender.
    pub client: Option<String>,
    /// SHA-256 of the presented token.
    pub token_hash: Option<Vec<u8>>,
    /// Bytes of the body.
    pub size: u64,
    /// The body, unless it was too long to be kept.
    pub body: Option<Bytes>,
}

/// Which entries of the rejected list to list. A field that is not set excludes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct RejectedQuery {
    pub source: Option<String>,
    pub reason: Option<Reason>,
    /// The kind that the body claims.
    pub kind: Option<Kind>,
    /// Received at or after this time.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
    /// Continue after this entry, in the order of the list.
    pub after: Option<i64>,
    pub newest_first: bool,
}
