//! Several parts of one thing, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does the work for every part, in threads of its own, and answers what came of each, in order. After a failure nothing
/// more is begun; it is what is answered.
pub fn each<P: Sync, T: Send, E: Send>(
    parts: &[P],
    at_once: usize,
    work: impl Fn(&P) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, failure, done) = (AtomicUsize::new(0), Mutex::new(None), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(parts.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(part) = parts.get(at) else { break };
                    match work(part) {
                        Ok(made) => done.lock().unwrap_or_else(PoisonError::into_inner).push((at, made)),
                        Err(error) => {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            next.store(parts.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_each_part_is_in_their_order() {
        let parts: Vec<u32> = (0..50).collect();
        let doubled = each(&parts, 4, |part| Ok::<_, ()>(part * 2));
        assert_eq!(doubled, Ok(parts.iter().map(|part| part * 2).collect()));
        assert_eq!(each(&[] as &[u32], 4, |_| Err::<(), ()>(())), Ok(Vec::new()));
    }

    #[test]
    fn after_a_failure_nothing_more_is_begun() {
        let begun = AtomicUsize::new(0);
        let failed = each(&[0; 100], 1, |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>("why")
        });
        assert_eq!((failed, begun.into_inner()), (Err("why"), 1));
    }
}
