//! Concurrency permits: counters with limits, of an account in one region and of each of its functions.
//!
//! A function with a reservation may have that many calls at once, and no more; the others share what is left of the
//! account when every reservation is set aside, whether it is used or not (spec 8.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hearth_model::{FunctionVersion, InUse, LastUsed, Reservation, ThrottleReason};

/// Calls that are running or waiting.
#[derive(Debug, Default)]
pub struct Counter(AtomicU32);

impl Counter {
    /// One more, while there are fewer than `limit`.
    fn take(self: &Arc<Self>, limit: u32) -> Option<Share> {
        let more = |count| (count < limit).then_some(count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Share(self.clone()))
    }

    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// One of what a counter counts, until it is dropped.
#[derive(Debug)]
struct Share(Arc<Counter>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Of one account in one region.
#[derive(Debug, Default)]
pub struct Account {
    /// Calls of every function.
    all: Arc<Counter>,
    /// Calls that were admitted without a reservation.
    unreserved: Arc<Counter>,
}

/// One running call. Dropping it gives every share back.
#[derive(Debug)]
pub struct Permit {
    _shares: Option<(Share, Option<Share>, Share)>,
    /// A version that is called does not become inactive, however long the call takes.
    _in_use: Option<InUse>,
}

impl Permit {
    /// For an environment that is provisioned: its share is set aside, whether it is used or not.
    pub fn provisioned() -> Self {
        Permit { _shares: None, _in_use: None }
    }

    /// For a call of this version.
    pub fn of(self, function: &FunctionVersion) -> Self {
        Permit { _in_use: function.last_used.as_ref().map(LastUsed::begin), ..self }
    }
}

impl Account {
    /// A permit, as far as the function's reservation and `limit`, the account's, allow it.
    pub fn admit(
        &self,
        function: &Arc<Counter>,
        reservation: Reservation,
        limit: u32,
    ) -> Result<Permit, ThrottleReason> {
        let account_full = ThrottleReason::ConcurrentInvocationLimitExceeded;
        // The narrowest gate first, so that who fails there holds nothing of the wider ones meanwhile.
        let of_function = function
            .take(reservation.function.unwrap_or(u32::MAX))
            .ok_or(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded)?;
        let of_unreserved = match reservation.function {
            Some(_) => None,
            None => Some(self.unreserved.take(limit.saturating_sub(reservation.account)).ok_or(account_full)?),
        };
        let of_account = self.all.take(limit).ok_or(account_full)?;
        Ok(Permit { _shares: Some((of_function, of_unreserved, of_account)), _in_use: None })
    }

    /// Calls of functions without a reservation.
    pub fn unreserved(&self) -> u32 {
        self.unreserved.count()
    }

    #[cfg(test)]
    pub fn running(&self) -> u32 {
        self.all.count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Reservation = Reservation { function: None, account: 0 };

    #[test]
    fn permits_end_at_the_limit_and_come_back_when_dropped() {
        let (account, function) = (Account::default(), Arc::new(Counter::default()));
        let first = account.admit(&function, NONE, 2);
        let second = account.admit(&function, NONE, 2);
        assert!(first.is_ok() && second.is_ok());
        let refused = account.admit(&function, NONE, 2).unwrap_err();
        assert_eq!(refused, ThrottleReason::ConcurrentInvocationLimitExceeded);
        drop(first);
        assert!(account.admit(&function, NONE, 2).is_ok());
        assert_eq!((account.running(), function.count()), (1, 1));
    }

    #[test]
    fn a_reservation_is_a_cap_and_a_guarantee() {
        let (account, reserved, other) = (Account::default(), Arc::default(), Arc::default());
        let of_reserved = Reservation { function: Some(3), account: 3 };
        let of_other = Reservation { function: None, account: 3 };
        let others: Vec<Permit> = (0..7).map(|_| account.admit(&other, of_other, 10).unwrap()).collect();
        let refused = account.admit(&other, of_other, 10).unwrap_err();
        assert_eq!(refused, ThrottleReason::ConcurrentInvocationLimitExceeded);
        let mine: Vec<Permit> = (0..3).map(|_| account.admit(&reserved, of_reserved, 10).unwrap()).collect();
        let refused = account.admit(&reserved, of_reserved, 10).unwrap_err();
        assert_eq!(refused, ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
        drop((others, mine));
        assert_eq!(account.running(), 0);
    }

    #[test]
    fn a_reservation_of_none_stops_the_function() {
        let stopped = Reservation { function: Some(0), account: 0 };
        let refused = Account::default().admit(&Arc::default(), stopped, 10).unwrap_err();
        assert_eq!(refused, ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
    }

    proptest! {
        #[test]
        fn no_limit_is_ever_passed_and_nothing_is_lost(
            steps in prop::collection::vec((any::<bool>(), 0..3usize, 0..8usize), 0..80),
            reserved in prop::option::of(0..4u32),
        ) {
            const LIMIT: u32 = 8;
            let (account, functions) = (Account::default(), [(); 3].map(|()| Arc::new(Counter::default())));
            let set_aside = reserved.unwrap_or(0);
            let mut held: Vec<(usize, Permit)> = Vec::new();
            for (arrives, which, leaves) in steps {
                if !arrives && !held.is_empty() {
                    held.swap_remove(leaves % held.len());
                    continue;
                }
                let own = reserved.filter(|_| which == 0);
                let admitted = account.admit(&functions[which], Reservation { function: own, account: set_aside }, LIMIT);
                let of = |which: usize| held.iter().filter(|(other, _)| *other == which).count() as u32;
                let is_reserved = |which: usize| which == 0 && reserved.is_some();
                let unreserved: u32 = (0..3).filter(|which| !is_reserved(*which)).map(of).sum();
                let fits = if is_reserved(which) { of(0) < set_aside } else { unreserved < LIMIT - set_aside };
                prop_assert_eq!(admitted.is_ok(), fits);
                held.extend(admitted.ok().map(|permit| (which, permit)));
                prop_assert_eq!(account.running() as usize, held.len());
            }
            held.clear();
            prop_assert_eq!(account.running(), 0);
            prop_assert!(functions.iter().all(|function| function.count() == 0));
        }
    }
}
