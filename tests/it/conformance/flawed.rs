//! Receivers with one flaw each: the check must fail the right cases, and only those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::receiver::{self, Flaw, TOKEN};
use super::{Grading, grade};
use crate::support::KEY;

/// The number of receivers that are checked at a time. They wait most of the time.
const AT_ONCE: usize = 16;

/// All cases with callbacks that must be acknowledged.
const ACKNOWLEDGED: &str = "genuine-* unsigned-* late-retry unknown-event-type missing-event-type mixed-up-url query-string t-as-string \
    shared-signature long-stream-param cjk-and-escapes spread-over-lines unknown-members null-lists numbers-as-strings repeat* counted-*";

/// A flaw, the cases that it fails, and a part of the reason. Long checks are first.
type Row = (Flaw, &'static [(&'static str, &'static str)]);

const TABLE: [Row; 35] = [
    (
        Flaw::SlowWithPushExceptions,
        &[(
            "genuine-push-exception unsigned-push-exception",
            "no answer within 5 s: ",
        )],
    ),
    (
        Flaw::SignIsAnId,
        &[
            ("counted-once-renewed", "counted 2 times"),
            ("counted-each", "two events counted once: "),
        ],
    ),
    (
        Flaw::LooksThenWrites,
        &[("counted-once-at-once", "one event and its repeats counted ")],
    ),
    (Flaw::None, &[]),
    (
        Flaw::AnswersCreated,
        &[(
            ACKNOWLEDGED,
            "answered 201: only 200 is an acknowledgement, the platform would repeat it ",
        )],
    ),
    (
        Flaw::AnswersNoContent,
        &[(
            ACKNOWLEDGED,
            "answered 204: only 200 is an acknowledgement, ",
        )],
    ),
    (
        Flaw::Redirects,
        &[(
            ACKNOWLEDGED,
            "answered 302: the platform follows no redirects, ",
        )],
    ),
    (
        Flaw::TakesAnySignature,
        &[(
            "forged-wrong-key forged-empty-key forged-changed-t",
            "answered 200: a forged body was accepted (",
        )],
    ),
    (
        Flaw::ComparesLoosely,
        &[("forged-sign-is-true", "(`sign` is true)")],
    ),
    (
        Flaw::ChecksOnlyWhatIsSigned,
        &[
            ("forged-stripped-signature", "(a push without a signature)"),
            ("forged-sign-without-t", "(`sign` without `t`)"),
        ],
    ),
    (
        Flaw::IgnoresExpiry,
        &[(
            "forged-expired-a-day-ago",
            "(its signature expired a day ago)",
        )],
    ),
    (
        Flaw::ExpiresAtOnce,
        &[(
            "late-retry",
            "answered 401: a genuine callback was refused, ",
        )],
    ),
    (
        Flaw::RefusesUnsigned,
        &[(
            "unsigned-*",
            "answered 401: a genuine callback was refused, ",
        )],
    ),
    (
        Flaw::IgnoresToken,
        &[
            ("forged-missing-token", "(the URL had no token)"),
            ("forged-wrong-token", "(the URL had another token)"),
        ],
    ),
    (
        Flaw::ErrorInBody,
        &[("forged-*", "answered 200: a forged body was accepted (")],
    ),
    (
        Flaw::BreaksOnForgeries,
        &[(
            "forged-*",
            "answered 500: the receiver broke where it should refuse (",
        )],
    ),
    (
        Flaw::TakesTrailingBytes,
        &[(
            "malformed-trailing-bytes",
            "answered 200: the platform would never send it (more behind the body), but nobody knows what was stored",
        )],
    ),
    (
        Flaw::BreaksConnections,
        &[(
            "malformed-*",
            "the connection broke where it should be refused (",
        )],
    ),
    (
        Flaw::BreaksOnUnknownTypes,
        &[(
            "unknown-event-type",
            "answered 500: the receiver could not take it, the platform would repeat it 12 times and drop it",
        )],
    ),
    (
        Flaw::ZeroIsMissing,
        &[(
            "genuine-stream-end mixed-up-url",
            "answered 400: a genuine callback was refused, ",
        )],
    ),
    (
        Flaw::NeedsEventType,
        &[("missing-event-type", "answered 400: ")],
    ),
    (
        Flaw::NeedsStreamId,
        &[
            (
                "genuine-image-audit genuine-stream-mix unsigned-stream-mix null-lists",
                "answered 400: ",
            ),
            (
                "genuine-relay",
                "without `stream_id`, without `to_url`: answered 400: ",
            ),
        ],
    ),
    (
        Flaw::BelievesTheUrl,
        &[(
            "mixed-up-url unknown-event-type genuine-assessment-average unsigned-assessment-average",
            "answered 400: ",
        )],
    ),
    (
        Flaw::ReadsFormFields,
        &[
            (
                ACKNOWLEDGED,
                "answered 400: a genuine callback was refused, ",
            ),
            ("malformed-form-fields", "answered 200: "),
        ],
    ),
    (Flaw::NoOtherQuery, &[("query-string", "answered 404: ")]),
    (Flaw::TIsANumber, &[("t-as-string", "answered 400: ")]),
    (
        Flaw::SizesAreNumbers,
        &[
            (
                "genuine-snapshot",
                "with `file_size` as a string: answered 400: ",
            ),
            (
                "numbers-as-strings",
                "`file_size` of record: answered 400: ",
            ),
        ],
    ),
    (
        Flaw::ListsAreLists,
        &[
            (
                "genuine-image-audit genuine-audio-audit",
                " as null: answered 500: ",
            ),
            ("null-lists", "image-audit: answered 500: "),
        ],
    ),
    (
        Flaw::ShortColumns,
        &[("long-stream-param", "answered 500: ")],
    ),
    (
        Flaw::NoEmoji,
        &[("cjk-and-escapes", "as UTF-8: answered 500: ")],
    ),
    (Flaw::OneLine, &[("spread-over-lines", "answered 400: ")]),
    (
        Flaw::KnownMembersOnly,
        &[("unknown-members", "answered 400: ")],
    ),
    (
        Flaw::SignIsANonce,
        &[
            (
                "shared-signature counted-each",
                "the second: answered 409: ",
            ),
            ("repeat counted-once", "the repeat: answered 409: "),
            (
                "repeat-at-once counted-once-at-once",
                "one of four at once: answered 409: ",
            ),
            ("counted-once-renewed", "counted 2 times"),
        ],
    ),
    (
        Flaw::RefusesRepeats,
        &[
            (
                "repeat repeat-renewed counted-once counted-once-renewed",
                "the repeat: answered 409: ",
            ),
            (
                "repeat-at-once counted-once-at-once",
                "one of four at once: answered 409: ",
            ),
        ],
    ),
    (
        Flaw::CountsRepeats,
        &[
            (
                "counted-once counted-once-renewed",
                "one event and its repeats counted 2 times",
            ),
            (
                "counted-once-at-once",
                "one event and its repeats counted 4 times",
            ),
        ],
    ),
];

#[test]
fn each_flaw_fails_the_cases_that_are_made_for_it() {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(BTreeSet::new());
    let all = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = TABLE.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let grades = check(row);
                    for (set, result) in [(&failed, "fail"), (&all, "pass")] {
                        let names = grades.names(result).into_iter().map(str::to_owned);
                        set.lock().unwrap().extend(names);
                    }
                }
            });
        }
    });
    // Each case fails for at least one flaw.
    assert_eq!(failed.into_inner().unwrap(), all.into_inner().unwrap());
}

