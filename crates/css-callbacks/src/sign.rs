//! The signature of a callback.
//!
//! `sign` is the lower-case hex MD5 of the key and `t` written one after the other (page 32744). It covers
//! neither the body nor the kind, and all callbacks of one second carry the same one. So it proves that the sender knows the
//! key, or has seen a callback of the last minutes: receive callbacks through HTTPS, and keep a secret in the URL as well.

use std::fmt;
use std::time::Duration;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::callback::{Callback, Signed};
use crate::time::Timestamp;

/// A key or a token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is this text. The time that this takes does not tell which bytes differ.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It has neither `sign` nor `t`. Some kinds may come like this: see [`Kind::may_be_unsigned`](crate::Kind::may_be_unsigned).
    #[error("the callback is not signed")]
    Unsigned,
    /// It has only one of `sign` and `t`, or one of them does not have the documented form.
    #[error("sign and t do not have the documented form")]
    Malformed,
    /// `sign` fits none of the keys.
    #[error("the signature fits none of the keys")]
    Signature,
    /// The signature fits, but `t` and the grace are over.
    #[error("the signature has expired")]
    Expired,
}

/// The signature of `t` under a key: lower-case hex MD5 of the two written one after the other.
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

/// Checks the signature of a callback.
///
/// Several keys are for the time in which a key is changed. `t` is when the signature expires: 10 minutes after the callback was
/// first sent. The platform repeats a callback for longer than that, so `grace` is added; 10 minutes are enough.
///
/// # Errors
///
/// See [`VerifyError`]. An empty list of keys believes nothing.
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
    // All keys are tried, so that the time taken does not tell which one fits.
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
