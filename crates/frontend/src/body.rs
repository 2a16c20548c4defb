//! Bodies: of answers, whole or by pieces, and of requests, within a limit.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use hearth_wire::event_stream::Frames;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// What a client sends beyond a limit is read and thrown away up to here, so that it sees the answer.
const DISCARD_MAX: usize = 512 * 1024 * 1024;

pub enum Body {
    Whole(Option<Bytes>),
    /// The sender bounds what waits.
    Pieces(mpsc::Receiver<Bytes>),
    /// An event stream.
    Frames(Frames),
    /// Of S3.
    Objects(hearth_objects::Body),
}

/// Why an answer ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl Body {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Body::Whole(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Body::Whole(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Body::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            Body::Frames(frames) => {
                Pin::new(frames).poll_next(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
            Body::Objects(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Pieces(_) | Body::Frames(_) => false,
            Body::Objects(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Pieces(_) | Body::Frames(_) => SizeHint::default(),
            Body::Objects(body) => http_body::Body::size_hint(body),
        }
    }
}

/// Why a body was not read.
pub enum ReadError {
    TooLarge,
    /// The client went away.
    Broken,
}

/// The whole body. One piece is the common case and is not copied.
pub async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        total += piece.len();
        if total > DISCARD_MAX {
            return Err(ReadError::Broken);
        }
        if total > limit {
            rest = BytesMut::new();
        } else if first.is_empty() && rest.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&piece);
        }
    }
    if total > limit {
        return Err(ReadError::TooLarge);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
