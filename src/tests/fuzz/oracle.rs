//! The contract on who may be believed, read a second time and as directly as it is written down.

use css_callbacks::Kind;
use md5::{Digest, Md5};

use super::reading::{Member, value};
use super::requests::Case;
use super::sites::Unsigned;

/// The codes of the table, and whether their callbacks may come without `sign` and `t`.
const CODES: [(u16, bool); 21] = [
    (1, false),
    (0, false),
    (100, false),
    (332, true),
    (341, false),
    (200, false),
    (317, false),
    (315, true),
    (321, true),
    (314, true),
    (328, true),
    (338, false),
    (343, true),
    (344, true),
    (345, true),
    (347, false),
    (348, true),
    (349, true),
    (8, true),
    (329, false),
    (330, false),
];

/// Whether genuine callbacks of the kind come unsigned.
pub fn may_be_unsigned(kind: Kind) -> bool {
    CODES
        .iter()
        .any(|(code, unsigned)| *unsigned && kind.code() == Some(i64::from(*code)))
}

/// What the body shows of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The source has no key, so nothing that the body shows counts.
    NotAsked,
    /// Neither `sign` nor `t`.
    Absent,
    /// One without the other.
    Half,
    /// `t` or `sign` in a form that no signature has.
    Malformed,
    /// No key gives this `sign`.
    Wrong,
    /// It would be right but for escapes inside `sign`, of which the contract says nothing.
    Escaped,
    /// Right, for this `t`, by the key at this place in the source's list; too late or in time.
    Right { t: i64, key: usize, late: bool },
}

/// What the contract says about a request.
#[derive(Debug, Clone)]
pub struct Opinion {
    pub kind: Kind,
    pub address: bool,
    pub token: bool,
    pub proof: Proof,
    /// Whether an unsigned callback of this kind is as good as a signed one here.
    pub vouched: bool,
}

impl Opinion {
    pub fn of(case: &Case, members: &[Member]) -> Self {
        let kind = kind(case, members);
        let site = &case.site;
        let allowed = match &site.unsigned {
            Unsigned::All => true,
            Unsigned::Kinds(kinds) => kinds.contains(&kind),
        };
        Self {
            kind,
            address: case.client.is_inside(site.networks),
            token: site
                .token
                .is_none_or(|token| case.token.is_some_and(|shown| shown == token)),
            proof: proof(case, members),
            vouched: may_be_unsigned(kind) && (site.token.is_some() || allowed),
        }
    }

    /// Whether it must be accepted (true) or refused (false); none where either would do.
    pub fn accepts(&self) -> Option<bool> {
        if !self.address || !self.token {
            return Some(false);
        }
        match self.proof {
            Proof::NotAsked => Some(true),
            Proof::Absent => Some(self.vouched),
            Proof::Right { late, .. } => Some(!late),
            Proof::Half | Proof::Malformed | Proof::Wrong => Some(false),
            Proof::Escaped => None,
        }
    }
}

fn kind(case: &Case, members: &[Member]) -> Kind {
    let code = match value(members, "event_type") {
        None | Some(b"null") => return case.url_kind.unwrap_or(Kind::Unknown),
        Some(text) => number(text),
    };
    let known = CODES
        .iter()
        .find(|(known, _)| code == Some(f64::from(*known)));
    match known {
        Some((344, _)) if value(members, "average_score").is_some() => Kind::AssessmentAverage,
        Some((code, _)) => Kind::from_code(i64::from(*code)).unwrap(),
        None => Kind::Unknown,
    }
}

/// A number, also inside a string.
fn number(value: &[u8]) -> Option<f64> {
    let text = match value {
        [b'"', ..] => serde_json::from_slice::<String>(value).ok()?,
        [b'-' | b'0'..=b'9', ..] => String::from_utf8(value.to_vec()).ok()?,
        _ => return None,
    };
    text.trim().parse().ok()
}

fn proof(case: &Case, members: &[Member]) -> Proof {
    if case.site.keys.is_empty() {
        return Proof::NotAsked;
    }
    let (sign, t) = match (value(members, "sign"), value(members, "t")) {
        (None, None) => return Proof::Absent,
        (Some(sign), Some(t)) => (sign, t),
        _ => return Proof::Half,
    };
    let (Some(t), [b'"', sign @ .., b'"']) = (literal_t(t), sign) else {
        return Proof::Malformed;
    };
    let fits = |sign: &[u8]| {
        let mut keys = case.site.keys.iter();
        keys.position(|key| signature(key, t).as_bytes() == sign)
    };
    let Some(key) = fits(sign) else {
        let decoded = serde_json::from_slice::<String>(&[b"\"", sign, b"\""].concat());
        return match decoded.ok().and_then(|sign| fits(sign.as_bytes())) {
            Some(_) => Proof::Escaped,
            None => Proof::Wrong,
        };
    };
    let t: i64 = t.parse().unwrap();
    let end = i128::from(t) * 1000 + i128::try_from(case.site.grace.as_millis()).unwrap();
    let late = i128::from(case.received()) > end;
    Proof::Right { t, key, late }
}

/// `t` as it stands in the body, number or string, if it is 1 to 16 digits without a zero in front.
fn literal_t(value: &[u8]) -> Option<&str> {
    let text = match value {
        [b'"', text @ .., b'"'] => text,
        text => text,
    };
    let fits = text.len() <= 16 && text.first()? != &b'0' && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| fits)
}

/// The lower-case hex MD5 of key and `t`.
pub fn signature(key: &str, t: &str) -> String {
    let digest = Md5::digest(format!("{key}{t}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_official_vector_holds() {
    let official = "ca3e25e5dc17a6f9909a9ae7281e300d";
    assert_eq!(signature("test", "1545030873"), official);
}
