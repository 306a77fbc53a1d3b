//! Callbacks as prepared requests: 590 bytes long, signed, all different, of 1,000 streams.

use std::fmt;

use css_callbacks::sign;
use livehook::Clock;

use crate::generator::KEY;

pub const SIZE: usize = 590;
const STREAMS: u64 = 1000;
/// As in `callback.lua`.
const BEGIN: &str = concat!(
    r#"{"app":"push.example.com","appid":1250000000,"appname":"live","channel_id":"room-<R>","errcode":0,"errmsg":"ok","#,
    r#""event_time":<NOW>,"event_type":1,"height":0,"idc_id":35,"node":"203.0.113.21","#,
    r#""sequence":"<SEED><----COUNT---->","set_id":2,"stream_id":"room-<R>","#,
    r#""stream_param":"txSecret=f85a2ab363fe4deaffef9754d79da6fe&txTime=6B04D280&note=PADDING<PADDING>","#,
    r#""user_ip":"198.51.100.4","width":0,"pusher_agent":{"name":"推流助手","version":3.10,"#,
    r#""build":20261123000000000001},"t":<T>,"sign":"<SIGN>"}"#,
);
const END: &str = concat!(
    r#"{"app":"push.example.com","appid":1250000000,"appname":"live","channel_id":"room-<R>","errcode":2,"#,
    r#""errmsg":"The push client actively stopped the push","event_time":<NOW>,"event_type":0,"height":1080,"idc_id":35,"#,
    r#""node":"203.0.113.21","push_duration":"3720518","sequence":"<SEED><----COUNT---->","set_id":2,"#,
    r#""stream_id":"room-<R>","stream_param":"<PADDING>","user_ip":"198.51.100.4","width":1920,"t":<T>,"sign":"<SIGN>"}"#,
);
const RECORD: &str = concat!(
    r#"{"event_type":100,"appid":1250000000,"app":"push.example.com","appname":"live","channel_id":"room-<R>","#,
    r#""duration":1803,"end_time":<NOW>,"file_format":"HLS","file_id":"<SEED><----COUNT---->","file_size":9941521,"#,
    r#""media_start_time":67,"start_time":<NOW>,"stream_id":"room-<R>","stream_param":"<PADDING>","task_id":479501701,"#,
    r#""video_url":"http://1250000000.vod2.example.com/9a1c/<SEED><----COUNT---->/playlist.m3u8","t":<T>,"sign":"<SIGN>"}"#,
);
const RECORD_STATUS: &str = concat!(
    r#"{"event_type":332,"appid":1250000000,"appname":"live","domain":"push.example.com","event_time":<NOW>,"#,
    r#""record_detail":"{\"file_format\":3,\"record_bps\":0,\"start_model\":5}","record_event":"record_start_succeeded","#,
    r#""seq":"<SEED><----COUNT---->","session_id":"<SEED><----COUNT---->","stream_id":"room-<R>","#,
    r#""task_id":"UmVjb3JkVGFzay03<PADDING>","t":<T>,"sign":"<SIGN>"}"#,
);
const SNAPSHOT: &str = concat!(
    r#"{"event_type":200,"app":"push.example.com","appname":"live","channel_id":"room-<R>","create_time":<NOW>,"#,
    r#""file_size":"48213","height":720,"pic_full_url":"http://shots-1250000000.cos.example.com/<SEED><----COUNT---->.jpg","#,
    r#""pic_url":"/<SEED><----COUNT---->.jpg","stream_id":"room-<R>","stream_param":"<PADDING>","#,
    r#""task_id":"U25hcHNob3RUYXNr","width":1280,"t":<T>,"sign":"<SIGN>"}"#,
);
const PUSH_EXCEPTION: &str = concat!(
    r#"{"event_type":321,"interface":"general_callback","appid":1250000000,"domain":"push.example.com","path":"live","#,
    r#""sequence":"<SEED><----COUNT---->","stream_id":"room-<R>","stream_param":"<PADDING>","user_ip":"198.51.100.4","#,
    r#""data_time":<NOW>000,"report_interval":5000,"timeout":5000,"abnormal_event":[{"type":3,"count":1,"#,
    r#""detail":[{"desc":"video timestamp jumped from 4480 to 6120","occur_time":<NOW>000}],"event_key":"","#,
    r#""type_desc_en":"The timestamp jumped"}],"protocol":"rtmp","t":<T>,"sign":"<SIGN>"}"#,
);
/// The parts that are replaced for each callback, by digits of the same width.
const ROOM: &[u8] = b"<R>";
const COUNT: &[u8] = b"<----COUNT---->";

