//! How far a fetch has come, for who watches it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. Bytes are packed ones.
#[derive(Debug, Default)]
pub struct Progress {
    pub bytes: AtomicU64,
    pub bytes_total: AtomicU64,
    pub parts: AtomicU64,
    pub parts_total: AtomicU64,
}

impl Progress {
    pub fn begin(&self, parts: u64, bytes: u64) {
        self.parts_total.store(parts, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn part_is_there(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }
}
