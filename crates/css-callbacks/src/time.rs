//! Times in callbacks and events.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, the epoch.
///
/// Make one from the time of day with `Timestamp::from(SystemTime::now())`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// From a text as in RFC 3339, such as `2026-11-23T16:00:00+08:00`; none if it is no such text.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|time| Self(time.as_millisecond()))
    }

    /// Milliseconds since the epoch; below zero for times before it.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time that is this much later.
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The time that is this much earlier.
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How much time has passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time as in RFC 3339, in UTC, with a fraction only if it is not zero; none outside the years 0 to 9999.
    pub fn rfc3339(self) -> Option<String> {
        let time = self.in_rfc3339()?;
        Some(match self.0 % 1000 {
            0 => format!("{time:.0}"),
            _ => format!("{time:.3}"),
        })
    }

    /// The time, if it is in the years 0 to 9999.
    pub(crate) fn in_rfc3339(self) -> Option<jiff::Timestamp> {
        const YEAR_0: i64 = -62_167_219_200_000;
        let time = jiff::Timestamp::from_millisecond(self.0).ok()?;
        (self.0 >= YEAR_0).then_some(time)
    }

    /// The UTC day, `2026-11-23`, and hour, `2026-11-23T08`: livehook names files so.
    #[doc(hidden)]
    pub fn day_and_hour(self) -> (String, String) {
        let text = self.to_string();
        (
            text.chars().take(10).collect(),
            text.chars().take(13).collect(),
        )
    }
}

/// Rounded to milliseconds.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let epoch = Self(0);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => epoch.plus(after),
            Err(before) => epoch.minus(before.duration()),
        }
    }
}

/// The time as in RFC 3339, in UTC, always with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// From a text as in RFC 3339.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("no time as in RFC 3339");
        Self::from_rfc3339(&text).ok_or_else(wrong)
    }
}

/// As [`Display`](fmt::Display).
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let time = Timestamp::from_millis(1_795_420_800_123);
        assert_eq!(time.to_string(), "2026-11-23T08:00:00.123Z");
        assert_eq!(time.rfc3339().unwrap(), "2026-11-23T08:00:00.123Z");
        assert_eq!(
            Timestamp::from_seconds(1_795_420_800).rfc3339().unwrap(),
            "2026-11-23T08:00:00Z"
        );
        assert_eq!(
            Timestamp::from_rfc3339("2026-11-23T16:00:00.123+08:00"),
            Some(time)
        );
        assert_eq!(Timestamp::from_millis(i64::MAX).rfc3339(), None);
        let year_0 = Timestamp::from_millis(-62_167_219_200_000);
        assert_eq!(year_0.rfc3339().unwrap(), "0000-01-01T00:00:00Z");
        let before = Timestamp::from_millis(year_0.millis() - 1);
        assert!(before.to_string().starts_with("-000001-12-31"));
        assert_eq!(before.rfc3339(), None);
        let millis = Duration::from_millis(1500);
        assert_eq!(Timestamp::from(UNIX_EPOCH + millis).millis(), 1500);
        assert_eq!(Timestamp::from(UNIX_EPOCH - millis).millis(), -1500);
        assert_eq!(
            time.day_and_hour(),
            ("2026-11-23".into(), "2026-11-23T08".into())
        );
    }
}
