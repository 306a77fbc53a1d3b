//! Judges answers. If one is wrong, says what the platform would do.

use css_callbacks::Kind;

use crate::RequestEnd;
use crate::bad::Bad;
use crate::sender::answer_timeout;

/// Fails unless a genuine callback was acknowledged.
pub(super) fn acknowledged(kind: Kind, reply: &RequestEnd) -> Result<(), String> {
    let fate = format!(
        "the platform would repeat it {} times and drop it",
        kind.retry_schedule().retries
    );
    Err(match reply {
        RequestEnd::Status(200) => return Ok(()),
        RequestEnd::Status(status @ 300..=399) => {
            format!("answered {status}: the platform follows no redirects, {fate}")
        }
        RequestEnd::Status(status @ 400..=499) => {
            format!("answered {status}: a genuine callback was refused, {fate}")
        }
        RequestEnd::Status(status @ 500..=599) => {
            format!("answered {status}: the receiver could not take it, {fate}")
        }
        RequestEnd::Status(status) => {
            format!("answered {status}: only 200 is an acknowledgement, {fate}")
        }
        RequestEnd::TimedOut => format!("{}: {fate}", late(kind)),
        RequestEnd::Failed(why) => format!("the connection broke: {fate} ({why})"),
    })
}

/// Fails unless a bad request was refused.
pub(super) fn refused(bad: Bad, reply: &RequestEnd) -> Result<(), String> {
    let what = what(bad);
    Err(match reply {
        RequestEnd::Status(400..=499) => return Ok(()),
        RequestEnd::Status(status @ 200..=299) if bad.is_forgery() => {
            format!("answered {status}: a forged body was accepted ({what})")
        }
        RequestEnd::Status(status @ 200..=299) => format!(
            "answered {status}: the platform would never send it ({what}), but nobody knows what was stored"
        ),
        RequestEnd::Status(status @ 500..=599) => {
            format!("answered {status}: the receiver broke where it should refuse ({what})")
        }
        RequestEnd::Status(status) => {
            format!("answered {status}: a refusal is a 4xx, so that its sender sees it ({what})")
        }
        RequestEnd::TimedOut => format!(
            "{}, where it should be refused at once ({what})",
            late(Kind::StreamBegin)
        ),
        RequestEnd::Failed(why) => {
            format!("the connection broke where it should be refused ({what}; {why})")
        }
    })
}

/// Fails unless an event and its repeats had one effect.
pub(super) fn counted_once(grown: i64) -> Result<(), String> {
    match grown {
        1 => Ok(()),
        0 => Err("acknowledged, but not counted within 5 s".to_owned()),
        other => Err(format!("one event and its repeats counted {other} times")),
    }
}

/// Fails unless two events had two effects.
pub(super) fn counted_each(grown: i64) -> Result<(), String> {
    match grown {
        2 => Ok(()),
        0 => Err("both acknowledged, but neither counted within 5 s".to_owned()),
        1 => Err("two events counted once: all of one second share their signature".to_owned()),
        other => Err(format!("two events counted {other} times")),
    }
}

fn late(kind: Kind) -> String {
    format!("no answer within {} s", answer_timeout(kind).as_secs())
}

/// Names what is wrong with a request.
fn what(bad: Bad) -> &'static str {
    match bad {
        Bad::WrongKey => "signed with another key",
        Bad::EmptyKey => "signed with the empty key, as anybody can",
        Bad::Stripped => "a push without a signature",
        Bad::WithoutT => "`sign` without `t`",
        Bad::OtherT => "the signature of another `t`",
        Bad::NotText => "`sign` is true",
        Bad::Expired => "its signature expired a day ago",
        Bad::WithoutToken => "the URL had no token",
        Bad::WrongToken => "the URL had another token",
        Bad::Truncated => "a body that ends too early",
        Bad::Trailing => "more behind the body",
        Bad::List => "a list",
        Bad::Empty => "an empty body",
        Bad::Form => "form fields",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_acknowledges_and_only_4xx_refuses() {
        for status in 100..600 {
            let reply = RequestEnd::Status(status);
            let taken = acknowledged(Kind::Record, &reply);
            assert_eq!(taken.is_ok(), status == 200, "{status}");
            let refusal = refused(Bad::WrongKey, &reply);
            assert_eq!(refusal.is_ok(), (400..500).contains(&status), "{status}");
        }
        for reply in [RequestEnd::TimedOut, RequestEnd::Failed("reset".to_owned())] {
            assert!(acknowledged(Kind::Record, &reply).is_err());
            assert!(refused(Bad::Empty, &reply).is_err());
        }
    }

    #[test]
    fn a_reason_says_what_the_platform_would_do() {
        let reason = |kind, reply: RequestEnd| acknowledged(kind, &reply).err().unwrap_or_default();
        assert_eq!(
            reason(Kind::Snapshot, RequestEnd::Status(201)),
            "answered 201: only 200 is an acknowledgement, the platform would repeat it 5 times and drop it"
        );
        assert_eq!(
            reason(Kind::PushException, RequestEnd::TimedOut),
            "no answer within 5 s: the platform would repeat it 12 times and drop it"
        );
    }
}
