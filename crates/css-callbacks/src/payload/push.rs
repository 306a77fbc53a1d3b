//! A push started (1) or was interrupted (0): pages 38081 and 47025. The causes are also on page 31083.

use crate::wire::wire;

wire! {
    /// The begin or the end of a push. Both have the same members, and the same `sequence`.
    ///
    /// Documentation: page 38081 (mainland: 47025); `errcode` also on page 31083.
    pub struct Push: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text: "app",
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text,
        /// When it happened, UNIX seconds.
        pub event_time: Option<i64> = number: "update_time",
        /// The id of the push, the same at its begin and its end: up to 19 digits.
        pub sequence: Option<String> = id,
        /// The IP address of the node that received the push.
        pub node: Option<String> = text,
        /// The IP address of the pusher.
        pub user_ip: Option<String> = text,
        /// The query string of the push URL, as the pusher sent it.
        pub stream_param: Option<String> = text,
        /// How long the push lasted, milliseconds; only when it is over. A string on the wire. A page of 2019 said seconds.
        pub push_duration: Option<i64> = number,
        /// The result: 0 when a push starts, the cause when it ended.
        pub errcode: Option<Errcode> = code,
        /// The result in free text.
        pub errmsg: Option<String> = text,
        /// The region of the node: 1 to 6 mainland China, 7 to 200 elsewhere.
        pub set_id: Option<i64> = number,
        /// The data centre of the node; undocumented.
        pub idc_id: Option<i64> = number,
        /// The width of the picture, pixels; 0 if the headers were not seen yet.
        pub width: Option<i64> = number,
        /// The height of the picture, pixels; 0 if the headers were not seen yet.
        pub height: Option<i64> = number,
    }
}

/// A push started.
pub type StreamBegin = Push;

/// A push was interrupted.
pub type StreamEnd = Push;

/// The result code of a push (page 31083). Other codes than the documented ones can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errcode(pub i64);

/// The cause of an interrupt: each stands for one or several [`Errcode`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// 0: no error when a push starts; an unknown one when it ends.
    None,
    /// 1 to 4, 35: the push client ended the stream.
    ClientEnded,
    /// 5, 9, 11, 24, 38: internal error of the platform.
    Internal,
    /// 6, 23: error in the RTMP content.
    Content,
    /// 7, 39: a frame was over the maximum size.
    FrameTooLarge,
    /// 8, 20: the platform ended a stream without data.
    NoData,
    /// 10: the proxy layer received an interruption command.
    Proxy,
    /// 12 to 17: network error on the push path.
    Network,
    /// 18: the push was refused (authentication, domain, ban, arrears or limits).
    Refused,
    /// 19: third-party authentication failed.
    ThirdPartyAuth,
    /// 21: ended on request (dropped, banned or replaced by a new push).
    Requested,
    /// 33: error in the RTMP AMF data.
    Amf,
    /// 37: stopped because nobody played it.
    NotPlayed,
    /// Every other code.
    Unknown,
}

impl Errcode {
    /// The cause that the code stands for.
    pub fn cause(self) -> Cause {
        match self.0 {
            0 => Cause::None,
            1..=4 | 35 => Cause::ClientEnded,
            5 | 9 | 11 | 24 | 38 => Cause::Internal,
            6 | 23 => Cause::Content,
            7 | 39 => Cause::FrameTooLarge,
            8 | 20 => Cause::NoData,
            10 => Cause::Proxy,
            12..=17 => Cause::Network,
            18 => Cause::Refused,
            19 => Cause::ThirdPartyAuth,
            21 => Cause::Requested,
            33 => Cause::Amf,
            37 => Cause::NotPlayed,
            _ => Cause::Unknown,
        }
    }

    /// The cause in words.
    pub fn reason(self) -> &'static str {
        match self.cause() {
            Cause::None => "no error, or an unknown one at the end of a push",
            Cause::ClientEnded => "the push client ended the stream",
            Cause::Internal => "internal error of the platform",
            Cause::Content => "error in the RTMP content",
            Cause::FrameTooLarge => "a frame was over the maximum size",
            Cause::NoData => "the platform ended a stream without data",
            Cause::Proxy => "the proxy layer received an interruption command",
            Cause::Network => "network error on the push path",
            Cause::Refused => {
                "the push was refused (authentication, domain, ban, arrears or limits)"
            }
            Cause::ThirdPartyAuth => "third-party authentication failed",
            Cause::Requested => "ended on request (dropped, banned or replaced by a new push)",
            Cause::Amf => "error in the RTMP AMF data",
            Cause::NotPlayed => "stopped because nobody played it",
            Cause::Unknown => "unknown",
        }
    }
}

impl From<i64> for Errcode {
    fn from(code: i64) -> Self {
        Self(code)
    }
}

/// The number.
impl std::fmt::Display for Errcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Errcode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

#[cfg(any(test, feature = "schema"))]
impl schemars::JsonSchema for Errcode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Errcode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let known = (0..=39).filter(|code| Self(*code).cause() != Cause::Unknown);
        let known: Vec<(i64, &str)> = known.map(|code| (code, Self(code).reason())).collect();
        crate::wire::schema::codes("The result of a push.", &known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_reason() {
        assert_eq!(Errcode(35).cause(), Cause::ClientEnded);
        assert_eq!(Errcode(16).cause(), Cause::Network);
        for unknown in [-1, 22, 25, 32, 34, 36, 40, i64::MAX] {
            assert_eq!(Errcode(unknown).cause(), Cause::Unknown);
        }
        assert_eq!(Errcode(2).reason(), "the push client ended the stream");
    }
}
