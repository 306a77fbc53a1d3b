//! The lines of `log` handlers. They go to standard error like the log, but are never dropped.
//!
//! They have the format of log lines; `level` does not matter. They wait in a queue of their own
//! for a thread that writes them, and a line is done when it is written. If nobody reads standard
//! error, the queue fills up and the handlers wait.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::{FORMAT, Format};

/// The most lines that wait.
const QUEUE: usize = 1024;
/// A write takes no further lines once it has this many bytes.
const FULL_WRITE: usize = 64 << 10;

/// Sends lines to the thread that writes them.
pub(crate) struct Lines {
    format: Dispatch,
    queue: mpsc::Sender<Line>,
}

struct Line {
    text: Vec<u8>,
    reply: oneshot::Sender<Result<(), String>>,
}

impl Lines {
    /// The lines on standard error, shared by all handlers.
    pub(crate) fn to_stderr() -> &'static Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        LINES.get_or_init(|| {
            let format = FORMAT.get().copied().unwrap_or_default();
            Self::to(format, std::io::stderr())
        })
    }

    pub(crate) fn to(format: Format, writer: impl Write + Send + 'static) -> Self {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(|| Formatted)
            .with_ansi(false);
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
            Format::Text => lines.boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        let (queue, waiting) = mpsc::channel(QUEUE);
        // If the thread does not start, each write returns an error.
        let _ = std::thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || write(waiting, writer));
        Self {
            format: Dispatch::new(tracing_subscriber::registry().with(lines)),
            queue,
        }
    }

    /// Writes the line that `event` logs with `tracing`.
    ///
    /// # Errors
    ///
    /// Fails if the line was not written.
    pub(crate) async fn write(&self, event: impl FnOnce()) -> Result<(), String> {
        tracing::dispatcher::with_default(&self.format, event);
        let text = FORMATTED.take();
        let ended = |_| "the thread that writes the log has ended".to_owned();
        let (reply, written) = oneshot::channel();
        let line = Line { text, reply };
        self.queue.send(line).await.map_err(|_| ended(()))?;
        written.await.map_err(|_| ended(()))?
    }
}

fn write(mut waiting: mpsc::Receiver<Line>, mut writer: impl Write) {
    while let Some(first) = waiting.blocking_recv() {
        let mut text = Vec::new();
        let mut replies = Vec::new();
        let mut next = Some(first);
        while let Some(line) = next {
            // Nobody waits for this line any more; its event is delivered again.
            if !line.reply.is_closed() {
                text.extend_from_slice(&line.text);
                replies.push(line.reply);
            }
            next = match text.len() {
                ..FULL_WRITE => waiting.try_recv().ok(),
                _ => None,
            };
        }
        let written = writer.write_all(&text).and_then(|()| writer.flush());
        let written = written.map_err(|error| format!("cannot write to standard error: {error}"));
        for reply in replies {
            let _ = reply.send(written.clone());
        }
    }
}

thread_local! {
    static FORMATTED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects the line that `tracing` formats in this thread.
struct Formatted;

impl Write for Formatted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        FORMATTED.with_borrow_mut(|line| line.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
