//! Engines around others: what they keep nobody reads without the key (decision 17).

mod blobs;
mod records;

pub use blobs::SealedBlobs;
pub(crate) use records::account;
pub use records::{SealedFeed, SealedRecords};
