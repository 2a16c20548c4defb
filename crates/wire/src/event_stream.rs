//! Event streams: answers of many messages, each with headers and checksums (`application/vnd.amazon.eventstream`).
//!
//! ```text
//!   length of all · length of headers · CRC of both │ headers │ payload │ CRC of all before
//! ```
//!
//! Numbers are of four bytes, big-endian. A payload is passed on as it is: its message goes out in three parts.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use futures_core::Stream;
use serde::Serialize;

pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The two lengths and their CRC.
const PRELUDE: usize = 12;
const CRC: usize = 4;
/// The type of a header's value that is text.
const TEXT: u8 = 7;

/// What a message is.
#[derive(Clone, Copy)]
enum Kind {
    Event,
    /// The last one of a stream that ends with an error.
    Exception,
}

/// One event of a service's stream.
pub struct Event {
    kind: Kind,
    pub name: &'static str,
    pub content_type: &'static str,
    pub payload: Bytes,
}

impl Event {
    /// An event that is bytes.
    pub fn blob(name: &'static str, payload: Bytes) -> Self {
        Event { kind: Kind::Event, name, content_type: "application/octet-stream", payload }
    }

    /// An event that is a structure.
    pub fn json(name: &'static str, event: &impl Serialize) -> Self {
        // These structures have nothing that cannot be written.
        let payload = serde_json::to_vec(event).unwrap_or_default().into();
        Event { kind: Kind::Event, name, content_type: "application/json", payload }
    }

    /// An error in place of further events.
    pub fn exception(name: &'static str, event: &impl Serialize) -> Self {
        Event { kind: Kind::Exception, ..Event::json(name, event) }
    }
}

/// A stream member of an answer: events of one service's kind.
pub struct EventStream<E>(Option<Pin<Box<dyn Stream<Item = E> + Send>>>);

impl<E: Into<Event> + 'static> EventStream<E> {
    pub fn new(events: impl Stream<Item = E> + Send + 'static) -> Self {
        EventStream(Some(Box::pin(events)))
    }

    /// Its bytes; none where no stream was given.
    pub fn frames(self) -> Option<Frames> {
        Some(Frames { events: Box::pin(Events(self.0?)), parts: VecDeque::with_capacity(3) })
    }
}

impl Frames {
    /// The same after one event more.
    pub fn after(mut self, event: Event) -> Self {
        self.parts.extend(message(event));
        self
    }
}

impl<E> Default for EventStream<E> {
    fn default() -> Self {
        EventStream(None)
    }
}

/// A stream's bytes.
pub struct Frames {
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    /// Parts of a message.
    parts: VecDeque<Bytes>,
}

impl Stream for Frames {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Poll::Ready(Some(part));
            }
            match std::task::ready!(self.events.as_mut().poll_next(cx)) {
                Some(event) => self.parts.extend(message(event).into_iter().filter(|part| !part.is_empty())),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Events as every service has them.
struct Events<E>(Pin<Box<dyn Stream<Item = E> + Send>>);

impl<E: Into<Event>> Stream for Events<E> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.as_mut().poll_next(cx).map(|event| event.map(Into::into))
    }
}

fn message(event: Event) -> [Bytes; 3] {
    let (kind, of_kind) = match event.kind {
        Kind::Event => ("event", ":event-type"),
        Kind::Exception => ("exception", ":exception-type"),
    };
    let headers = [(":message-type", kind), (of_kind, event.name), (":content-type", event.content_type)];
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 1 + 2 + value.len()).sum();
    let length = PRELUDE + headers_length + event.payload.len() + CRC;
    let mut head = BytesMut::with_capacity(PRELUDE + headers_length);
    put_length(&mut head, length);
    put_length(&mut head, headers_length);
    let crc = crc([head.as_ref()]);
    head.put_u32(crc);
    for (name, value) in headers {
        // Both are constants of a model, far shorter than a length can say.
        head.put_u8(name.len() as u8);
        head.put_slice(name.as_bytes());
        head.put_u8(TEXT);
        head.put_u16(value.len() as u16);
        head.put_slice(value.as_bytes());
    }
    let crc = self::crc([head.as_ref(), event.payload.as_ref()]);
    [head.freeze(), event.payload, Bytes::copy_from_slice(&crc.to_be_bytes())]
}

/// What an event holds is bounded far below what a length can say.
fn put_length(to: &mut BytesMut, length: usize) {
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn crc<const N: usize>(parts: [&[u8]; N]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    parts.into_iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_as_the_format_says() {
        let event = Event { kind: Kind::Event, name: "E", content_type: "t/x", payload: Bytes::from_static(b"abc") };
        let whole = message(event).concat();
        let headers = b"\x0d:message-type\x07\0\x05event\x0b:event-type\x07\0\x01E\x0d:content-type\x07\0\x03t/x";
        let (length, of_headers) = (whole.len() as u32, headers.len() as u32);
        assert_eq!(whole[..8], [length.to_be_bytes(), of_headers.to_be_bytes()].concat());
        assert_eq!(whole[8..12], crc([&whole[..8]]).to_be_bytes());
        let (before, after) = (12 + headers.len(), whole.len() - 4);
        assert_eq!((&whole[12..before], &whole[before..after]), (&headers[..], &b"abc"[..]));
        assert_eq!(whole[after..], crc([&whole[..after]]).to_be_bytes());
    }

    #[test]
    fn checksums_are_those_of_the_published_example() {
        // An empty message with no headers: 16, 0, and the CRC of these eight bytes.
        assert_eq!(crc([&[0, 0, 0, 16, 0, 0, 0, 0]]), 0x05c2_48eb);
        assert_eq!(crc([b"123456789"]), 0xcbf4_3926);
    }
}
