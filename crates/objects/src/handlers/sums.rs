//! Checksums in the shapes of requests and answers.

use s3s::dto::ChecksumAlgorithm;

use crate::checksum::Algorithm;

/// The checksum that a request gives, or asks for.
pub struct Sums(pub Option<(Algorithm, Option<String>)>);

impl Sums {
    pub fn of(given: [(Algorithm, Option<&String>); 5], asked: Option<&ChecksumAlgorithm>) -> Self {
        let value = given.into_iter().find_map(|(algorithm, value)| Some((algorithm, Some(value?.clone()))));
        Sums(value.or_else(|| Some((Algorithm::parse(asked?.as_str())?, None))))
    }
}

/// The checksum that a shape of a request has.
macro_rules! given_checksums {
    ($input:expr) => {
        [
            ($crate::checksum::Algorithm::Crc32, $input.checksum_crc32.as_ref()),
            ($crate::checksum::Algorithm::Crc32c, $input.checksum_crc32c.as_ref()),
            ($crate::checksum::Algorithm::Crc64Nvme, $input.checksum_crc64nvme.as_ref()),
            ($crate::checksum::Algorithm::Sha1, $input.checksum_sha1.as_ref()),
            ($crate::checksum::Algorithm::Sha256, $input.checksum_sha256.as_ref()),
        ]
    };
}
pub(super) use given_checksums;

/// Sets the member of a checksum in one of the many shapes that have it; `typed` also what it is over.
macro_rules! with_checksum {
    (typed $shape:expr, $checksum:expr) => {{
        let checksum: &$crate::checksum::Checksum = $checksum;
        let mut shape = with_checksum!($shape, checksum);
        let kind = if checksum.whole { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE };
        shape.checksum_type = Some(ChecksumType::from_static(kind));
        shape
    }};
    ($shape:expr, $checksum:expr) => {{
        let checksum: &$crate::checksum::Checksum = $checksum;
        let mut shape = $shape;
        let member = match checksum.algorithm {
            $crate::checksum::Algorithm::Crc32 => &mut shape.checksum_crc32,
            $crate::checksum::Algorithm::Crc32c => &mut shape.checksum_crc32c,
            $crate::checksum::Algorithm::Crc64Nvme => &mut shape.checksum_crc64nvme,
            $crate::checksum::Algorithm::Sha1 => &mut shape.checksum_sha1,
            $crate::checksum::Algorithm::Sha256 => &mut shape.checksum_sha256,
        };
        *member = Some(checksum.value.clone());
        shape
    }};
}
pub(super) use with_checksum;
