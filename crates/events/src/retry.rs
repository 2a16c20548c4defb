//! What follows an attempt (spec 5.2). Decisions only: time and chance come from outside.

use hearth_store::queue::Ms;

/// First wait after a throttle or an error of the platform; each further one is twice as long.
const BACK_OFF_FIRST: Ms = 1_000;
/// Longest such wait.
const BACK_OFF_MAX: Ms = 300_000;

/// What holds for one event. AWS's defaults where nothing is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// After the first attempt, when the function fails.
    pub retries: u32,
    pub age_max: Ms,
    /// Before the second attempt; before the third it is twice as long.
    pub base_delay: Ms,
}

impl Policy {
    pub const RETRIES: u32 = 2;
    pub const AGE_MAX: Ms = 21_600_000;
}

/// How far an event has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub accepted: Ms,
    /// Attempts in which the function failed.
    pub failures: u32,
    /// Attempts in a row, the last ones, that did not reach the function.
    pub refusals: u32,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Succeeded,
    /// An exception, an exit, a timeout: the function's own fault.
    Failed,
    /// A throttle or an error of the platform: the function may run another time.
    Refused,
}

/// Why an event is over; `requestContext.condition` of its record. The last two are Hearth's own words: AWS's are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
    FunctionNotFound,
    RecursiveLoop,
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Success => "Success",
            Condition::RetriesExhausted => "RetriesExhausted",
            Condition::EventAgeExceeded => "EventAgeExceeded",
            Condition::ZeroReservedConcurrency => "ZeroReservedConcurrency",
            Condition::FunctionNotFound => "FunctionNotFound",
            Condition::RecursiveLoop => "RecursiveLoop",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not before then.
    Again(Ms),
    Over(Condition),
}

/// What keeps an event from being tried at all now.
pub fn before(policy: &Policy, standing: &Standing, reserved: Option<u32>, now: Ms) -> Option<Condition> {
    if now >= standing.accepted.saturating_add(policy.age_max) {
        return Some(Condition::EventAgeExceeded);
    }
    (reserved == Some(0)).then_some(Condition::ZeroReservedConcurrency)
}

/// `standing` counts the attempt. An event whose age runs out during a wait is looked at again in that moment.
pub fn after(policy: &Policy, standing: &Standing, ended: Ended, now: Ms) -> Next {
    let wait = match ended {
        Ended::Succeeded => return Next::Over(Condition::Success),
        Ended::Failed if standing.failures > policy.retries => return Next::Over(Condition::RetriesExhausted),
        Ended::Failed => policy.base_delay.saturating_mul(u64::from(standing.failures.max(1))),
        Ended::Refused => {
            let doublings = standing.refusals.saturating_sub(1).min(16);
            (BACK_OFF_FIRST << doublings).min(BACK_OFF_MAX)
        }
    };
    Next::Again(now.saturating_add(wait).min(standing.accepted.saturating_add(policy.age_max)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Ms = 60_000;

    fn policy() -> Policy {
        Policy { retries: Policy::RETRIES, age_max: Policy::AGE_MAX, base_delay: MINUTE }
    }

    fn failed(failures: u32) -> Standing {
        Standing { failures, ..Standing::default() }
    }

    #[test]
    fn a_failing_function_is_tried_after_one_minute_and_two_more() {
        assert_eq!(after(&policy(), &failed(1), Ended::Failed, 0), Next::Again(MINUTE));
        assert_eq!(after(&policy(), &failed(2), Ended::Failed, MINUTE), Next::Again(3 * MINUTE));
        assert_eq!(after(&policy(), &failed(3), Ended::Failed, 0), Next::Over(Condition::RetriesExhausted));
        let never = Policy { retries: 0, ..policy() };
        assert_eq!(after(&never, &failed(1), Ended::Failed, 0), Next::Over(Condition::RetriesExhausted));
    }

    #[test]
    fn refusals_back_off_from_a_second_to_five_minutes_and_count_no_retry() {
        let mut now = 0;
        let mut waits = Vec::new();
        for refusals in 1..=11 {
            let standing = Standing { refusals, ..failed(2) };
            let Next::Again(due) = after(&policy(), &standing, Ended::Refused, now) else { panic!("given up") };
            waits.push((due - now) / 1000);
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn an_event_is_over_when_its_age_is_and_not_a_moment_later() {
        let policy = Policy { age_max: MINUTE, ..policy() };
        let standing = Standing { accepted: 500, ..failed(1) };
        assert_eq!(after(&policy, &standing, Ended::Failed, 10_000), Next::Again(500 + MINUTE));
        assert_eq!(before(&policy, &standing, None, 499 + MINUTE), None);
        assert_eq!(before(&policy, &standing, None, 500 + MINUTE), Some(Condition::EventAgeExceeded));
    }

    #[test]
    fn a_function_that_may_not_run_is_not_tried() {
        assert_eq!(before(&policy(), &failed(0), Some(0), 1), Some(Condition::ZeroReservedConcurrency));
        assert_eq!(before(&policy(), &failed(0), Some(1), 1), None);
    }

    proptest! {
        #[test]
        fn every_event_is_over_in_time_whatever_its_attempts_do(
            ends in prop::collection::vec(0..2u8, 400),
            took in 0..900_000u64,
            retries in 0..=2u32,
            age_max in 60_000..=21_600_000u64,
        ) {
            let policy = Policy { retries, age_max, base_delay: MINUTE };
            let (mut standing, mut now, mut tries) = (Standing::default(), 0, 0);
            for end in ends {
                if before(&policy, &standing, None, now).is_some() {
                    break;
                }
                tries += 1;
                now += took;
                let ended = if end == 0 { Ended::Failed } else { Ended::Refused };
                if ended == Ended::Failed { standing.failures += 1; standing.refusals = 0 } else { standing.refusals += 1 }
                match after(&policy, &standing, ended, now) {
                    Next::Over(condition) => {
                        prop_assert_eq!(condition, Condition::RetriesExhausted);
                        prop_assert_eq!(standing.failures, retries + 1);
                        return Ok(());
                    }
                    Next::Again(due) => {
                        prop_assert!(due <= age_max);
                        now = now.max(due);
                    }
                }
            }
            prop_assert_eq!(before(&policy, &standing, None, now), Some(Condition::EventAgeExceeded));
            prop_assert!(tries < 100 && standing.failures <= retries);
        }
    }
}
