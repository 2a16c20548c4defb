//! Bodies in `aws-chunked`: what is inside, as it comes. How they are taken apart is the protocol's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hearth_wire::sigv4::{ChunkError, Chunks};
use http_body::{Body, Frame, SizeHint};

/// Headers after the body, once it was read to its end. Names are in lower case.
#[derive(Clone, Default)]
pub struct Trailers(Arc<Mutex<Vec<(String, String)>>>);

impl Trailers {
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChunkedError {
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    #[error("the client went away: {0}")]
    Inner(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is inside.
pub struct Chunked<B> {
    inner: B,
    piece: Bytes,
    chunks: Chunks,
    trailers: Trailers,
}

impl<B> Chunked<B> {
    /// Of content that is `length` bytes long. Which secret signed it is not checked yet.
    pub fn new(inner: B, length: u64) -> (Self, Trailers) {
        let (trailers, chunks) = (Trailers::default(), Chunks::new(length, None, true));
        (Chunked { inner, piece: Bytes::new(), chunks, trailers: trailers.clone() }, trailers)
    }

    fn end(&self) -> Result<(), ChunkError> {
        *self.trailers.0.lock().unwrap_or_else(PoisonError::into_inner) = self.chunks.trailers().to_vec();
        self.chunks.end()
    }
}

impl<B> Body for Chunked<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = ChunkedError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ChunkedError>>> {
        let this = self.get_mut();
        loop {
            match this.chunks.next(&mut this.piece) {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => this.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(ChunkedError::Inner(error.into())))),
                None => return Poll::Ready(this.end().err().map(|error| Err(error.into()))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunks.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;

    /// The body of these pieces.
    struct Pieces(Vec<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn read(pieces: Vec<Bytes>, length: u64) -> Result<(Bytes, Trailers), ChunkedError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (body, trailers) = Chunked::new(Pieces(pieces), length);
        runtime.block_on(body.collect()).map(|all| (all.to_bytes(), trailers))
    }

    const BODY: &str = "5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nX-Amz-Checksum-Crc32:DUoRhQ==\r\n\r\n";

    #[test]
    fn chunks_are_joined_and_trailing_headers_are_kept_wherever_pieces_end() {
        for at in 0..=BODY.len() {
            let pieces = vec![Bytes::from(&BODY[..at]), Bytes::from(&BODY[at..])];
            let (bytes, trailers) = read(pieces, 11).unwrap();
            assert_eq!(bytes, "hello world");
            assert_eq!(trailers.get("x-amz-checksum-crc32").as_deref(), Some("DUoRhQ=="));
        }
    }

    #[test]
    fn what_ends_early_or_is_longer_than_announced_is_an_error() {
        for end in 0..BODY.find("0\r\nX").unwrap() + 3 {
            assert!(read(vec![Bytes::from(&BODY[..end])], 11).is_err(), "{end}");
        }
        for length in [10, 12] {
            assert!(read(vec![Bytes::from(BODY)], length).is_err());
        }
        assert!(read(vec![Bytes::from("zz\r\n")], 0).is_err());
        assert!(read(vec![Bytes::from("1".repeat(2000))], 0).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (body, _) = Chunked::new(Full::new(Bytes::from(bytes)), 50);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(body.collect());
        }
    }
}
