//! A client that does not read its answer holds a connection and the answer's bytes; after a while it is let go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Sleep;

/// A socket's writing half, whose other end must read.
pub struct Flowing<S> {
    inner: S,
    /// How long nothing may be taken; forever when `None`.
    patience: Option<Duration>,
    /// Runs while there is something to write that is not taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Flowing<S> {
    pub fn new(inner: S, patience: Option<Duration>) -> Self {
        Flowing { inner, patience, stalled: None }
    }

    fn noted<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match (&written, self.patience) {
            (Poll::Pending, Some(patience)) => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(stalled.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
            }
            _ => {
                self.stalled = None;
                written
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flowing<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.noted(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.noted(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn who_does_not_read_is_let_go_and_who_reads_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut flowing = Flowing::new(near, Some(PATIENCE));
        let reading = tokio::spawn(async move {
            let mut read = [0; 4];
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE / 5).await;
                far.read_exact(&mut read).await.unwrap();
            }
            far
        });
        flowing.write_all(&[1; 12]).await.unwrap();
        let _far = reading.await.unwrap();
        let stalled = flowing.write_all(&[1; 12]).await.unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    }
}
