//! Who may be believed: the signature, the token, the address.
//!
//! [`authenticate`] is a plain function of what was received, and beside [`recheck`] and [`claim`] the only maker of [`Authentic`],
//! which is the only thing that the inbox stores. The signature covers key and `t` but never the body, and all events of one second share it; the
//! token and the allow-list are what keeps a finder of one signature out.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use css_callbacks::{Callback, EventId, Kind, Signed, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::source::Source;

/// Everything about a request that authentication looks at.
#[derive(Debug, Clone)]
pub(crate) struct Presented<'a> {
    /// The kind whose URL was called; none for `/{source}`.
    pub url_kind: Option<Kind>,
    /// The `token` of the query, percent-decoded.
    pub token: Option<&'a [u8]>,
    /// The sender's address, where it can be told.
    pub client: Option<IpAddr>,
    /// When the callback arrived.
    pub received: Timestamp,
    /// The body as received.
    pub body: Bytes,
}

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The URL carries no or another token than the source's.
    Token,
    /// It came from an address outside the allow-list.
    Address,
    /// `sign` without `t` or the other way round, or one of them malformed.
    HalfSigned,
    /// `sign` fits none of the keys.
    Signature,
    /// Correctly signed, but `t` and the grace are over.
    Expired,
    /// Neither `sign` nor `t`, on a kind that always has them or is not allowed without.
    Unsigned,
}

impl Refusal {
    /// Every reason.
    pub(crate) const ALL: [Self; 6] = [
        Self::Token,
        Self::Address,
        Self::HalfSigned,
        Self::Signature,
        Self::Expired,
        Self::Unsigned,
    ];

    /// The reason in one word, for logs and the rejected list.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Address => "address",
            Self::HalfSigned => "half-signed",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Unsigned => "unsigned",
        }
    }

    /// What the operator should look at.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Token => "the URL in the template does not end in the source's ?token=",
            Self::Address => {
                "the sender's address is not in allow_from; behind a proxy, set trusted_proxies"
            }
            Self::HalfSigned => "sign and t do not have the documented form",
            Self::Signature => {
                "it is signed with another key than this source's: a forgery if other callbacks arrive, else the keys here differ \
                 from the template's CallbackKey"
            }
            Self::Expired => "t is older than expiry_grace, or this machine's clock is wrong",
            Self::Unsigned => {
                "the template has no CallbackKey, or the kind needs the token or allow_unsigned"
            }
        }
    }
}

/// A callback that passed authentication; only [`authenticate`], [`recheck`] and [`claim`] make one, beside what is derived from
/// others.
#[derive(Debug)]
pub(crate) struct Authentic {
    source: Arc<str>,
    kind: Kind,
    id: EventId,
    received: Timestamp,
    body: Bytes,
}

impl Authentic {
    /// Only after the callback was judged.
    fn new(
        source: &Source,
        presented: &Presented,
        callback: &Callback,
        kind: Kind,
        random: impl FnOnce() -> [u8; 16],
    ) -> Self {
        Self {
            source: source.name().clone(),
            kind,
            id: EventId::derive(source.name(), kind, callback.members(), random),
            received: presented.received,
            body: presented.body.clone(),
        }
    }

    /// What livehook itself makes of callbacks that were authentic.
    pub(crate) fn derived(
        source: Arc<str>,
        kind: Kind,
        id: EventId,
        received: Timestamp,
        body: Bytes,
    ) -> Self {
        debug_assert!(kind.is_derived());
        Self {
            source,
            kind,
            id,
            received,
            body,
        }
    }

    /// The source's name.
    pub(crate) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The kind, as its body or its URL says.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its identity.
    pub(crate) fn id(&self) -> EventId {
        self.id
    }

    /// When it arrived.
    pub(crate) fn received(&self) -> Timestamp {
        self.received
    }

    /// The body as received.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What came of a callback.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The kind it would have; to be believed only with `outcome`.
    pub kind: Kind,
    /// `t` of a correct signature, also of an expired one: it tells how far sender's and receiver's clocks are apart.
    pub signed_t: Option<i64>,
    /// The authentic callback, or why it is refused.
    pub outcome: Result<Authentic, Refusal>,
}

/// Judges a callback by the rules of its source. `chance` is used as in [`EventId::derive`].
pub(crate) fn authenticate(
    source: &Source,
    presented: &Presented,
    callback: &Callback,
    random: impl FnOnce() -> [u8; 16],
) -> Verdict {
    let kind = callback.kind(presented.url_kind);
    let (signed_t, signature) = check_signature(source, presented, kind, callback.signed());
    let allowed = check_address(source, presented).and_then(|()| check_token(source, presented));
    let outcome = allowed
        .and(signature)
        .map(|()| Authentic::new(source, presented, callback, kind, random));
    Verdict {
        kind,
        // Whoever found a signature must not be able to tell the time where the address or the token keeps them out.
        signed_t: signed_t.filter(|_| allowed.is_ok()),
        outcome,
    }
}

