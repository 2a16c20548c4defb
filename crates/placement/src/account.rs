//! An account's concurrency in one region: a counter with a limit, and the permits taken from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Calls of one account that are running or waiting.
#[derive(Debug, Default)]
pub struct Account {
    running: AtomicU32,
}

/// One running call. Dropping it gives the share back.
#[derive(Debug)]
pub struct Permit {
    account: Arc<Account>,
}

impl Account {
    /// A permit, while fewer than `limit` are out.
    pub fn admit(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| (running < limit).then_some(running + 1))
            .ok()?;
        Some(Permit { account: self.clone() })
    }

    #[cfg(test)]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_end_at_the_limit_and_come_back_when_dropped() {
        let account = Arc::new(Account::default());
        let first = account.admit(2);
        let second = account.admit(2);
        assert!(first.is_some() && second.is_some() && account.admit(2).is_none());
        drop(first);
        assert!(account.admit(2).is_some());
        assert_eq!(account.running(), 1);
    }
}
