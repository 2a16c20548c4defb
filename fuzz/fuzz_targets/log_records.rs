//! Any bytes from the pipes of a process: however they come, they are the same lines and records, none too long, and no
//! byte is lost or made up.
#![no_main]

use hearth_observe::{FrameSplitter, LINE_MAX, LineSplitter, LogRecord};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u16>, u8, Vec<u8>)| {
    let (cuts, long, mut bytes) = input;
    // Beyond the longest record, which no mutation gets to by itself; seldom, because it takes long.
    if long == 7 {
        let filler = *bytes.last().unwrap_or(&b'x');
        bytes.resize(bytes.len() + LINE_MAX, filler);
    }
    let mut pieces = Vec::new();
    let mut rest = &bytes[..];
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let whole = lines(&[&bytes]);
    assert!(whole.iter().all(|line| line.len() <= LINE_MAX));
    assert_eq!(lines(&pieces), whole);
    let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(whole.iter().map(bytes::Bytes::len).sum::<usize>() + newlines, bytes.len());
    let whole = records(&[&bytes]);
    assert!(whole.iter().all(|record| record.message.len() <= LINE_MAX));
    assert_eq!(records(&pieces), whole);
});

fn lines(pieces: &[&[u8]]) -> Vec<bytes::Bytes> {
    let (mut splitter, mut found) = (LineSplitter::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece, |line| found.push(line));
    }
    splitter.flush(|line| found.push(line));
    found
}

fn records(pieces: &[&[u8]]) -> Vec<LogRecord> {
    let (mut splitter, mut found) = (FrameSplitter::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece, |record| found.push(record));
    }
    splitter.finish(|record| found.push(record));
    found
}