fn check((flaw, expected): &Row) -> Grading {
    let receiver = receiver::start(*flaw);
    let count_url = format!("{}/count", receiver.base());
    let grades = grade(
        &receiver.base(),
        &["--key", KEY, "--token", TOKEN, "--count-url", &count_url],
    );
    let reasons = reasons(&grades, expected);
    let failed: BTreeMap<&str, &str> = grades.with("fail").into_iter().collect();
    let should: BTreeSet<&str> = reasons.keys().copied().collect();
    let does: BTreeSet<&str> = failed.keys().copied().collect();
    assert_eq!(does, should, "{flaw:?}: {failed:#?}");
    for (case, reason) in failed {
        assert!(reason.contains(reasons[case]), "{flaw:?}: {case}: {reason}");
    }
    assert_eq!(grades.with("skip"), [], "{flaw:?}");
    assert_eq!(
        grades.code,
        Some(i32::from(!expected.is_empty())),
        "{flaw:?}"
    );
    grades
}

/// The cases that must fail, and parts of their reasons.
fn reasons<'a>(
    grades: &'a Grading,
    expected: &[(&str, &'static str)],
) -> BTreeMap<&'a str, &'static str> {
    let all = [grades.names("pass"), grades.names("fail")].concat();
    let mut reasons = BTreeMap::new();
    for (patterns, reason) in expected {
        for pattern in patterns.split_whitespace() {
            let matching = all.iter().filter(|case| match pattern.strip_suffix('*') {
                Some(beginning) => case.starts_with(beginning),
                None => **case == pattern,
            });
            let before = reasons.len();
            reasons.extend(matching.map(|case| (*case, *reason)));
            assert!(reasons.len() > before, "there is no {pattern}");
        }
    }
    reasons
}