/// The kinds of the callbacks. Each push has one callback of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kinds {
    Begins,
    BeginsAndEnds,
    Mixed,
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begins => "begins",
            Self::BeginsAndEnds => "begins and ends",
            Self::Mixed => "six kinds, mixed",
        })
    }
}

impl Kinds {
    fn bodies(self) -> &'static [&'static str] {
        match self {
            Self::Begins => &[BEGIN],
            Self::BeginsAndEnds => &[BEGIN, END],
            Self::Mixed => &[BEGIN, RECORD_STATUS, SNAPSHOT, PUSH_EXCEPTION, END, RECORD],
        }
    }
}

/// Prepared requests, one of each kind, in which only a few digits change.
pub struct Template {
    requests: Vec<Prepared>,
}

struct Prepared {
    request: Vec<u8>,
    body: usize,
    rooms: Vec<usize>,
    counts: Vec<usize>,
}

impl Template {
    /// A template that is valid for 20 minutes: until `t`, plus the grace. Each load on a store
    /// needs its own `seed`, up to 9999.
    pub fn new(port: u16, seed: u32, kinds: Kinds) -> Self {
        let bodies = kinds.bodies().iter();
        Self {
            requests: bodies.map(|body| Prepared::new(port, seed, body)).collect(),
        }
    }

    /// The whole request with this number.
    pub fn request(&mut self, number: u64) -> &[u8] {
        &self.prepare(number).request
    }

    /// The body of the request with this number.
    pub fn body(&mut self, number: u64) -> &[u8] {
        let prepared = self.prepare(number);
        &prepared.request[prepared.body..]
    }

    fn prepare(&mut self, number: u64) -> &Prepared {
        let kinds = self.requests.len() as u64;
        let (push, kind) = (number / kinds, number % kinds);
        let prepared = &mut self.requests[kind as usize];
        for &at in &prepared.rooms {
            digits(&mut prepared.request[at..at + ROOM.len()], push % STREAMS);
        }
        for &at in &prepared.counts {
            digits(&mut prepared.request[at..at + COUNT.len()], push);
        }
        prepared
    }
}

impl Prepared {
    fn new(port: u16, seed: u32, body: &str) -> Self {
        let t = Clock::system().now().seconds() + 600;
        let body = body
            .replace("<NOW>", &(t - 600).to_string())
            .replace("<SEED>", &format!("{seed:04}"))
            .replace("<T>", &t.to_string())
            .replace("<SIGN>", &sign(KEY, &t.to_string()));
        let padding = (SIZE + "<PADDING>".len()).checked_sub(body.len());
        let padding = padding.expect("a body is longer than all shall be");
        let body = body.replace("<PADDING>", &"-".repeat(padding));
        let head = format!(
            "POST /css HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let at = head.len();
        let request = (head + &body).into_bytes();
        let places = |of: &[u8]| {
            let windows = request.windows(of.len()).enumerate();
            windows
                .filter(|(_, part)| *part == of)
                .map(|(at, _)| at)
                .collect()
        };
        Self {
            body: at,
            rooms: places(ROOM),
            counts: places(COUNT),
            request,
        }
    }
}

/// Writes a number with leading zeros.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
