//! The answer of InvokeWithResponseStream: pieces of the response as events, and how it ended as the last one
//! (spec 2.3). What it says of errors: decision 28.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use hearth_model::{Body, BodyError, BoxFuture, FunctionError, Outcome, Response};
use hearth_wire_lambda::types::{
    InvokeResponseStreamUpdate, InvokeWithResponseStreamCompleteEvent as Complete,
    InvokeWithResponseStreamResponseEvent as Event,
};

pub(crate) struct Events {
    /// Until it has ended.
    body: Option<Body>,
    /// The function failed before it answered, and its body so far, which is the error.
    error: Option<(FunctionError, BytesMut)>,
    /// What the last event says.
    complete: Option<Complete>,
    /// When the log's tail is asked for: what it waits for.
    outcome: Option<BoxFuture<'static, Outcome>>,
}

impl Events {
    pub fn new(response: Response, wants_log_tail: bool) -> Self {
        Events {
            body: Some(response.body),
            error: response.head.function_error.map(|error| (error, BytesMut::new())),
            complete: Some(Complete::default()),
            outcome: wants_log_tail.then_some(response.outcome),
        }
    }

    /// The next piece that is an event of its own; none when the body is over.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(body) = &mut self.body {
            match (ready!(body.as_mut().poll_next(cx)), &mut self.error) {
                (Some(Ok(piece)), Some((_, details))) => details.extend_from_slice(&piece),
                (Some(Ok(piece)), None) if piece.is_empty() => {}
                (Some(Ok(piece)), None) => return Poll::Ready(Some(piece)),
                (Some(Err(BodyError { error_type, details })), _) => self.fail(&error_type, &details),
                (None, Some((error, details))) => {
                    let (error, details) = (*error, std::mem::take(details));
                    self.fail(error.as_str(), &details);
                }
                (None, None) => self.body = None,
            }
        }
        Poll::Ready(None)
    }

    fn fail(&mut self, code: &str, details: &[u8]) {
        self.body = None;
        if let Some(complete) = &mut self.complete {
            complete.error_code = Some(code.to_owned());
            complete.error_details = Some(String::from_utf8_lossy(details).into_owned());
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(payload) = ready!(self.poll_body(cx)) {
            return Poll::Ready(Some(Event::PayloadChunk(InvokeResponseStreamUpdate { payload })));
        }
        if let Some(outcome) = &mut self.outcome {
            let log_tail = ready!(outcome.as_mut().poll(cx)).log_tail;
            self.outcome = None;
            if let Some(complete) = &mut self.complete {
                complete.log_result = log_tail.map(|tail| STANDARD.encode(tail));
            }
        }
        Poll::Ready(self.complete.take().map(Event::InvokeComplete))
    }
}
