//! Reads a program's standard error. The last line says why the program failed.

use std::convert::Infallible;
use std::io;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::sync::Semaphore;

/// The most bytes that are kept of the end.
const MAX_KEPT: usize = 4096;
/// The size of a pipe.
const PIPE_SIZE: usize = 64 << 10;

/// Limits the tasks that read for processes that programs leave behind.
static DRAINS: Semaphore = Semaphore::const_new(64);

/// The end of the output.
#[derive(Default)]
pub(super) struct StderrTail(Vec<u8>);

impl StderrTail {
    /// Reads as long as the future is polled.
    pub(super) async fn read(&mut self, pipe: &mut ChildStderr) -> Infallible {
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            self.add(&chunk[..read]);
        }
        std::future::pending().await
    }

    /// Reads what the program wrote before its end, without waiting for more. A process that it
    /// left behind may still hold the pipe and would get SIGPIPE if nobody read, so a task goes on
    /// reading.
    pub(super) fn finish(&mut self, mut pipe: ChildStderr) {
        let mut chunk = [0; 4096];
        let mut left = PIPE_SIZE;
        // Read directly: the runtime may not know yet that data is there.
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
    fn the_last_line_is_kept() {
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
