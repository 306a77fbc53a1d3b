#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::settings::Env;
use crate::source::SourceConfig;

const T: i64 = 1_545_030_873;
const OFFICIAL: &str =
    r#"{"event_type":1,"t":1545030873,"sign":"ca3e25e5dc17a6f9909a9ae7281e300d"}"#;

fn source(text: &str) -> Source {
    let config = config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .unwrap();
    let config: SourceConfig = config.try_deserialize().unwrap();
    let env = Env {
        base: Path::new("/"),
        variable: &|_| None,
    };
    config.validate("css", &env).unwrap()
}

fn presented(body: &str) -> Presented<'static> {
    Presented {
        url_kind: None,
        token: None,
        client: None,
        received: Timestamp::from_seconds(T),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn judge(source: &Source, presented: Presented) -> Verdict {
    let body = presented.body.clone();
    authenticate(source, &presented, &Callback::parse(&body).unwrap(), || {
        [0; 16]
    })
}

fn outcome(source: &Source, presented: Presented) -> Result<(), Refusal> {
    judge(source, presented).outcome.map(|_| ())
}

#[test]
fn the_official_vector_is_accepted() {
    let verdict = judge(&source("keys = ['test']"), presented(OFFICIAL));
    assert_eq!(verdict.signed_t, Some(T));
    assert_eq!(verdict.outcome.unwrap().kind(), Kind::StreamBegin);
}

#[test]
fn any_of_several_keys_fits() {
    assert_eq!(
        outcome(&source("keys = ['new', 'test']"), presented(OFFICIAL)),
        Ok(())
    );
    assert_eq!(
        outcome(&source("keys = ['new', 'old']"), presented(OFFICIAL)),
        Err(Refusal::Signature)
    );
}

#[test]
fn only_the_exact_lower_case_signature_fits() {
    let source = source("keys = ['test']");
    let upper = OFFICIAL.replace(
        "ca3e25e5dc17a6f9909a9ae7281e300d",
        "CA3E25E5DC17A6F9909A9AE7281E300D",
    );
    assert_eq!(outcome(&source, presented(&upper)), Err(Refusal::Signature));
    assert_eq!(
        outcome(&source, presented(&OFFICIAL.replace("300d", "300"))),
        Err(Refusal::Signature)
    );
    assert_eq!(
        outcome(
            &source,
            presented(&OFFICIAL.replace("1545030873", "1545030874"))
        ),
        Err(Refusal::Signature)
    );
    assert_eq!(
        outcome(
            &source,
            presented(&OFFICIAL.replace("1545030873", "\"1545030873\""))
        ),
        Ok(())
    );
}

#[test]
fn the_grace_is_inclusive_and_expired_ones_still_tell_the_time() {
    let source = source("keys = ['test']\nexpiry_grace = '10m'");
    let at = |millis| Presented {
        received: Timestamp::from_millis(millis),
        ..presented(OFFICIAL)
    };
    assert_eq!(outcome(&source, at((T + 600) * 1000)), Ok(()));
    let late = judge(&source, at((T + 600) * 1000 + 1));
    assert_eq!(
        (late.outcome.unwrap_err(), late.signed_t),
        (Refusal::Expired, Some(T))
    );
}

#[test]
fn a_found_signature_does_not_tell_the_time_to_who_is_kept_out() {
    for rule in ["token = 'hush'", "allow_from = ['203.0.113.0/24']"] {
        let verdict = judge(
            &source(&format!("keys = ['test']\n{rule}")),
            presented(OFFICIAL),
        );
        assert!(verdict.outcome.is_err());
        assert_eq!(verdict.signed_t, None, "{rule}");
    }
}

#[test]
fn the_empty_key_never_counts() {
    let empty = r#"{"event_type":317,"t":1615860427,"sign":"ac920c3e661d867e90078cf1b5de2c63"}"#;
    assert_eq!(
        outcome(&source("keys = ['test']"), presented(empty)),
        Err(Refusal::Signature)
    );
    let with_token = source("token = 'hush'");
    assert_eq!(outcome(&with_token, presented(empty)), Err(Refusal::Token));
    assert_eq!(
        outcome(
            &with_token,
            Presented {
                token: Some(b"hush"),
                ..presented(empty)
            }
        ),
        Ok(())
    );
}

#[test]
fn half_a_signature_is_none() {
    for body in [
        r#"{"t":1545030873}"#,
        r#"{"sign":"x"}"#,
        r#"{"sign":"x","t":"x"}"#,
        r#"{"sign":null,"t":null}"#,
    ] {
        let relay = body.replace('{', r#"{"event_type":314,"#);
        let source = source("keys = ['test']\nallow_unsigned = true");
        assert_eq!(
            outcome(&source, presented(&relay)),
            Err(Refusal::HalfSigned),
            "{body}"
        );
    }
}

#[test]
fn stripping_the_signature_works_only_where_unsigned_ones_are_genuine() {
    let end = r#"{"event_type":0}"#;
    let relay = r#"{"event_type":314}"#;
    let keyed = source("keys = ['test']");
    assert_eq!(outcome(&keyed, presented(relay)), Err(Refusal::Unsigned));
    let allowing = source("keys = ['test']\nallow_unsigned = ['relay']");
    assert_eq!(outcome(&allowing, presented(relay)), Ok(()));
    assert_eq!(
        outcome(&allowing, presented(r#"{"event_type":328}"#)),
        Err(Refusal::Unsigned)
    );
    let both = source("keys = ['test']\ntoken = 'hush'");
    let with_token = |body| Presented {
        token: Some(b"hush"),
        ..presented(body)
    };
    assert_eq!(outcome(&both, with_token(relay)), Ok(()));
    let everything = source("keys = ['test']\nallow_unsigned = true");
    for source in [&keyed, &allowing, &both, &everything] {
        assert!(outcome(source, with_token(end)).is_err());
        // The URL of a kind that may be unsigned does not help: the body says what it is.
        let at_relay = Presented {
            url_kind: Some(Kind::Relay),
            ..with_token(end)
        };
        assert!(outcome(source, at_relay).is_err());
        assert!(
            outcome(source, with_token(r#"{"event_type":999}"#)).is_err(),
            "unknown kinds are not vouched for"
        );
    }
}

#[test]
fn a_token_is_needed_as_well_as_the_signature() {
    let source = source("keys = ['test']\ntoken = 'hush'");
    assert_eq!(outcome(&source, presented(OFFICIAL)), Err(Refusal::Token));
    assert_eq!(
        outcome(
            &source,
            Presented {
                token: Some(b"hus"),
                ..presented(OFFICIAL)
            }
        ),
        Err(Refusal::Token)
    );
    assert_eq!(
        outcome(
            &source,
            Presented {
                token: Some(b"hush"),
                ..presented(OFFICIAL)
            }
        ),
        Ok(())
    );
}

#[test]
fn the_allow_list_judges_canonical_addresses() {
    let source = source("keys = ['test']\nallow_from = ['10.0.0.0/8']");
    let from = |address: &str| Presented {
        client: Some(address.parse().unwrap()),
        ..presented(OFFICIAL)
    };
    assert_eq!(outcome(&source, from("10.1.2.3")), Ok(()));
    assert_eq!(outcome(&source, from("::ffff:10.1.2.3")), Ok(()));
    assert_eq!(outcome(&source, from("11.1.2.3")), Err(Refusal::Address));
    assert_eq!(outcome(&source, presented(OFFICIAL)), Err(Refusal::Address));
}
