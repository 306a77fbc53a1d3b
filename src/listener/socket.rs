//! The stream of a connection, which notes what goes over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::caller::{Caller, Phase, Writing};

pub(super) struct Socket {
    /// The limit is for what comes before a head is complete.
    stream: Take<TcpStream>,
    caller: Arc<Caller>,
    /// How much the last read brought.
    last: u64,
    /// After an answer, more was asked for in vain.
    asked: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, caller: Arc<Caller>) -> Self {
        let stream = stream.take(0);
        Self {
            stream,
            caller,
            last: 0,
            asked: false,
        }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        let writing = self.caller.writing();
        match result {
            Poll::Pending if writing == Writing::Flows => self.caller.set_writing(Writing::Stops),
            Poll::Ready(_) if writing != Writing::Flows => self.caller.set_writing(Writing::Flows),
            _ => {}
        }
        result
    }

    /// Notes a head whose begin came together with the request before it. Nobody says so, but it is seen: behind an answer
    /// hyper asks for more, and goes on to flush only if it has the begin of a request already.
    fn note_begun(&mut self) {
        if std::mem::take(&mut self.asked)
            && self.caller.phase() == Phase::Answered
            && self.caller.begin()
        {
            self.caller.set_head(self.last);
        }
    }

    /// Ready when the client is gone. Nothing is read while an answer goes on, so nobody else would notice.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        match self
            .stream
            .get_ref()
            .poll_peek(cx, &mut ReadBuf::new(&mut byte))
        {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            // More requests: they will be read.
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
        let max_head = this.caller.rules.limits.max_head;
        let phase = this.caller.phase();
        match phase {
            Phase::Resting | Phase::Answered => this.stream.set_limit(max_head),
            Phase::Begun | Phase::Head if this.stream.limit() == 0 => {
                // The connection's own task looks at it next.
                this.caller.set_head_over();
                return Poll::Pending;
            }
            Phase::Begun | Phase::Head => {}
            _ => this.stream.set_limit(u64::MAX),
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.asked = read.is_pending() && phase == Phase::Answered;
        ready!(read)?;
        let read = &buffer.filled()[before..];
        this.last = read.len() as u64;
        if read.is_empty() || matches!(phase, Phase::Busy | Phase::Streaming | Phase::Closing) {
            return Poll::Ready(Ok(()));
        }
        if matches!(phase, Phase::Resting | Phase::Answered) {
            // Line breaks before a request mean nothing.
            if read.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                return Poll::Ready(Ok(()));
            }
            if !this.caller.begin() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            this.caller.set_head(0);
        }
        let head = this.caller.head() + this.last;
        this.caller.set_head(head);
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
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note_begun();
        if self.caller.phase() == Phase::Streaming && self.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    /// Says that nothing more comes, and waits for the client to have read it all: closing at once, with bytes of the client
    /// unread, could take the last answer back. A client that resets the connection has gone, which is no failure: it would
    /// hide why the connection ends.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.caller.phase() != Phase::Closing {
            let _ = ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx));
            this.caller.rest(Phase::Closing, Instant::now());
        }
        let mut rest = [0; 4096];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            let read = ready!(Pin::new(this.stream.get_mut()).poll_read(cx, &mut rest));
            if read.is_err() || rest.filled().is_empty() {
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
        self.wrote(written)
    }
}
