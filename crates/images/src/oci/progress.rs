//! How far a fetch has come, for who watches it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. Bytes are packed ones.
#[derive(Debug, Default)]
pub struct Progress {
    pub bytes: AtomicU64,
    pub bytes_total: AtomicU64,
    pub layers: AtomicU64,
    pub layers_total: AtomicU64,
}

impl Progress {
    pub fn begin(&self, layers: u64, bytes: u64) {
        self.layers_total.store(layers, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn layer_is_there(&self) {
        self.layers.fetch_add(1, Ordering::Relaxed);
    }
}
