//! Framed log records: what runtimes write to the descriptor `_LAMBDA_TELEMETRY_LOG_FD` (spec 3.4), so that a record may
//! have many lines.
//!
//! ```text
//!   type (4 bytes) · length (4) · microseconds since the epoch (8) │ message       numbers are big-endian
//!   type: 0xA55A00 and five bits: level (3), 1, text or JSON
//! ```
//!
//! Hostile, like all that functions write: no more than the longest record is kept, a length is only believed as its
//! bytes come, and what is not framed is taken as lines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use hearth_model::LogLevel;

use crate::lines::{LINE_MAX, LineSplitter, character_end};

const HEADER: usize = 16;
/// Without the level and the bit that tells text from JSON.
const TYPE: u32 = 0xA55A_0002;
const TYPE_MASK: u32 = !0b11101;

/// A record, or a part of one that is longer than records may be.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// As its writer said; none when it had none.
    pub level: Option<LogLevel>,
    /// As its writer said; none for what was not framed.
    pub at: Option<SystemTime>,
    /// Without the newline that ends it.
    pub message: Bytes,
}

/// Splits the bytes of one pipe.
#[derive(Default)]
pub struct FrameSplitter {
    state: State,
    /// Of the header, or of the message.
    rest: BytesMut,
}

#[derive(Default)]
enum State {
    #[default]
    Header,
    Message {
        level: Option<LogLevel>,
        at: SystemTime,
        /// Bytes that are still to come.
        left: usize,
        /// A part of it has been given out.
        cut: bool,
    },
    /// Something was no header: where the next one begins cannot be known.
    Lines(LineSplitter),
}

impl FrameSplitter {
    /// Every record that `bytes` completes.
    pub fn push(&mut self, mut bytes: &[u8], mut record: impl FnMut(LogRecord)) {
        loop {
            match &mut self.state {
                State::Lines(lines) => return lines.push(bytes, |line| record(unframed(line))),
                State::Header => {
                    let taken = bytes.len().min(HEADER - self.rest.len());
                    self.rest.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if self.rest.len() < HEADER {
                        return;
                    }
                    let header = self.rest.split();
                    self.state = message(&header).unwrap_or_else(|| {
                        let mut lines = LineSplitter::default();
                        lines.push(&header, |line| record(unframed(line)));
                        State::Lines(lines)
                    });
                }
                State::Message { level, at, left, cut } => {
                    let taken = bytes.len().min(*left).min(LINE_MAX + 1 - self.rest.len());
                    self.rest.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    *left -= taken;
                    let (level, at) = (*level, Some(*at));
                    if *left == 0 && (self.rest.len() <= LINE_MAX || self.rest.ends_with(b"\n")) {
                        let message = without_end(self.rest.split().freeze());
                        // The newline after a part that was cut is no part of its own.
                        if !(*cut && message.is_empty()) {
                            record(LogRecord { level, at, message });
                        }
                        self.state = State::Header;
                    } else if self.rest.len() > LINE_MAX {
                        *cut = true;
                        let end = character_end(&self.rest, LINE_MAX);
                        record(LogRecord { level, at, message: self.rest.split_to(end).freeze() });
                    } else {
                        return;
                    }
                }
            }
        }
    }

    /// What is left when no more comes.
    pub fn finish(&mut self, mut record: impl FnMut(LogRecord)) {
        match std::mem::take(&mut self.state) {
            State::Lines(mut lines) => lines.flush(|line| record(unframed(line))),
            State::Message { level, at, .. } if !self.rest.is_empty() => {
                record(LogRecord { level, at: Some(at), message: without_end(self.rest.split().freeze()) });
            }
            State::Header if !self.rest.is_empty() => record(unframed(self.rest.split().freeze())),
            State::Header | State::Message { .. } => {}
        }
    }
}

fn unframed(message: Bytes) -> LogRecord {
    LogRecord { level: None, at: None, message }
}

fn without_end(message: Bytes) -> Bytes {
    match message.split_last() {
        Some((b'\n', text)) => message.slice(..text.len()),
        _ => message,
    }
}

