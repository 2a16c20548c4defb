//! Bodies: of answers, whole or by pieces, and of requests, within a limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use hearth_wire::event_stream::Frames;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// What a client sends beyond a limit is read and thrown away up to here, so that it sees the answer.
const DISCARD_MAX: usize = 512 * 1024 * 1024;
/// Before an answer is cut: what came before is written out meanwhile. HTTP/2 throws away what waits when a stream is reset.
const WRITTEN_OUT: Duration = Duration::from_millis(20);

pub enum Body {
    Whole(Option<Bytes>),
    /// The sender bounds what waits.
    Pieces(mpsc::Receiver<Bytes>),
    /// An event stream.
    Frames(Frames),
    /// What a function answers, as it comes.
    Function(Answering),
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

/// An answer of which the first bytes may have been read.
pub struct Answering {
    first: Option<Bytes>,
    rest: hearth_model::Body,
    /// Once the function has failed.
    cut: Option<Pin<Box<Sleep>>>,
}

impl Answering {
    pub fn new(first: Option<Bytes>, rest: hearth_model::Body) -> Self {
        Answering { first, rest, cut: None }
    }

    /// A function that fails in the middle has its answer cut: nothing else can be said any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.cut.is_none() {
            match ready!(self.rest.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(piece))),
                Some(Err(_)) => {}
                None => return Poll::Ready(None),
            }
        }
        let cut = self.cut.get_or_insert_with(|| Box::pin(sleep(WRITTEN_OUT)));
        ready!(cut.as_mut().poll(cx));
        Poll::Ready(Some(Err("a function failed after its answer had begun".into())))
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
            Body::Function(answering) => answering.poll(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Body::Objects(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Pieces(_) | Body::Frames(_) | Body::Function(_) => false,
            Body::Objects(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Pieces(_) | Body::Frames(_) | Body::Function(_) => SizeHint::default(),
            Body::Objects(body) => http_body::Body::size_hint(body),
        }
    }
}

/// Bytes of a body that a client must send a second once its patience is over.
const RATE_MIN: u64 = 16 * 1024;
pub const TOO_SLOW: &str = "The request came too slowly.";

/// Why a body was not read.
pub enum ReadError {
    TooLarge,
    /// The client went away, or did not speak HTTP.
    Broken,
    TooSlow,
}

/// A request's body, which its client is still sending.
pub struct Arriving {
    pub body: Incoming,
    /// How long the client may take before its rate counts. `None` inside: a function that is frozen is silent for as
    /// long as that.
    pub patience: Option<Duration>,
}

/// The whole body. One piece is the common case and is not copied.
pub async fn read(Arriving { mut body, patience }: Arriving, limit: usize) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut total = 0;
    let begin = Instant::now();
    loop {
        let frame = match patience {
            None => body.frame().await,
            Some(patience) => {
                let until = begin + patience + Duration::from_secs(total as u64 / RATE_MIN);
                timeout_at(until, body.frame()).await.map_err(|_| ReadError::TooSlow)?
            }
        };
        let Some(frame) = frame else { break };
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