/// Judges once more, by the keys that a source has now, a callback that was refused for its signature: address and token were
/// good when it arrived. None if it is still not authentic; without keys none is, as then the token alone would decide.
pub(crate) fn recheck(
    source: &Source,
    presented: &Presented,
    callback: &Callback,
    random: impl FnOnce() -> [u8; 16],
) -> Option<Authentic> {
    let kind = callback.kind(presented.url_kind);
    if source.keys().is_empty() {
        return None;
    }
    let (_, signature) = check_signature(source, presented, kind, callback.signed());
    signature
        .ok()
        .map(|()| Authentic::new(source, presented, callback, kind, random))
}

/// Judges for a source, as if it had come to a URL of it, a callback that came to one that is nobody's. Unlike there the signature
/// or the token has to prove it: what a source takes from anybody is no sign that it was meant for it. Of the token the
/// [hash](token_hash) is compared, as nothing else of it is kept.
pub(crate) fn authenticate_misrouted(
    source: &Source,
    presented: &Presented,
    token: Option<[u8; 32]>,
    callback: &Callback,
    random: impl FnOnce() -> [u8; 16],
) -> Option<Authentic> {
    check_address(source, presented).ok()?;
    let expected = source
        .token()
        .map(|token| token_hash(token.reveal().as_bytes()));
    if expected.is_some() && expected != token {
        return None;
    }
    let is_signed = !source.keys().is_empty() && matches!(callback.signed(), Signed::Both { .. });
    if expected.is_none() && !is_signed {
        return None;
    }
    let kind = callback.kind(presented.url_kind);
    let (_, signature) = check_signature(source, presented, kind, callback.signed());
    signature
        .ok()
        .map(|()| Authentic::new(source, presented, callback, kind, random))
}

/// The hash under which a presented token is remembered.
pub(crate) fn token_hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether the sender's address may send at all.
pub(crate) fn check_address(source: &Source, presented: &Presented) -> Result<(), Refusal> {
    if source.allows_from(presented.client) {
        Ok(())
    } else {
        Err(Refusal::Address)
    }
}

/// Whether the URL carries the source's token, if it has one.
pub(crate) fn check_token(source: &Source, presented: &Presented) -> Result<(), Refusal> {
    match source.token() {
        Some(token) if !token.matches(presented.token.unwrap_or_default()) => Err(Refusal::Token),
        _ => Ok(()),
    }
}

fn check_signature(
    source: &Source,
    presented: &Presented,
    kind: Kind,
    signed: Signed,
) -> (Option<i64>, Result<(), Refusal>) {
    if source.keys().is_empty() {
        // Without a key the platform signs with the empty one, which proves nothing: the token alone decides.
        return (None, Ok(()));
    }
    match signed {
        Signed::Neither => {
            let has_other_proof = source.token().is_some() || source.allows_unsigned(kind);
            (
                None,
                if kind.may_be_unsigned() && has_other_proof {
                    Ok(())
                } else {
                    Err(Refusal::Unsigned)
                },
            )
        }
        Signed::Half | Signed::Malformed => (None, Err(Refusal::HalfSigned)),
        Signed::Both { sign, t } => {
            // All keys are tried, so that the time taken does not tell which one fits.
            let fits = source.keys().iter().fold(false, |fits, key| {
                fits | sign_matches(key.reveal(), t, sign)
            });
            let Some(t) = t.parse::<i64>().ok().filter(|_| fits) else {
                return (None, Err(Refusal::Signature));
            };
            let expired =
                presented.received > Timestamp::from_seconds(t).plus(source.expiry_grace());
            (
                Some(t),
                if expired {
                    Err(Refusal::Expired)
                } else {
                    Ok(())
                },
            )
        }
    }
}

fn sign_matches(key: &str, t: &str, presented: &[u8]) -> bool {
    let mut expected = [0; 32];
    match hex::encode_to_slice(md5_of(key, t), &mut expected) {
        Ok(()) => expected.ct_eq(presented).into(),
        Err(_) => false,
    }
}

fn md5_of(key: &str, t: &str) -> [u8; 16] {
    Md5::new()
        .chain_update(key)
        .chain_update(t)
        .finalize()
        .into()
}

/// HMAC-SHA256 over these parts, one after the other: what only who has the key can make.
pub(crate) fn hmac_sha256<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut code = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(code) => code,
        Err(_) => unreachable!("a key of any length fits"),
    };
    parts.into_iter().for_each(|part| code.update(part));
    code.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
