//! Work on many bytes: what it takes of the CPU and of the disk is taken after calls of functions.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Threads at most; what comes beyond them waits.
const THREADS: usize = 16;
/// As in the processes that read packages: a thread beside one of the server's that has much to do gets a tenth of its CPU.
const NICE: i32 = 10;

/// Copying, hashing, sealing and flushing of blobs, which blocks. It runs in threads of its own, since a thread without
/// privileges that has stepped back cannot come forward again. What runs there waits for nothing else that does.
pub async fn bulk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static THREADS_APART: OnceLock<Runtime> = OnceLock::new();
    let runtime = match THREADS_APART.get() {
        Some(runtime) => runtime,
        None => {
            let made = Builder::new_current_thread()
                .max_blocking_threads(THREADS)
                .thread_name("hearth-bulk")
                .on_thread_start(step_back)
                .build()?;
            // Of two that came first together, one is kept; the other has no threads yet.
            THREADS_APART.set(made).unwrap_or_else(Runtime::shutdown_background);
            match THREADS_APART.get() {
                Some(runtime) => runtime,
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
    };
    runtime.spawn_blocking(work).await.map_err(io::Error::other)
}

fn step_back() {
    // Of this thread alone. Where a host forbids it, the work is done all the same.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "threads for work on many bytes compete with calls");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_come_first() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let ours = nice();
        assert_eq!(bulk(nice).await.unwrap(), (ours + NICE).min(19));
        assert_eq!(nice(), ours);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_work_is_done() {
        assert!(bulk(|| panic!("of a test")).await.is_err());
        assert_eq!(bulk(|| 1).await.unwrap(), 1);
    }
}
