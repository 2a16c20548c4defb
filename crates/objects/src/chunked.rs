//! `aws-chunked`: bodies that come in chunks, each with its length and perhaps a signature, and that end with headers.
//!
//! ```text
//! 10000;chunk-signature=…   a hexadecimal length
//! BYTES
//! 0;chunk-signature=…
//! x-amz-checksum-crc32:…    trailing headers
//!
//! ```

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// Longest line, and all trailing headers together, bytes.
const LINE_MAX: usize = 1024;
const TRAILERS_MAX: usize = 16 * 1024;

/// Headers after the body, once it was read to its end. Names are in lower case.
#[derive(Clone, Default)]
pub struct Trailers(Arc<Mutex<Vec<(String, String)>>>);

impl Trailers {
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    fn push(&self, name: String, value: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, value));
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChunkedError {
    #[error("the body is not in aws-chunked")]
    Malformed,
    #[error("the body ended early")]
    Incomplete,
    #[error("the client went away: {0}")]
    Inner(#[source] Box<dyn std::error::Error + Send + Sync>),
}

enum Expected {
    /// A chunk's length.
    Length,
    Bytes(u64),
    /// The end of the line after a chunk.
    End,
    Trailer,
    Nothing,
}

/// What is inside.
pub struct Chunked<B> {
    inner: B,
    piece: Bytes,
    line: Vec<u8>,
    expected: Expected,
    /// Bytes that are still to come, as the request announced them.
    left: u64,
    trailers: Trailers,
    trailers_size: usize,
}

impl<B> Chunked<B> {
    pub fn new(inner: B, length: u64) -> (Self, Trailers) {
        let trailers = Trailers::default();
        let chunked = Chunked {
            inner,
            piece: Bytes::new(),
            line: Vec::new(),
            expected: Expected::Length,
            left: length,
            trailers: trailers.clone(),
            trailers_size: 0,
        };
        (chunked, trailers)
    }

    /// Takes a line out of the piece; `None` while it goes on.
    fn line(&mut self) -> Result<Option<String>, ChunkedError> {
        let end = self.piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(self.piece.len(), |end| end + 1);
        if self.line.len() + taken > LINE_MAX {
            return Err(ChunkedError::Malformed);
        }
        self.line.extend_from_slice(&self.piece[..taken]);
        self.piece.advance(taken);
        if end.is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r\n").ok_or(ChunkedError::Malformed)?;
        String::from_utf8(line.to_vec()).map(Some).map_err(|_| ChunkedError::Malformed)
    }

    /// The next bytes of the content in the piece; `None` when another piece is needed, or nothing more.
    fn step(&mut self) -> Result<Option<Bytes>, ChunkedError> {
        while !self.piece.is_empty() {
            match self.expected {
                Expected::Length => {
                    let Some(line) = self.line()? else { break };
                    let digits = line.split(';').next().unwrap_or_default();
                    let length = u64::from_str_radix(digits.trim(), 16).map_err(|_| ChunkedError::Malformed)?;
                    if length > self.left {
                        return Err(ChunkedError::Malformed);
                    }
                    self.expected = if length == 0 { Expected::Trailer } else { Expected::Bytes(length) };
                }
                Expected::Bytes(length) => {
                    let taken = usize::try_from(length).unwrap_or(usize::MAX).min(self.piece.len());
                    let bytes = self.piece.split_to(taken);
                    self.left -= taken as u64;
                    let rest = length - taken as u64;
                    self.expected = if rest == 0 { Expected::End } else { Expected::Bytes(rest) };
                    return Ok(Some(bytes));
                }
                Expected::End => match self.line()? {
                    None => break,
                    Some(line) if line.is_empty() => self.expected = Expected::Length,
                    Some(_) => return Err(ChunkedError::Malformed),
                },
                Expected::Trailer => {
                    let Some(line) = self.line()? else { break };
                    self.trailers_size += line.len();
                    if self.trailers_size > TRAILERS_MAX {
                        return Err(ChunkedError::Malformed);
                    }
                    match line.split_once(':') {
                        _ if line.is_empty() => self.expected = Expected::Nothing,
                        Some((name, value)) => {
                            self.trailers.push(name.trim().to_ascii_lowercase(), value.trim().to_owned());
                        }
                        None => return Err(ChunkedError::Malformed),
                    }
                }
                // Some clients end with one line more.
                Expected::Nothing => self.piece.clear(),
            }
        }
        Ok(None)
    }

    fn end(&self) -> Result<(), ChunkedError> {
        // The last empty line is not always sent.
        let is_whole = matches!(self.expected, Expected::Trailer | Expected::Nothing) && self.line.is_empty();
        if is_whole && self.left == 0 { Ok(()) } else { Err(ChunkedError::Incomplete) }
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
            match this.step() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => this.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(ChunkedError::Inner(error.into())))),
                None => return Poll::Ready(this.end().err().map(Err)),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
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
