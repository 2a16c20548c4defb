//! Durable state: ports for records, queues and blobs, the engines behind them, what seals them, and the folder that holds all.
//!
//! Knows nothing of functions: records are addressed bytes, blobs are bytes under names.

mod blobs;
mod embedded;
mod files;
mod folder;
mod keys;
mod memory;
pub mod queue;
mod records;
mod sealed;
mod sqlite;
#[cfg(test)]
mod suite;

pub use blobs::{BlobId, Blobs, BlobsError, Draft, Naming};
pub use files::Files;
pub use folder::{DataDir, FolderError};
pub use keys::{KeyError, Keyring, MasterKey, turn_over, turn_over_file};
pub use memory::{MemoryBlobs, MemoryRecords};
pub use queue::{MemoryQueue, Queue, QueueError, SealedQueue, SqliteQueue};
pub use records::{Expect, Key, Record, Records, RecordsError, Write};
pub use sealed::{SealedBlobs, SealedRecords};
pub use sqlite::Sqlite;