/// The message that a header announces; none when it is no header.
fn message(header: &[u8]) -> Option<State> {
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let (kind, length) = (number(0)?, number(4)?);
    if kind & TYPE_MASK != TYPE {
        return None;
    }
    let level = match (kind >> 2) & 0b111 {
        0 => None,
        1 => Some(LogLevel::Trace),
        2 => Some(LogLevel::Debug),
        3 => Some(LogLevel::Info),
        4 => Some(LogLevel::Warn),
        5 => Some(LogLevel::Error),
        6 => Some(LogLevel::Fatal),
        _ => return None,
    };
    let microseconds = u64::from(number(8)?) << 32 | u64::from(number(12)?);
    let at = UNIX_EPOCH.checked_add(Duration::from_micros(microseconds))?;
    Some(State::Message { level, at, left: usize::try_from(length).ok()?, cut: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u32, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), &1_500_000u64.to_be_bytes(), message].concat()
    }

    fn split(chunks: &[&[u8]]) -> Vec<LogRecord> {
        let (mut splitter, mut found) = (FrameSplitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |record| found.push(record));
        }
        splitter.finish(|record| found.push(record));
        found
    }

    fn record(level: Option<LogLevel>, message: &'static str) -> LogRecord {
        LogRecord { level, at: Some(UNIX_EPOCH + Duration::from_millis(1500)), message: message.into() }
    }

    #[test]
    fn many_lines_stay_one_record_with_level_and_time() {
        let bytes = [frame(0xA55A_0017, b"one\ntwo\n"), frame(0xA55A_0002, b"{}"), frame(0xA55A_0003, b"")].concat();
        let expected = [record(Some(LogLevel::Error), "one\ntwo"), record(None, "{}"), record(None, "")];
        assert_eq!(split(&[&bytes]), expected);
    }

    #[test]
    fn what_is_not_framed_is_lines_from_there_on() {
        let bytes =
            [frame(0xA55A_000F, b"framed"), b"somebody else's text\n".to_vec(), frame(0xA55A_0003, b"x")].concat();
        let found = split(&[&bytes]);
        assert_eq!(found[0], record(Some(LogLevel::Info), "framed"));
        assert_eq!(found[1].message, "somebody else's text");
        assert_eq!((found[1].at, found.len()), (None, 3));
        for kind in [0xA55A_001F, 0xA55A_0001, 0xA55B_0003, 0] {
            assert_eq!(split(&[&frame(kind, b"x")])[0].at, None, "{kind:x}");
        }
    }

    #[test]
    fn a_length_that_is_a_lie_is_believed_only_as_bytes_come() {
        let mut splitter = FrameSplitter::default();
        let mut header = frame(0xA55A_0003, b"");
        header[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut found = Vec::new();
        splitter.push(&header, |record| found.push(record));
        assert!(found.is_empty() && splitter.rest.capacity() < 1024);
        splitter.push(&vec![b'x'; LINE_MAX * 2 + 2], |record| found.push(record));
        assert_eq!(found.iter().map(|record| record.message.len()).collect::<Vec<_>>(), [LINE_MAX; 2]);
        splitter.finish(|record| found.push(record));
        assert_eq!(found[2].message, "xx");
    }

    #[test]
    fn the_longest_record_is_one() {
        let text = vec![b'x'; LINE_MAX];
        assert_eq!(split(&[&frame(0xA55A_0003, &[&text[..], b"\n"].concat())]).len(), 1);
        assert_eq!(split(&[&frame(0xA55A_0003, &[&text[..], b"yy"].concat())]).len(), 2);
    }

    proptest! {
        #[test]
        fn records_do_not_depend_on_how_the_bytes_came(
            messages in prop::collection::vec("[a-z\n]{0,20}", 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(1usize..30, 0..20),
        ) {
            let mut bytes: Vec<u8> = messages.iter().flat_map(|text| frame(0xA55A_000F, text.as_bytes())).collect();
            bytes.extend_from_slice(&noise);
            let (mut chunks, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(split(&chunks), split(&[&bytes]));
        }
    }
}
