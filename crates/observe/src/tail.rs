//! The end of one invocation's log, for `X-Amz-Log-Result` (spec 2.1).

use bytes::Bytes;

/// Bytes that are kept: the last of START to REPORT.
pub const TAIL_MAX: usize = 4096;

#[derive(Default)]
pub struct LogTail {
    bytes: Vec<u8>,
}

impl LogTail {
    /// Adds a line and its newline.
    pub fn push(&mut self, line: &[u8]) {
        let keep = &line[line.len().saturating_sub(TAIL_MAX)..];
        self.bytes.extend_from_slice(keep);
        self.bytes.push(b'\n');
        if self.bytes.len() > 4 * TAIL_MAX {
            self.cut();
        }
    }

    pub fn finish(mut self) -> Bytes {
        self.cut();
        self.bytes.into()
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(TAIL_MAX);
        self.bytes.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_4096_bytes_are_kept() {
        let mut tail = LogTail::default();
        for i in 0..10_000 {
            tail.push(format!("{i:07}").as_bytes());
        }
        let kept = tail.finish();
        assert_eq!(kept.len(), TAIL_MAX);
        assert!(kept.ends_with(b"0009998\n0009999\n"));
    }
}
