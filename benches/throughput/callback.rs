//! The callbacks of `callback.lua` as prepared bytes: 590 bytes long, signed, all different, of
//! 1,000 streams.

use css_callbacks::sign;
use livehook::Clock;

use crate::generator::KEY;

const SIZE: usize = 590;
const STREAMS: u64 = 1000;
const BODY: &str = concat!(
    r#"{"app":"push.example.com","appid":1250000000,"appname":"live","channel_id":"room-<R>","errcode":0,"errmsg":"ok","#,
    r#""event_time":<BEGIN>,"event_type":1,"height":0,"idc_id":35,"node":"203.0.113.21","#,
    r#""sequence":"<SEED><----COUNT---->","set_id":2,"stream_id":"room-<R>","#,
    r#""stream_param":"txSecret=f85a2ab363fe4deaffef9754d79da6fe&txTime=6B04D280&note=PADDING<PADDING>","#,
    r#""user_ip":"198.51.100.4","width":0,"pusher_agent":{"name":"推流助手","version":3.10,"#,
    r#""build":20261123000000000001},"t":<T>,"sign":"<SIGN>"}"#,
);
/// The parts that are replaced for each callback, by digits of the same width.
const ROOM: &[u8] = b"<R>";
const COUNT: &[u8] = b"<----COUNT---->";

/// A prepared request in which only a few digits change.
pub struct Template {
    request: Vec<u8>,
    body: usize,
    rooms: Vec<usize>,
    count: usize,
}

impl Template {
    /// A template that is valid for 20 minutes: until `t`, plus the grace. Each load on a store
    /// needs its own `seed`, up to 9999.
    pub fn new(port: u16, seed: u32) -> Self {
        let t = Clock::system().now().seconds() + 600;
        let body = BODY
            .replace("<BEGIN>", &(t - 600).to_string())
            .replace("<SEED>", &format!("{seed:04}"))
            .replace("<T>", &t.to_string())
            .replace("<SIGN>", &sign(KEY, &t.to_string()));
        let short = (SIZE + "<PADDING>".len()).saturating_sub(body.len());
        let body = body.replace("<PADDING>", &"-".repeat(short));
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
                .collect::<Vec<_>>()
        };
        Self {
            body: at,
            rooms: places(ROOM),
            count: places(COUNT)[0],
            request,
        }
    }

    /// The whole request with this number.
    pub fn request(&mut self, number: u64) -> &[u8] {
        for &at in &self.rooms {
            digits(&mut self.request[at..at + ROOM.len()], number % STREAMS);
        }
        digits(
            &mut self.request[self.count..self.count + COUNT.len()],
            number,
        );
        &self.request
    }

    /// The body of the request with this number.
    pub fn body(&mut self, number: u64) -> &[u8] {
        let at = self.body;
        &self.request(number)[at..]
    }
}

/// Writes a number with leading zeros.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
