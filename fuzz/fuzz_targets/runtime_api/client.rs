//! A client's end of a connection: says what it is told to as the server takes it, and looks at every reply.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Bytes on the way in each direction.
const ROOM: usize = 4096;
/// Statuses that code in a sandbox is told (spec 4), and those of a bad head.
const STATUSES: [u16; 10] = [200, 202, 400, 403, 404, 405, 413, 414, 431, 500];

pub struct Client {
    stream: DuplexStream,
    unsaid: Vec<u8>,
    heard: Vec<u8>,
}

impl Client {
    pub fn connected() -> (Self, DuplexStream) {
        let (stream, served) = tokio::io::duplex(ROOM);
        (Client { stream, unsaid: Vec::new(), heard: Vec::new() }, served)
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.unsaid.extend_from_slice(bytes);
    }

    /// Whether anything went either way.
    pub fn exchange(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        if !self.unsaid.is_empty() {
            match Pin::new(&mut self.stream).poll_write(&mut context, &self.unsaid) {
                Poll::Ready(Ok(written)) => {
                    self.unsaid.drain(..written);
                    moved = true;
                }
                // Nobody listens any more.
                Poll::Ready(Err(_)) => self.unsaid.clear(),
                Poll::Pending => {}
            }
        }
        let mut space = [0; ROOM];
        let mut buffer = ReadBuf::new(&mut space);
        if let Poll::Ready(Ok(())) = Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            self.heard.extend_from_slice(buffer.filled());
            moved |= !buffer.filled().is_empty();
        }
        while let Some(length) = reply(&self.heard) {
            self.heard.drain(..length);
        }
        moved
    }

    pub fn hang_up(mut self) {
        self.exchange();
    }
}

/// The length of the first reply, once it is whole.
fn reply(heard: &[u8]) -> Option<usize> {
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&heard[..end]).expect("a head of text");
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 ")).expect("a status line");
    let status: u16 = status[..3].parse().expect("a status");
    if status == 100 {
        return Some(end);
    }
    assert!(STATUSES.contains(&status), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    // An answer to HEAD has none, whatever it says. No other begins like this.
    let length = if heard[end..].starts_with(b"HTTP/1.") { 0 } else { length };
    let body = heard.get(end..end + length)?;
    let is_json =
        head.contains("Content-Type: application/json\r\n") && !head.contains("Lambda-Runtime-Aws-Request-Id");
    if is_json && !body.is_empty() {
        let said: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert!(status < 400 || said["errorType"].is_string(), "{said}");
    }
    Some(end + length)
}
