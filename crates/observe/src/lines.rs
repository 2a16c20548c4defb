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
        for at in memchr::memchr_iter(b'\n', bytes) {
            self.rest.extend_from_slice(&bytes[from..at]);
            from = at + 1;
            self.cut(&mut line);
            line(self.rest.split().freeze());
        }
        self.rest.extend_from_slice(&bytes[from..]);
        self.cut(&mut line);
    }

    /// What is left when no more comes, or when a reader waits for all that was written.
    pub fn flush(&mut self, mut line: impl FnMut(Bytes)) {
        if !self.rest.is_empty() {
            line(self.rest.split().freeze());
        }
    }

    fn cut(&mut self, line: &mut impl FnMut(Bytes)) {
        while self.rest.len() > LINE_MAX {
            let at = character_end(&self.rest, LINE_MAX);
            line(self.rest.split_to(at).freeze());
        }
    }
}

/// `at`, or up to three bytes before it, so that no UTF-8 character is cut in two.
pub(crate) fn character_end(bytes: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    (at - 3..=at).rev().find(is_start).unwrap_or(at)
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

    #[test]
    fn a_split_line_keeps_its_characters_whole() {
        for before in 0..4 {
            let text = format!("{}{}", "x".repeat(before), "\u{1f525}".repeat(LINE_MAX / 4 + 8));
            let found = lines(&[text.as_bytes()]);
            assert!(found.len() == 2 && found.iter().all(|line| std::str::from_utf8(line).is_ok()));
            assert_eq!(found.concat(), text.as_bytes());
        }
        let noise = vec![0b1000_0000; LINE_MAX + 1];
        assert_eq!(lines(&[&noise]).len(), 2, "what is not UTF-8 is split all the same");
    }
}
