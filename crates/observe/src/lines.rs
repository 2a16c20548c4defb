//! Bytes of a pipe to lines.

use bytes::{Bytes, BytesMut};

/// Longest line, bytes; a longer one is split (spec 3.4).
pub const LINE_MAX: usize = 256 * 1024;

/// Splits at newlines. A line may hold `\r`; the newline is not part of it.
#[derive(Default)]
pub struct LineSplitter {
    rest: BytesMut,
}

impl LineSplitter {
    /// Every line that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Bytes)) {
        let mut from = 0;
        for at in memchr(bytes) {
            self.rest.extend_from_slice(&bytes[from..at]);
            from = at + 1;
            self.emit(&mut line, true);
        }
        self.rest.extend_from_slice(&bytes[from..]);
        self.emit(&mut line, false);
    }

    /// What is left when no more comes, or when a reader waits for all that was written.
    pub fn flush(&mut self, mut line: impl FnMut(Bytes)) {
        if !self.rest.is_empty() {
            self.emit(&mut line, true);
        }
    }

    fn emit(&mut self, line: &mut impl FnMut(Bytes), whole: bool) {
        while self.rest.len() > LINE_MAX {
            line(self.rest.split_to(LINE_MAX).freeze());
        }
        if whole {
            line(self.rest.split().freeze());
        }
    }
}

fn memchr(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut splitter = LineSplitter::default();
        let mut found = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| found.push(line));
        }
        splitter.flush(|line| found.push(line));
        found
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_came() {
        assert_eq!(lines(&[b"a\nb", b"c\n\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&[b"a\rb\n"]), ["a\rb"]);
    }

    #[test]
    fn a_line_without_end_is_split_at_the_limit() {
        let found = lines(&[&vec![b'x'; LINE_MAX * 2 + 1]]);
        assert_eq!(found.iter().map(Bytes::len).collect::<Vec<_>>(), [LINE_MAX, LINE_MAX, 1]);
    }
}
