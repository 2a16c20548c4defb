//! Checksums of S3: five algorithms, over a whole object or over its parts' checksums.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use serde::{Deserialize, Serialize};
use sha1::Digest;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// `x-amz-checksum-crc32`.
    pub fn header(self) -> String {
        format!("x-amz-checksum-{}", self.name().to_ascii_lowercase())
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// Whether the checksum of a whole follows from those of its parts.
    pub fn combines(self) -> bool {
        self.crc().is_some()
    }

    fn length(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }
}

/// A checksum as it is stored and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: Algorithm,
    /// Base64; of parts with `-N`.
    pub value: String,
    /// Over the whole object, not over the checksums of its parts.
    pub whole: bool,
}

/// Whether a text can be a value of the algorithm.
pub fn is_value(algorithm: Algorithm, text: &str) -> bool {
    BASE64_STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == algorithm.length())
}

/// Computes one checksum.
pub enum Hasher {
    Crc(Algorithm, Box<crc_fast::Digest>),
    Sha1(Box<sha1::Sha1>),
    Sha256(Box<sha2::Sha256>),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        match (algorithm, algorithm.crc()) {
            (_, Some(crc)) => Hasher::Crc(algorithm, Box::new(crc_fast::Digest::new(crc))),
            (Algorithm::Sha1, None) => Hasher::Sha1(Box::default()),
            (_, None) => Hasher::Sha256(Box::default()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Crc(_, digest) => digest.update(bytes),
            Hasher::Sha1(digest) => digest.update(bytes),
            Hasher::Sha256(digest) => digest.update(bytes),
        }
    }

    pub fn finish(self) -> Checksum {
        let (algorithm, value) = match self {
            Hasher::Crc(algorithm, digest) => (algorithm, encode_crc(algorithm, digest.finalize())),
            Hasher::Sha1(digest) => (Algorithm::Sha1, BASE64_STANDARD.encode(digest.finalize())),
            Hasher::Sha256(digest) => (Algorithm::Sha256, BASE64_STANDARD.encode(digest.finalize())),
        };
        Checksum { algorithm, value, whole: true }
    }
}

fn encode_crc(algorithm: Algorithm, value: u64) -> String {
    let bytes = value.to_be_bytes();
    BASE64_STANDARD.encode(&bytes[8 - algorithm.length()..])
}

fn decode_crc(value: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(value).ok()?;
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Of an object from its parts, given with their sizes; `whole` over all its bytes. `None` where the parts have not all
/// this checksum.
pub fn of_parts<'a>(
    algorithm: Algorithm,
    whole: bool,
    parts: impl Iterator<Item = (&'a Checksum, u64)>,
) -> Option<Checksum> {
    let crc = algorithm.crc().filter(|_| whole);
    let mut combined: Option<u64> = None;
    let mut over_parts = Hasher::new(algorithm);
    let mut count = 0;
    for (part, size) in parts {
        if part.algorithm != algorithm {
            return None;
        }
        count += 1;
        match crc {
            Some(crc) => {
                let value = decode_crc(&part.value)?;
                combined = Some(combined.map_or(value, |sum| crc_fast::checksum_combine(crc, sum, value, size)));
            }
            None => over_parts.update(&BASE64_STANDARD.decode(&part.value).ok()?),
        }
    }
    if crc.is_some() {
        return Some(Checksum { algorithm, value: encode_crc(algorithm, combined?), whole: true });
    }
    let value = format!("{}-{count}", over_parts.finish().value);
    Some(Checksum { algorithm, value, whole: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn values_are_those_that_are_published() {
        // Check values of the catalogues: of `123456789`.
        let value = |algorithm| of(algorithm, b"123456789").value;
        assert_eq!(value(Algorithm::Crc32), "y/Q5Jg==");
        assert_eq!(value(Algorithm::Crc32c), "4waSgw==");
        assert_eq!(value(Algorithm::Crc64Nvme), "rosUhgp5mIg=");
        assert_eq!(value(Algorithm::Sha1), "98O8HYCOBHMq32eZZczDTKeuNEE=");
        assert_eq!(value(Algorithm::Sha256), "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
    }

    proptest! {
        #[test]
        fn the_checksum_of_a_whole_follows_from_its_parts(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6)) {
            for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.combines()) {
                let sums: Vec<_> = parts.iter().map(|part| (of(algorithm, part), part.len() as u64)).collect();
                let joined = of_parts(algorithm, true, sums.iter().map(|(sum, size)| (sum, *size)));
                prop_assert_eq!(joined, Some(of(algorithm, &parts.concat())));
            }
        }
    }
}
