//! Durable state: ports for records and blobs, and the engines behind them.

mod blobs;
mod records;

pub use blobs::{Blobs, BlobsError};
pub use records::{Expect, Key, Record, Records, RecordsError, Write};
