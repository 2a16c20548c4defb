//! How fast environments of one function may be started: decisions only.
//!
//! AWS adds at most 1,000 environments every ten seconds, refilled continuously; what is unused does not accumulate
//! beyond that (spec 8.1).

use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(10);

/// The starts of one function. Each takes its share of the period; the period in advance is what may be taken at once.
#[derive(Debug, Default)]
pub struct Starts {
    taken_until: Option<Instant>,
}

impl Starts {
    /// Takes one start, if `rate` a period allows it.
    pub fn take(&mut self, rate: u32, now: Instant) -> bool {
        let Some(share) = PERIOD.checked_div(rate) else { return false };
        let until = self.taken_until.map_or(now, |until| until.max(now)) + share;
        let allowed = until <= now + PERIOD;
        if allowed {
            self.taken_until = Some(until);
        }
        allowed
    }

    /// Nothing is taken: as good as new.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.taken_until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(starts: &mut Starts, rate: u32, now: Instant) -> usize {
        (0..5000).take_while(|_| starts.take(rate, now)).count()
    }

    #[test]
    fn a_burst_is_the_rate_and_comes_back_continuously() {
        let (mut starts, start) = (Starts::default(), Instant::now());
        assert_eq!(taken(&mut starts, 1000, start), 1000);
        assert_eq!(taken(&mut starts, 1000, start + Duration::from_secs(1)), 100);
        assert_eq!(taken(&mut starts, 1000, start + Duration::from_secs(1)), 0);
    }

    #[test]
    fn what_is_unused_does_not_accumulate() {
        let (mut starts, start) = (Starts::default(), Instant::now());
        assert!(starts.take(3, start) && !starts.is_fresh(start));
        let later = start + Duration::from_secs(3600);
        assert!(starts.is_fresh(later));
        assert_eq!(taken(&mut starts, 3, later), 3);
    }

    #[test]
    fn no_rate_is_no_start() {
        assert!(!Starts::default().take(0, Instant::now()));
    }
}
