//! Watches the bytes of an HTTP/1 connection for requests whose end could be read in two ways: with both headers that say
//! a length, with lengths or encodings that are none, with chunks that are not spelled out plainly. A proxy in front of
//! this door and the door itself could take different bytes for the next request, so nothing of such a request comes
//! through: what the parser gets in its place is no request, or half of one, which it refuses, and the connection ends.
//!
//! ```text
//!   Head ──► (Content-Length) Skip ──► Head …
//!     └────► (chunked) Size ─► Data ─► End ─► Size … 0 ─► Trailer ─► Head …
//! ```
//!
//! [`Framing`] decides; [`Watched`] is what the parser reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a line that are looked at. Lines that matter are shorter.
const LINE_MAX: usize = 256;
/// Hexadecimal digits of a chunk's length.
const DIGITS_MAX: usize = 15;
/// What no parser of HTTP takes for a part of a head. The empty line makes one look at it that waits for a head's end.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Where in the stream of requests the next byte is.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// The line that is being read, as far as it is looked at.
    line: Vec<u8>,
    /// It is longer than that.
    is_cut: bool,
    head: Head,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Skip(u64),
    Size,
    Data(u64),
    /// The line's end after a chunk.
    End,
    Trailer,
    /// Not HTTP/1, or not any more.
    Off,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// A request's end could be read in two ways.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

impl Framing {
    pub fn new() -> Self {
        Framing { state: State::Head, line: Vec::new(), is_cut: false, head: Head::default() }
    }

