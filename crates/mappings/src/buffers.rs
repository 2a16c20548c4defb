//! Memory for records of streams: one budget for every shard that this server reads, in equal shares. A shard that cannot go on
//! keeps its share, and no more, so it takes nothing from others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of all shards together, bytes. Whatever its share is, a shard may hold one record.
const ALL_MAX: usize = 64 * 1024 * 1024;
/// Of one shard, bytes. A batch of the largest fits.
const SHARE_MAX: usize = 8 * 1024 * 1024;
/// Answers of streams that are read at one time: each is of 10 MB, and in base64 and taken apart of several times that.
const POLLS_MAX: usize = 4;

pub struct Buffers {
    shards: AtomicUsize,
    polls: Arc<Semaphore>,
}

impl Buffers {
    pub fn new() -> Arc<Self> {
        Arc::new(Buffers { shards: AtomicUsize::new(0), polls: Arc::new(Semaphore::new(POLLS_MAX)) })
    }

    /// One more shard is read.
    pub fn enter(self: &Arc<Self>) -> Share {
        self.shards.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }
}

/// A shard's. Dropped when it is read no more.
pub struct Share(Arc<Buffers>);

impl Share {
    /// What it may hold now.
    pub fn bytes(&self) -> usize {
        (ALL_MAX / self.0.shards.load(Ordering::Relaxed).max(1)).min(SHARE_MAX)
    }

    /// Its turn to read, first come, first served. Held until what was read is in the share, or dropped.
    pub fn poll(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<> {
        let polls = self.0.polls.clone();
        async move { polls.acquire_owned().await.ok() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.shards.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_never_more_than_there_is() {
        let buffers = Buffers::new();
        let mut shares = vec![buffers.enter()];
        assert_eq!(shares[0].bytes(), SHARE_MAX);
        while shares.len() < 1_000 {
            shares.push(buffers.enter());
            let all: usize = shares.iter().map(Share::bytes).sum();
            assert!(all <= ALL_MAX && shares.iter().all(|share| share.bytes() == shares[0].bytes()));
        }
        shares.truncate(1);
        assert_eq!(shares[0].bytes(), SHARE_MAX);
    }
}
