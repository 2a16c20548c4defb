//! Durable state: ports for records and blobs, the engines behind them, and the folder that holds both.
//!
//! Knows nothing of functions: records are addressed bytes, blobs are bytes named by their hash.

mod blobs;
mod files;
mod folder;
mod memory;
mod records;
mod sqlite;
#[cfg(test)]
mod suite;

pub use blobs::{Blobs, BlobsError};
pub use files::Files;
pub use folder::{DataDir, FolderError};
pub use memory::{MemoryBlobs, MemoryRecords};
pub use records::{Expect, Key, Record, Records, RecordsError, Write};
pub use sqlite::Sqlite;
