//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body, so that none of these can
//! be changed.

use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use css_callbacks::Secret;

use crate::auth;

/// Accepts base64 without padding: people who copy a secret may lose it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key inside a secret of the form `whsec_…`.
#[derive(Clone, PartialEq)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn parse(secret: &Secret) -> Result<Self, &'static str> {
        const PROBLEM: &str =
            "is not `whsec_` and base64; make one with `echo whsec_$(openssl rand -base64 32)`";
        let encoded = secret.reveal().strip_prefix("whsec_").ok_or(PROBLEM)?;
        match LENIENT.decode(encoded) {
            Ok(key) if !key.is_empty() => Ok(Self(key)),
            _ => Err(PROBLEM),
        }
    }

    /// Returns the value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let before = format!("{id}.{seconds}.");
        let code = auth::hmac_sha256(&self.0, [before.as_bytes(), body]);
        format!("v1,{}", STANDARD.encode(code))
    }
}
