use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// An answer, whatever the protocol.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Reply {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Reply { status, headers: Vec::with_capacity(4), body: body.into() };
        reply.headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        reply
    }

    /// Adds a header; a value that cannot be one is left out.
    pub fn header(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
    }
}
