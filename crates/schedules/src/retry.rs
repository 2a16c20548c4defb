//! When a target that failed is tried again, and when that is over. Decisions only.
//!
//! Every failure is tried again, as AWS does it, until there were as many as the policy allows or the next one would come
//! too late. AWS tells no times; these make 185 tries in a day, which are its limits.

use hearth_store::queue::Ms;

const WAIT_FIRST: Ms = 1_000;
const WAIT_MAX: Ms = 480_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub retries: u32,
    /// Counted from when it fired.
    pub age_max: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Again(Ms),
    Over(Condition),
}

/// As AWS's `EXHAUSTED_RETRY_CONDITION` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Attempts,
    Age,
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Attempts => "MaximumRetryAttempts",
            Condition::Age => "MaximumEventAgeInSeconds",
        }
    }
}

/// What follows the last of so many failures.
pub fn next(policy: Policy, fired: Ms, failures: u32, now: Ms) -> Next {
    if failures > policy.retries {
        return Next::Over(Condition::Attempts);
    }
    let wait = WAIT_FIRST << failures.saturating_sub(1).min(16);
    let again = now.saturating_add(wait.min(WAIT_MAX));
    if again > fired.saturating_add(policy.age_max) { Next::Over(Condition::Age) } else { Next::Again(again) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When a target that always fails is tried, and why it ends.
    fn history(policy: Policy, took: Ms) -> (Vec<Ms>, Condition) {
        let (mut now, mut tries) = (0, Vec::new());
        loop {
            tries.push(now);
            match next(policy, 0, u32::try_from(tries.len()).unwrap(), now + took) {
                Next::Again(at) => now = at,
                Next::Over(condition) => return (tries, condition),
            }
        }
    }

    #[test]
    fn the_greatest_policy_lasts_a_day() {
        let (tries, condition) = history(Policy { retries: 185, age_max: 86_400_000 }, 0);
        assert_eq!((tries.len(), condition), (186, Condition::Attempts));
        assert!(*tries.last().unwrap() > 84_000_000);
    }

    #[test]
    fn without_retries_there_is_one_try() {
        assert_eq!(history(Policy { retries: 0, age_max: 86_400_000 }, 5), (vec![0], Condition::Attempts));
        let (tries, condition) = history(Policy { retries: 185, age_max: 60_000 }, 0);
        assert_eq!((tries, condition), (vec![0, 1000, 3000, 7000, 15_000, 31_000], Condition::Age));
    }

    proptest! {
        #[test]
        fn no_policy_is_exceeded(retries in 0..185u32, age_max in 60_000..86_400_000u64, took in 0..30_000u64) {
            let (tries, condition) = history(Policy { retries, age_max }, took);
            prop_assert!(tries.len() as u32 <= retries + 1 && *tries.last().unwrap() <= age_max);
            prop_assert_eq!(condition == Condition::Attempts, tries.len() as u32 == retries + 1);
            prop_assert!(tries.windows(2).all(|pair| pair[1] - pair[0] >= WAIT_FIRST + took && pair[1] - pair[0] <= WAIT_MAX + took));
        }
    }
}
