//! Authentication of callbacks: signature, token, and address.
//!
//! [`authenticate`] is a pure function. Only it, [`recheck`] and [`authenticate_misrouted`] turn a
//! received callback into an [`Authentic`], and the inbox stores nothing else. The signature covers
//! the key and `t` but not the body, and all events of one second share it. So only the token and
//! the allow-list stop somebody who has found one signature.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use css_callbacks::{Callback, EventId, Kind, Signed, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::source::Source;

/// The parts of a request that authentication checks.
#[derive(Debug, Clone)]
pub(crate) struct Presented<'a> {
    /// The kind in the URL; none for `/{source}`.
    pub url_kind: Option<Kind>,
    /// The `token` of the query, percent-decoded.
    pub token: Option<&'a [u8]>,
    /// The sender's address, if known.
    pub client: Option<IpAddr>,
    /// When the callback arrived.
    pub received: Timestamp,
    /// The body as received.
    pub body: Bytes,
}

/// Why a callback is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The URL has no token, or a wrong one.
    Token,
    /// The sender's address is not in the allow-list.
    Address,
    /// `sign` or `t` is missing or malformed.
    HalfSigned,
    /// `sign` matches none of the keys.
    Signature,
    /// The signature is correct, but `t` plus the grace period has passed.
    Expired,
    /// `sign` and `t` are missing, and the kind always has them or needs `allow_unsigned`.
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

    /// The short name for logs and the rejected list.
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

    /// What the operator should check.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Token => "the URL in the template does not have the source's token (?token=)",
            Self::Address => {
                "the sender's address is not in allow_from; behind a proxy, set trusted_proxies"
            }
            Self::HalfSigned => {
                "sign or t is missing or malformed; something on the way may change the body, or it is a forgery"
            }
            Self::Signature => {
                "the signature was made with another key; if other callbacks arrive, this one is a forgery, else the keys here differ \
                 from the template's CallbackKey"
            }
            Self::Expired => "t is older than expiry_grace, or this machine's clock is wrong",
            Self::Unsigned => {
                "the template has no CallbackKey, or the kind needs the token or allow_unsigned"
            }
        }
    }
}

/// A callback that passed authentication, or an event that livehook derived from such callbacks.
#[derive(Debug)]
pub(crate) struct Authentic {
    source: Arc<str>,
    kind: Kind,
    id: EventId,
    received: Timestamp,
    body: Bytes,
}

impl Authentic {
    /// Call it only after all checks have passed.
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

    /// An event that livehook itself derives from authentic callbacks.
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

    /// The kind, from the body or else the URL.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The identity of the event.
    pub(crate) fn id(&self) -> EventId {
        self.id
    }

    /// When the callback arrived.
    pub(crate) fn received(&self) -> Timestamp {
        self.received
    }

    /// The body as received.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// The result of authentication.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The kind. Trust it only if `outcome` is `Ok`.
    pub kind: Kind,
    /// `t` of a correct signature, even if expired: it shows the offset between the two clocks.
    pub signed_t: Option<i64>,
    /// The authentic callback, or the reason for the refusal.
    pub outcome: Result<Authentic, Refusal>,
}

/// Checks a callback by the rules of its source. `random` is used as in [`EventId::derive`].
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
        // An attacker with a found signature but no token must not influence the clock offset.
        signed_t: signed_t.filter(|_| allowed.is_ok()),
        outcome,
    }
}

/// Checks a callback that was refused for its signature again, with the current keys of its source.
/// Its address and token were correct when it arrived. None if it is still not authentic. None,
/// too, if the source has no keys: then the token alone would decide.
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

/// Checks whether a callback at an unknown URL was meant for this source. Here the signature or the
/// token must prove it: a source that accepts anything is no proof. It compares the
/// [hash](token_hash) of the token, since the token itself is not stored.
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

/// The hash that is stored instead of a presented token.
pub(crate) fn token_hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether the source accepts callbacks from this address.
pub(crate) fn check_address(source: &Source, presented: &Presented) -> Result<(), Refusal> {
    if source.allows_from(presented.client) {
        Ok(())
    } else {
        Err(Refusal::Address)
    }
}

/// Whether the URL has the source's token, if the source has one.
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
        // Without a key the platform signs with the empty one, which proves nothing.
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
            // Always try all keys, so that the time does not reveal which one matches.
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

/// HMAC-SHA256 of the joined parts: only the owner of the key can compute it.
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
