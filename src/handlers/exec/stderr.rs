//! What a program writes to standard error: its last line tells why it failed.

use std::convert::Infallible;
use std::io;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::sync::Semaphore;

/// So much of the end is kept.
const MAX_KEPT: usize = 4096;
/// A pipe holds so much.
const PIPE_SIZE: usize = 64 << 10;

/// What programs leave behind may go on writing; for so many of them somebody reads.
static DRAINS: Semaphore = Semaphore::const_new(64);

/// The end of what was written.
#[derive(Default)]
pub(super) struct StderrTail(Vec<u8>);

impl StderrTail {
    /// Listens for as long as this is polled.
    pub(super) async fn read(&mut self, pipe: &mut ChildStderr) -> Infallible {
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            self.add(&chunk[..read]);
        }
        std::future::pending().await
    }

    /// The program has ended: takes what it wrote before that, and waits for nothing more. Something it started may hold the
    /// pipe open, and would be killed by what it writes if nobody read it.
    pub(super) fn finish(&mut self, mut pipe: ChildStderr) {
        let mut chunk = [0; 4096];
        let mut left = PIPE_SIZE;
        // Not by the runtime, which may not know yet that there is something.
        while left > 0 {
            match rustix::io::read(&pipe, &mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    self.add(&chunk[..read]);
                    left = left.saturating_sub(read);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => return,
            }
        }
        if let Ok(place) = DRAINS.try_acquire() {
            tokio::spawn(async move {
                let _place = place;
                let _: io::Result<u64> = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
            });
        }
    }

    /// The last line that is not empty.
    pub(super) fn last_line(&self) -> &[u8] {
        let text = self.0.trim_ascii_end();
        let lines = text.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
        lines.into_iter().next().unwrap_or_default()
    }

    fn add(&mut self, text: &[u8]) {
        self.0.extend_from_slice(text);
        let before = self.0.len().saturating_sub(MAX_KEPT);
        self.0.drain(..before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_that_of_the_end() {
        let last = |parts: &[&[u8]]| {
            let mut tail = StderrTail::default();
            parts.iter().for_each(|part| tail.add(part));
            String::from_utf8_lossy(tail.last_line()).into_owned()
        };
        assert_eq!(last(&[]), "");
        assert_eq!(last(&[b"\n \n"]), "");
        assert_eq!(last(&[b"first\nsec", b"ond\r\n", b"\n"]), "second");
        assert_eq!(last(&[&[b'x'; MAX_KEPT], b"\nend"]), "end");
        assert_eq!(last(&[&[b'x'; 3 * MAX_KEPT]]).len(), MAX_KEPT);
    }
}
