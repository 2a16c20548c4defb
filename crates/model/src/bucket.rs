//! A rate with a burst: decisions only.

use std::time::{Duration, Instant};

/// Fills at a rate up to a burst; what is taken beyond what is there must be waited for.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// A second.
    rate: f64,
    burst: f64,
    level: f64,
    /// When the level was true.
    counted: Instant,
}

impl Bucket {
    pub fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Bucket { rate, burst, level: burst, counted: now }
    }

    /// What is there; below zero when more was taken.
    pub fn level(&mut self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.counted).as_secs_f64() * self.rate;
        (self.level, self.counted) = ((self.level + gained).min(self.burst), now.max(self.counted));
        self.level
    }

    pub fn take(&mut self, amount: f64) {
        self.level -= amount;
    }

    /// How long until this level is reached when nothing is taken meanwhile; nothing when it is.
    pub fn until(&self, level: f64) -> Duration {
        Duration::from_secs_f64(((level - self.level) / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 5.0, start);
        bucket.take(5.0);
        assert_eq!((bucket.level(start), bucket.until(0.0)), (0.0, Duration::ZERO));
        bucket.take(20.0);
        assert_eq!(bucket.until(0.0), Duration::from_secs(2));
        assert_eq!(bucket.level(start + Duration::from_secs(2)), 0.0);
        assert_eq!(bucket.level(start + Duration::from_secs(60)), 5.0, "no more than the burst");
        assert_eq!(bucket.level(start), 5.0, "time that goes back changes nothing");
    }
}
