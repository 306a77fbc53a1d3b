//! `livehook key`.

use anyhow::Context;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::source::MAX_KEY_LENGTH as LENGTH;

const LETTERS_AND_DIGITS: &[u8; 62] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A new CallbackKey from the operating system's random numbers.
pub(super) fn fresh() -> anyhow::Result<String> {
    let mut key = String::with_capacity(LENGTH);
    let mut bytes = [0; LENGTH];
    while key.len() < LENGTH {
        SysRng
            .try_fill_bytes(&mut bytes)
            .context("the operating system gives no random numbers")?;
        // 248 = 4 × 62: larger bytes would make the first 8 characters more likely.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let missing = LENGTH - key.len();
        key.extend(
            fair.map(|byte| char::from(LETTERS_AND_DIGITS[usize::from(byte % 62)]))
                .take(missing),
        );
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_letters_and_digits_and_never_the_same() {
        let key = fresh().unwrap();
        assert_eq!(key.len(), 32);
        let config = crate::source::SourceConfig {
            keys: vec![key.clone()],
            ..Default::default()
        };
        let env = crate::settings::Env {
            base: std::path::Path::new("/"),
            variable: &|_| None,
        };
        assert!(config.validate("css", &env).is_ok(), "a source takes it");
        assert_ne!(key, fresh().unwrap());
    }
}
