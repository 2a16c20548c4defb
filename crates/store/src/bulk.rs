//! Work on many bytes.

use std::io;

/// Copying, hashing, sealing and flushing of blobs, which blocks.
pub async fn bulk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_work_is_done() {
        assert!(bulk(|| panic!("of a test")).await.is_err());
        assert_eq!(bulk(|| 1).await.unwrap(), 1);
    }
}
