use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::event_stream::Frames;

/// An answer, whatever the protocol.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: ReplyBody,
}

pub enum ReplyBody {
    Whole(Bytes),
    /// An event stream, encoded.
    Frames(Frames),
}

impl Reply {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Reply::with(status, content_type, ReplyBody::Whole(body.into()))
    }

    pub fn with(status: u16, content_type: &'static str, body: ReplyBody) -> Self {
        let mut reply = Reply { status, headers: Vec::with_capacity(4), body };
        reply.headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        reply
    }

    /// Adds a header; a value that cannot be one is left out.
    pub fn header(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
    }

    /// The body, where it is not a stream.
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.body {
            ReplyBody::Whole(body) => Some(body),
            ReplyBody::Frames(_) => None,
        }
    }
}
