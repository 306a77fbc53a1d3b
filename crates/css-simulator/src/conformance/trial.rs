//! The list of cases: their order, their names, and when a case is skipped.

use css_callbacks::Kind;

use super::GradingSettings;
use super::odd::Odd;
use crate::bad::{Bad, Secrets};

/// What a case tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Signed callbacks of a kind.
    Genuine(Kind),
    /// An unsigned callback of a kind that may be unsigned.
    Unsigned(Kind),
    /// A request that must be refused.
    Bad(Bad),
    /// A genuine callback in a form that many receivers do not expect.
    Odd(Odd),
    /// An event and its repeats must be acknowledged.
    Repeated(Repeat),
    /// An event and its repeats must have one effect.
    CountedOnce(Repeat),
    /// Two events with the same signature must have two effects.
    CountedEach,
}

/// How an event is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// With the same text, after the answer.
    Same,
    /// With another `t` and `sign`, after the answer.
    Renewed,
    /// With the same text, several times at the same moment.
    AtOnce,
}

impl Repeat {
    const ALL: [Self; 3] = [Self::Same, Self::Renewed, Self::AtOnce];

    fn suffix(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Renewed => "-renewed",
            Self::AtOnce => "-at-once",
        }
    }
}

impl Trial {
    /// All cases, in the order of the report.
    pub(super) fn all(settings: &GradingSettings) -> Vec<Self> {
        let genuine = Kind::ALL.map(Self::Genuine);
        // Without a key, the platform may leave `t` and `sign` out.
        let bare = |kind: &Kind| kind.may_be_unsigned() || settings.key.is_none();
        let unsigned = Kind::ALL.into_iter().filter(bare).map(Self::Unsigned);
        let mut all: Vec<Self> = genuine.into_iter().chain(unsigned).collect();
        all.extend(Bad::ALL.map(Self::Bad));
        all.extend(Odd::ALL.map(Self::Odd));
        all.extend(Repeat::ALL.map(Self::Repeated));
        all.extend(Repeat::ALL.map(Self::CountedOnce));
        all.push(Self::CountedEach);
        all
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Genuine(kind) => format!("genuine-{kind}"),
            Self::Unsigned(kind) => format!("unsigned-{kind}"),
            Self::Bad(bad) if bad.is_forgery() => format!("forged-{}", bad.slug()),
            Self::Bad(bad) => format!("malformed-{}", bad.slug()),
            Self::Odd(odd) => odd.slug().to_owned(),
            Self::Repeated(again) => format!("repeat{}", again.suffix()),
            Self::CountedOnce(again) => format!("counted-once{}", again.suffix()),
            Self::CountedEach => "counted-each".to_owned(),
        }
    }

    /// Whether the case reads the receiver's count and so must run alone.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::CountedOnce(_) | Self::CountedEach)
    }

    /// The reason to skip the case; none if it can run.
    pub(super) fn skipped(self, settings: &GradingSettings) -> Option<&'static str> {
        let GradingSettings { template, key, .. } = settings;
        let secrets = Secrets {
            key: key.as_ref(),
            token: template.token(),
        };
        match self {
            Self::Unsigned(_) if template.token().is_none() && !settings.unsigned => {
                Some("without --token or --unsigned: nothing would tell it from a forgery")
            }
            Self::Bad(bad) if !bad.is_detectable(secrets) => Some(match bad {
                Bad::WithoutToken | Bad::WrongToken => "without --token: every URL is as good",
                _ => "without --key: nothing would tell it from a genuine callback",
            }),
            Self::Odd(Odd::MixedUpUrl) if template.url_kind(Kind::StreamBegin).is_none() => {
                Some("with --single-url: there are no URLs to be mixed up")
            }
            _ if self.counts() && settings.counter.is_none() => {
                Some("without --count-url: what the receiver did cannot be seen")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use css_callbacks::Secret;

    use super::*;
    use crate::template::Template;

    fn settings(key: Option<&str>, token: Option<&str>) -> GradingSettings {
        GradingSettings {
            template: Template::new(
                "http://h/css".parse().unwrap(),
                token.map(Secret::new),
                false,
            )
            .unwrap(),
            key: key.map(Secret::new),
            unsigned: false,
            counter: None,
            clock_offset: 0,
            seed: 1,
        }
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        for key in [Some("key"), None] {
            let all = Trial::all(&settings(key, Some("token")));
            let names: HashSet<String> = all.iter().map(|trial| trial.name()).collect();
            assert_eq!(names.len(), all.len());
        }
    }

    #[test]
    fn what_nobody_could_tell_is_not_asked_for() {
        let skipped = |key, token, trial: Trial| trial.skipped(&settings(key, token)).is_some();
        let forged = Trial::Bad(Bad::WrongKey);
        assert!(!skipped(Some("key"), None, forged));
        assert!(skipped(None, Some("token"), forged));
        let stranger = Trial::Bad(Bad::WithoutToken);
        assert!(skipped(Some("key"), None, stranger));
        assert!(!skipped(None, Some("token"), stranger));
        let bare = Trial::Unsigned(Kind::Relay);
        assert!(skipped(Some("key"), None, bare));
        assert!(!skipped(Some("key"), Some("token"), bare));
        assert!(!skipped(None, None, Trial::Bad(Bad::Truncated)));
    }
}
