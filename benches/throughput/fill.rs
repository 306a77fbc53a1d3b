//! Fills a store with many events.

use std::path::Path;

use bytes::Bytes;
use css_callbacks::sign;
use livehook::{Clock, bench};

use crate::callback::{Kinds, Template};
use crate::generator::KEY;

/// A seed above those of loads.
const SEED: u32 = 9999;

/// Puts this many events into the store of livehook in this folder. Each is verified and accepted.
pub fn fill(dir: &Path, events: u64) -> anyhow::Result<()> {
    bench::fill(dir, KEY, events, || {
        let mut template = Template::new(0, SEED, Kinds::Begins);
        move |number| Bytes::copy_from_slice(template.body(number))
    })
}

/// Puts begins of this many streams into the store.
pub fn fill_streams(dir: &Path, streams: u64) -> anyhow::Result<()> {
    let now = Clock::system().now().seconds();
    let t = (now + 600).to_string();
    let sign = sign(KEY, &t);
    bench::fill(dir, KEY, streams, || {
        let (t, sign) = (t.clone(), sign.clone());
        move |number| {
            let begin = now - 100_000 + number.cast_signed() % 90_000;
            let domain = number % 7;
            let body = format!(
                r#"{{"event_type":1,"app":"push-{domain}.example.com","appname":"live","stream_id":"room-{number}","sequence":"{number}","event_time":{begin},"t":{t},"sign":"{sign}"}}"#
            );
            body.into()
        }
    })
}
