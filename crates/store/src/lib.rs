//! Durable state: ports for records, their feed, queues and blobs, the engines behind them, what seals them and what
//! lets servers share them, leases, and the folder that holds what one host keeps to itself.
//!
//! Knows nothing of functions: records are addressed bytes, blobs are bytes under names.

mod blobs;
#[cfg(any(test, feature = "suite"))]
pub mod blobs_suite;
mod bulk;
mod embedded;
mod feed;
mod files;
mod folder;
mod keys;
mod leases;
mod memory;
mod postgres;
pub mod queue;
mod records;
mod sealed;
mod secret;
mod shared;
#[cfg(any(test, feature = "suite"))]
pub mod simulation;
mod sqlite;
#[cfg(test)]
mod suite;

pub use blobs::{BlobId, Blobs, BlobsError, Draft, Naming};
pub use bulk::bulk;
pub use feed::{Change, Feed, Follower};
pub use files::Files;
pub use folder::{DataDir, FolderError};
pub use keys::{KeyError, Keyring, MasterKey, turn_over, turn_over_file};
pub use leases::{Lease, Leases};
pub use memory::{MemoryBlobs, MemoryRecords};
pub use postgres::{Company, Postgres, PostgresUrl};
pub use queue::{MemoryQueue, Queue, QueueError, SealedQueue, SqliteQueue};
pub use records::{Expect, Key, Record, Records, RecordsError, Write, every};
pub use sealed::{SealedBlobs, SealedFeed, SealedRecords};
pub use secret::shared_secret;
pub use shared::{Inventory, SharedBlobs};
pub use sqlite::Sqlite;
