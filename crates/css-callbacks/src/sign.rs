//! The signature of a callback.
//!
//! `sign` is the lower-case hex MD5 of the key and `t` written one after the other (page 32744). It covers neither the body
//! nor the kind, and all callbacks of one second carry the same signature. So it proves only that the sender knows the key or
//! has seen a callback of the last minutes.

use std::fmt;
use std::time::Duration;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::callback::{Callback, Signed};
use crate::time::Timestamp;

/// A key of a callback template, or a secret in its URL. `Debug` does not show it.
///
/// `==` is for comparing configurations. Compare with what a stranger presents by [`matches`](Self::matches).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text as it is: nothing is trimmed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, where it is needed. Keep it out of logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the presented text is this secret, compared in constant time.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why [`verify`] does not believe a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It has neither `sign` nor `t`. Genuine callbacks of some kinds come like this: see
    /// [`Kind::may_be_unsigned`](crate::Kind::may_be_unsigned).
    #[error("the callback is not signed")]
    Unsigned,
    /// It has only one of `sign` and `t`, or one of them does not have the documented form: see [`Signed`].
    #[error("sign and t do not have the documented form")]
    Malformed,
    /// `sign` is the signature of `t` under none of the keys: the callback is forged, or the receiver has the wrong keys.
    #[error("the signature fits none of the keys")]
    Signature,
    /// The signature is right, but `t` plus the grace is in the past: the callback is very late, or copied, or one of the two
    /// clocks is wrong.
    #[error("the signature has expired")]
    Expired,
}

/// Signs `t` with a key, as the platform does: lower-case hex MD5 of the two written one after the other (page 32744).
///
/// `t` is the text of a UNIX time in seconds. A receiver needs [`verify`]; this is for tests and for senders.
///
/// ```
/// // The same by hand: printf test1545030873 | md5sum
/// assert_eq!(css_callbacks::sign("test", "1545030873"), "ca3e25e5dc17a6f9909a9ae7281e300d");
/// // A template without a key signs with the empty one.
/// assert_eq!(css_callbacks::sign("", "1615860427"), "ac920c3e661d867e90078cf1b5de2c63");
/// ```
pub fn sign(key: &str, t: &str) -> String {
    let digest = Md5::new().chain_update(key).chain_update(t).finalize();
    hex::encode(digest)
}

/// Checks the signature of a callback, in constant time.
///
/// Give two keys while you change the key of the callback template, else one. With an empty list no callback is believed.
///
/// A signature expires at `t`, which is 10 minutes after the callback was first sent. The platform repeats a callback for
/// longer than that, and nobody knows whether it signs again. So a signature is accepted until `t` plus `grace`. A grace of 10
/// minutes covers all repeats.
///
/// ```
/// use css_callbacks::{Callback, Secret, Timestamp, VerifyError, verify};
/// use std::time::Duration;
///
/// let body = br#"{"t":1545030873,"sign":"ca3e25e5dc17a6f9909a9ae7281e300d"}"#;
/// let callback = Callback::parse(body)?;
/// let keys = [Secret::new("test")];
/// let grace = Duration::from_secs(600);
/// let now = Timestamp::from_seconds(1_545_030_273);
/// assert_eq!(verify(&keys, &callback, now, grace), Ok(()));
/// let much_later = now.plus(Duration::from_secs(3600));
/// assert_eq!(verify(&keys, &callback, much_later, grace), Err(VerifyError::Expired));
/// # Ok::<(), css_callbacks::NotOneObject>(())
/// ```
///
/// # Errors
///
/// [`VerifyError`] tells why the callback is not believed. Answer it with 401. If a genuine callback is refused by mistake, such
/// as with a mis-typed key, the platform repeats it for some minutes.
pub fn verify(
    keys: &[Secret],
    callback: &Callback,
    now: Timestamp,
    grace: Duration,
) -> Result<(), VerifyError> {
    let (presented, t) = match callback.signed() {
        Signed::Neither => return Err(VerifyError::Unsigned),
        Signed::Half | Signed::Malformed => return Err(VerifyError::Malformed),
        Signed::Both { sign, t } => (sign, t),
    };
    // All keys are tried, so that the time that this takes does not tell which key is the right one.
    let fits = keys.iter().fold(false, |fits, key| {
        fits | bool::from(sign(key.reveal(), t).as_bytes().ct_eq(presented))
    });
    let t = t.parse::<i64>().ok().filter(|_| fits);
    let t = t.ok_or(VerifyError::Signature)?;
    if now > Timestamp::from_seconds(t).plus(grace) {
        return Err(VerifyError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_a_key_is_believed_and_only_for_a_time() {
        const GRACE: Duration = Duration::from_secs(600);
        let keys = ["new", "old"].map(Secret::new);
        let now = Timestamp::from_seconds(1000);
        let verdict = |body: String| match Callback::parse(body.as_bytes()) {
            Ok(callback) => verify(&keys, &callback, now, GRACE),
            Err(_) => panic!("{body} is one object"),
        };
        let signed = |key, t: &str| format!(r#"{{"t":{t},"sign":"{}"}}"#, sign(key, t));
        assert_eq!(verdict(signed("old", "400")), Ok(()));
        assert_eq!(verdict(signed("new", "1600")), Ok(()));
        assert_eq!(verdict(signed("old", "399")), Err(VerifyError::Expired));
        assert_eq!(verdict(signed("", "1600")), Err(VerifyError::Signature));
        assert_eq!(verdict("{}".into()), Err(VerifyError::Unsigned));
        assert_eq!(verdict(r#"{"t":1}"#.into()), Err(VerifyError::Malformed));
        let body = signed("new", "1600");
        let callback = Callback::parse(body.as_bytes());
        let none = callback.map(|callback| verify(&[], &callback, now, GRACE));
        assert_eq!(none.ok(), Some(Err(VerifyError::Signature)));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "[secret]");
    }
}
