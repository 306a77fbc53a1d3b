//! The async runtime that answers callbacks.
//!
//! It runs only the callback listener and the inbox. Handlers, the admin listener and reloads run
//! in the runtime in which the server was started. So callbacks are answered even if a handler
//! blocks.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The runtime. It ends with the server.
pub(super) struct Answers {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Answers {
    pub(super) fn start() -> io::Result<Self> {
        // One processor is left to the store. If every processor ran a busy worker, each sync would
        // wait for one of them.
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

    /// Runs a task on this runtime.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // A runtime must not wait for the end of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
