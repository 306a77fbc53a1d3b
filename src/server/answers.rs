//! The runtime that answers senders.
//!
//! Only the callback listener and the inbox run here. Handlers, the admin listener and reloads run in the runtime that the
//! server was started in: whatever is slow or blocked there, callbacks are answered.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The runtime; it ends with the server.
pub(super) struct Answers {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Answers {
    pub(super) fn start() -> io::Result<Self> {
        // One processor is left to the store: where all have a thread of the runtime, every sync waits for one of these.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads((processors - 1).max(1))
            .thread_name("answers")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Runs something there.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // A runtime must not be waited for in another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
