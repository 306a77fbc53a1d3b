//! The socket of a connection. It records the connection's phase and whether writes are blocked.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection_state::{ConnectionState, Phase, WriteState};

pub(super) struct Socket {
    /// The limit applies until a head is complete.
    stream: Take<TcpStream>,
    state: Arc<ConnectionState>,
    /// How many bytes the last read returned.
    last_read: u64,
    /// hyper tried to read after a response, and nothing was there.
    read_pending: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, state: Arc<ConnectionState>) -> Self {
        let stream = stream.take(0);
        Self {
            stream,
            state,
            last_read: 0,
            read_pending: false,
        }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn note_write<T>(&self, result: Poll<T>) -> Poll<T> {
        let state = self.state.write_state();
        match result {
            Poll::Pending if state == WriteState::Flowing => {
                self.state.set_write_state(WriteState::JustBlocked)
            }
            Poll::Ready(_) if state != WriteState::Flowing => {
                self.state.set_write_state(WriteState::Flowing)
            }
            _ => {}
        }
        result
    }

    /// Records a head whose first bytes arrived together with the previous request. hyper does not
    /// report this, but it shows: after a response hyper tries to read, and it flushes after that
    /// only if its buffer already holds the start of a request.
    fn note_pipelined_head(&mut self) {
        if std::mem::take(&mut self.read_pending)
            && self.state.phase() == Phase::Answered
            && self.state.begin_head()
        {
            self.state.set_head_bytes(self.last_read);
        }
    }

    /// Ready when the client has disconnected: hyper does not notice while it sends a response.
    fn poll_disconnected(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        match self
            .stream
            .get_ref()
            .poll_peek(cx, &mut ReadBuf::new(&mut byte))
        {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            // The client has sent more requests. hyper reads them later.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let max_head = this.state.shared.limits.max_head;
        let phase = this.state.phase();
        match phase {
            Phase::Idle | Phase::Answered => this.stream.set_limit(max_head),
            Phase::HeadStarted | Phase::ReadingHead if this.stream.limit() == 0 => {
                // `ConnectionDeadline` runs next in this task and sends the response.
                this.state.set_head_too_long();
                return Poll::Pending;
            }
            Phase::HeadStarted | Phase::ReadingHead => {}
            _ => this.stream.set_limit(u64::MAX),
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.read_pending = read.is_pending() && phase == Phase::Answered;
        ready!(read)?;
        let read = &buffer.filled()[before..];
        this.last_read = read.len() as u64;
        if read.is_empty() || matches!(phase, Phase::Answering | Phase::Streaming | Phase::Closing)
        {
            return Poll::Ready(Ok(()));
        }
        if matches!(phase, Phase::Idle | Phase::Answered) {
            // Line breaks before a request are ignored.
            if read.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                return Poll::Ready(Ok(()));
            }
            if !this.state.begin_head() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            this.state.set_head_bytes(0);
        }
        let head = this.state.head_bytes() + this.last_read;
        this.state.set_head_bytes(head);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note_pipelined_head();
        if self.state.phase() == Phase::Streaming && self.poll_disconnected(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    /// Closes the sending side, and waits until the client has closed too. A close with unread
    /// bytes of the client would reset the connection, and the client could lose the last response.
    /// A reset by the client is no error here: reporting it would hide why the connection ends.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state.phase() != Phase::Closing {
            let _ = ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx));
            this.state.set_evictable(Phase::Closing, Instant::now());
        }
        let mut discarded = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(this.stream.get_mut()).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices);
        self.note_write(written)
    }
}
