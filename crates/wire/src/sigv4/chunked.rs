//! `aws-chunked`: bodies that come in chunks, each with its length and perhaps a signature, and that end with headers.
//!
//! ```text
//! 10000;chunk-signature=…     a hexadecimal length
//! BYTES
//! 0;chunk-signature=…
//! x-amz-checksum-crc32:…      trailing headers
//! x-amz-trailer-signature:…   of these
//!
//! ```
//!
//! The bytes of a signed chunk are given on as they come, and its signature is checked at its end: a body is good only
//! once [`Chunks::end`] has said so.

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use super::{ChunkSigning, bytes};

/// Longest line, and all trailing headers together, bytes.
const LINE_MAX: usize = 1024;
const TRAILERS_MAX: usize = 16 * 1024;
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("the body is not in aws-chunked")]
    Malformed,
    #[error("the body ended early")]
    Incomplete,
    #[error("a chunk is not signed as it must be")]
    Signature,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A chunk's length.
    Length,
    Bytes(u64),
    /// The end of the line after a chunk.
    End,
    Trailer,
    Nothing,
}

/// Signatures of chunks, where they must have them.
struct Signed {
    signing: ChunkSigning,
    /// Of the chunk that is being read.
    hash: Sha256,
    signature: [u8; 32],
    /// Lines `name:value` of what follows the body.
    trailers: Sha256,
    /// Headers follow the body, and are signed.
    has_trailer: bool,
    is_trailer_good: bool,
}

/// Takes the content out of such a body.
pub struct Chunks {
    line: Vec<u8>,
    expected: Expected,
    /// Bytes that are still to come, as the request announced them.
    left: u64,
    signed: Option<Signed>,
    trailers: Vec<(String, String)>,
    trailers_size: usize,
}

impl Chunks {
    /// `length` is that of the content. Chunks must be signed where there is `signing`.
    pub fn new(length: u64, signing: Option<ChunkSigning>, has_trailer: bool) -> Self {
        let signed = signing.map(|signing| Signed {
            signing,
            hash: Sha256::new(),
            signature: [0; 32],
            trailers: Sha256::new(),
            has_trailer,
            is_trailer_good: false,
        });
        Chunks {
            line: Vec::new(),
            expected: Expected::Length,
            left: length,
            signed,
            trailers: Vec::new(),
            trailers_size: 0,
        }
    }

    /// Bytes of the content that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Headers after the body, once it was read to its end. Names are in lower case.
    pub fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// The next bytes of the content in a piece; `None` when another piece is needed, or nothing more.
    pub fn next(&mut self, piece: &mut Bytes) -> Result<Option<Bytes>, ChunkError> {
        while !piece.is_empty() {
            match self.expected {
                Expected::Length => {
                    let Some(line) = self.line(piece)? else { break };
                    self.begin(&line)?;
                }
                Expected::Bytes(length) => {
                    let taken = usize::try_from(length).unwrap_or(usize::MAX).min(piece.len());
                    let content = piece.split_to(taken);
                    if let Some(signed) = &mut self.signed {
                        signed.hash.update(&content);
                    }
                    self.left -= taken as u64;
                    let rest = length - taken as u64;
                    self.expected = if rest == 0 { Expected::End } else { Expected::Bytes(rest) };
                    if rest == 0 {
                        self.chunk_is_good()?;
                    }
                    return Ok(Some(content));
                }
                Expected::End => match self.line(piece)? {
                    None => break,
                    Some(line) if line.is_empty() => self.expected = Expected::Length,
                    Some(_) => return Err(ChunkError::Malformed),
                },
                Expected::Trailer => {
                    let Some(line) = self.line(piece)? else { break };
                    self.trailer(&line)?;
                }
                // Some clients end with one line more.
                Expected::Nothing => piece.clear(),
            }
        }
        Ok(None)
    }

    /// Whether the body may end here.
    pub fn end(&self) -> Result<(), ChunkError> {
        // The last empty line is not always sent.
        let is_whole = matches!(self.expected, Expected::Trailer | Expected::Nothing) && self.line.is_empty();
        if !is_whole || self.left != 0 {
            return Err(ChunkError::Incomplete);
        }
        match &self.signed {
            Some(signed) if signed.has_trailer && !signed.is_trailer_good => Err(ChunkError::Signature),
            _ => Ok(()),
        }
    }

    /// A chunk's first line.
    fn begin(&mut self, line: &str) -> Result<(), ChunkError> {
        let (digits, extension) = line.split_once(';').unwrap_or((line, ""));
        let length = u64::from_str_radix(digits.trim(), 16).map_err(|_| ChunkError::Malformed)?;
        if length > self.left {
            return Err(ChunkError::Malformed);
        }
        if let Some(signed) = &mut self.signed {
            let signature = extension.trim().strip_prefix("chunk-signature=").ok_or(ChunkError::Signature)?;
            signed.signature = bytes(signature).map_err(|_| ChunkError::Signature)?;
        }
        self.expected = if length == 0 { Expected::Trailer } else { Expected::Bytes(length) };
        if length == 0 { self.chunk_is_good() } else { Ok(()) }
    }

    fn chunk_is_good(&mut self) -> Result<(), ChunkError> {
        let Some(signed) = &mut self.signed else { return Ok(()) };
        let hash = signed.hash.finalize_reset();
        if signed.signing.chunk(&hash, signed.signature) { Ok(()) } else { Err(ChunkError::Signature) }
    }

    fn trailer(&mut self, line: &str) -> Result<(), ChunkError> {
        self.trailers_size += line.len();
        if self.trailers_size > TRAILERS_MAX {
            return Err(ChunkError::Malformed);
        }
        if line.is_empty() {
            self.expected = Expected::Nothing;
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or(ChunkError::Malformed)?;
        let (name, value) = (blank_free(name).to_ascii_lowercase(), blank_free(value).to_owned());
        match &mut self.signed {
            Some(signed) if name == TRAILER_SIGNATURE => {
                let signature = bytes(&value).map_err(|_| ChunkError::Signature)?;
                let hash = signed.trailers.finalize_reset();
                signed.is_trailer_good = signed.signing.trailer(&hash, signature);
                return if signed.is_trailer_good { Ok(()) } else { Err(ChunkError::Signature) };
            }
            Some(signed) if signed.is_trailer_good || !signed.has_trailer => return Err(ChunkError::Signature),
            Some(signed) => signed.trailers.update(format!("{name}:{value}\n")),
            None => {}
        }
        self.trailers.push((name, value));
        Ok(())
    }

    /// Takes a line out of the piece; `None` while it goes on.
    fn line(&mut self, piece: &mut Bytes) -> Result<Option<String>, ChunkError> {
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(piece.len(), |end| end + 1);
        if self.line.len() + taken > LINE_MAX {
            return Err(ChunkError::Malformed);
        }
        self.line.extend_from_slice(&piece[..taken]);
        piece.advance(taken);
        if end.is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r\n").ok_or(ChunkError::Malformed)?;
        String::from_utf8(line.to_vec()).map(Some).map_err(|_| ChunkError::Malformed)
    }
}

/// Without the white space that may stand around parts of a header.
fn blank_free(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