    /// Looks at the next bytes. An error holds how many of them are before the line that must not come through.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Off => return Ok(()),
                State::Skip(left) | State::Data(left) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    at += usize::try_from(taken).unwrap_or(usize::MAX);
                    let left = left - taken;
                    self.state = match self.state {
                        State::Data(_) if left == 0 => State::End,
                        State::Data(_) => State::Data(left),
                        _ if left == 0 => State::Head,
                        _ => State::Skip(left),
                    };
                }
                _ => {
                    let begin = at;
                    let end = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end);
                    self.take(&bytes[at..end.unwrap_or(bytes.len())]);
                    at = end.map_or(bytes.len(), |end| end + 1);
                    if end.is_some() {
                        self.line_is_whole().map_err(|Ambiguous| begin)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the parser is given in place of what must not come through: a head that is none, or a body that ends early.
    fn instead(&self) -> &'static [u8] {
        if self.state == State::Head { NO_HEAD } else { b"" }
    }

    fn take(&mut self, part: &[u8]) {
        let room = LINE_MAX - self.line.len();
        self.is_cut |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn line_is_whole(&mut self) -> Result<(), Ambiguous> {
        let mut line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        let has_return = !is_cut && line.last() == Some(&b'\r');
        if has_return {
            line.pop();
        }
        match self.state {
            State::Head => self.head_line(&line, is_cut)?,
            // Chunks are the parser's to read to the letter, and letters that are read generously elsewhere end here.
            _ if !has_return => return Err(Ambiguous),
            State::Size => {
                let length = chunk_length(&line)?;
                self.state = if length == 0 { State::Trailer } else { State::Data(length) };
            }
            State::End if line.is_empty() => self.state = State::Size,
            State::Trailer => {
                if line.is_empty() {
                    self.state = State::Head;
                }
            }
            _ => return Err(Ambiguous),
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn head_line(&mut self, line: &[u8], is_cut: bool) -> Result<(), Ambiguous> {
        if !self.head.has_begun {
            // Empty lines before a request count for nothing.
            self.head.has_begun = !line.is_empty();
            if line == PREFACE {
                self.state = State::Off;
            }
            return Ok(());
        }
        if line.is_empty() {
            let Head { length, is_chunked, .. } = std::mem::take(&mut self.head);
            self.state = match (length, is_chunked) {
                (Some(_), true) => return Err(Ambiguous),
                (None, true) => State::Size,
                (None | Some(0), false) => State::Head,
                (Some(length), false) => State::Skip(length),
            };
            return Ok(());
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        // A line that goes on with the one before, and white space that hides a name.
        if name.first().is_some_and(u8::is_ascii_whitespace) || name.last().is_some_and(u8::is_ascii_whitespace) {
            return Err(Ambiguous);
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && !is_cut && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            let length: u64 = length.ok_or(Ambiguous)?;
            if self.head.length.replace(length).is_some_and(|other| other != length) || self.head.is_chunked {
                return Err(Ambiguous);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_plain = !is_cut && value.eq_ignore_ascii_case(b"chunked");
            if !is_plain || self.head.is_chunked || self.head.length.is_some() {
                return Err(Ambiguous);
            }
            self.head.is_chunked = true;
        }
        Ok(())
    }
}

/// Of a chunk's first line. What follows a semicolon is cut off by every parser.
fn chunk_length(line: &[u8]) -> Result<u64, Ambiguous> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_plain = !digits.is_empty() && digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_plain).ok_or(Ambiguous)?;
    u64::from_str_radix(digits, 16).map_err(|_| Ambiguous)
}

/// A socket's reading half, whose requests are watched.
pub struct Watched<S> {
    inner: S,
    framing: Framing,
    /// What the parser is still given in place of an ambiguous request.
    instead: Option<&'static [u8]>,
}

impl<S> Watched<S> {
    pub fn new(inner: S) -> Self {
        Watched { inner, framing: Framing::new(), instead: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.instead.is_none() {
            let before = buffer.filled().len();
            std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            if let Err(good) = this.framing.look(&buffer.filled()[before..]) {
                tracing::debug!("a request whose end can be read in two ways was refused");
                this.instead = Some(this.framing.instead());
                buffer.set_filled(before + good);
            }
        }
        // Then it is as if the client had closed.
        if let Some(instead) = &mut this.instead {
            let (now, later) = instead.split_at(instead.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *instead = later;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes come through, in pieces of this size.
    fn through(bytes: &[u8], size: usize) -> usize {
        let mut framing = Framing::new();
        let mut passed = 0;
        for piece in bytes.chunks(size.max(1)) {
            match framing.look(piece) {
                Ok(()) => passed += piece.len(),
                Err(good) => return passed + good,
            }
        }
        passed
    }

    const PLAIN: &[&str] = &[
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\nhost: a\n\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nt: v\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:Chunked\r\n\r\n0\r\n\r\n",
    ];

    const AMBIGUOUS: &[&str] = &[
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length : 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\nhello\r\n",
    ];

    #[test]
    fn plain_requests_come_through_one_after_the_other_wherever_pieces_end() {
        let all = PLAIN.concat();
        for size in 1..=all.len() {
            assert_eq!(through(all.as_bytes(), size), all.len(), "{size}");
        }
    }

    #[test]
    fn what_comes_before_an_ambiguous_request_comes_through_and_its_last_line_does_not() {
        for plain in PLAIN {
            for ambiguous in AMBIGUOUS {
                let all = format!("{plain}{ambiguous}GET /hidden HTTP/1.1\r\n\r\n");
                for size in [1, 7, all.len()] {
                    let passed = through(all.as_bytes(), size);
                    let last = plain.len() + ambiguous.len();
                    assert!(passed >= plain.len() && passed < last, "{ambiguous:?} after {plain:?}: {passed}");
                    // Whatever the parser has of it, it is no whole request.
                    assert!(!all[plain.len()..passed].ends_with("0\r\n\r\n"), "{ambiguous:?}");
                }
            }
        }
    }

    #[test]
    fn http_2_is_not_looked_at() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncontent-length: x\r\ntransfer-encoding: y\r\n";
        assert_eq!(through(preface, 3), preface.len());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in prop::collection::vec(prop::sample::select(b"POST /\r\n:0123afcontent-lengthtransfer-encoding: chunked;".to_vec()), 0..200), size in 1..50usize) {
            let whole = through(&bytes, bytes.len());
            let pieces = through(&bytes, size);
            // A line that began in an earlier piece has come through as far as that.
            prop_assert!(pieces >= whole && (pieces == whole || whole < bytes.len()));
        }
    }
}
