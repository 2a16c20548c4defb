//! How many batches of a mapping may be under way at once (spec 6.3, "Scaling"). Decisions only.

use hearth_store::queue::Ms;

/// Of standard queues: how many there are at first and when it is quiet, how many more a minute, and at most.
const FIRST: f64 = 5.0;
const MORE_A_MINUTE: f64 = 300.0;
const MOST: f64 = 1250.0;
/// Of provisioned pollers: what one of them does at once, and how many more a minute all may.
pub const OF_A_POLLER: u32 = 10;
const MORE_A_MINUTE_PROVISIONED: f64 = 1000.0;
/// After a throttle nothing is added for so long.
const CALM: Ms = 1_000;
/// What was not busy for so long is quiet.
const QUIET: Ms = 60_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Grows while it is busy.
    Standard {
        max: Option<u32>,
    },
    /// As many as there are groups, which the source sees to.
    Fifo {
        max: Option<u32>,
    },
    Provisioned {
        min: u32,
        max: u32,
    },
}

#[derive(Clone, Debug)]
pub struct Scale {
    rule: Rule,
    limit: f64,
    /// Up to here growth has been added.
    seen: Ms,
    /// When it was last at its limit.
    busy: Ms,
    calm_until: Ms,
}

impl Scale {
    pub fn new(rule: Rule, now: Ms) -> Self {
        let scale = Scale { rule, limit: 0.0, seen: now, busy: now, calm_until: now };
        Scale { limit: scale.least(), ..scale }
    }

    /// The rule from now on. Where it is another, what throttles have taken is given back.
    pub fn change(&mut self, rule: Rule) {
        if self.rule != rule {
            self.rule = rule;
            self.limit = self.limit.clamp(self.least(), self.most());
        }
    }

    /// Whether time may bring room for more.
    pub fn may_grow(&self) -> bool {
        self.limit < self.most()
    }

    fn least(&self) -> f64 {
        match self.rule {
            Rule::Standard { .. } => FIRST.min(self.most()),
            Rule::Fifo { .. } => self.most(),
            Rule::Provisioned { min, .. } => f64::from(min * OF_A_POLLER),
        }
    }

    fn most(&self) -> f64 {
        match self.rule {
            Rule::Standard { max } | Rule::Fifo { max } => max.map_or(MOST, f64::from),
            Rule::Provisioned { max, .. } => f64::from(max * OF_A_POLLER),
        }
    }

    /// How many may be under way, of which so many are.
    pub fn limit(&mut self, under_way: usize, now: Ms) -> usize {
        let passed = now.saturating_sub(self.seen) as f64 / 60_000.0;
        self.seen = now;
        if under_way as f64 >= self.limit.floor() {
            self.busy = now;
        } else if now.saturating_sub(self.busy) >= QUIET {
            self.limit = self.limit.min(self.least());
        }
        let is_busy = now == self.busy;
        if (is_busy || self.limit < self.least()) && now >= self.calm_until {
            let more = match self.rule {
                Rule::Provisioned { .. } => MORE_A_MINUTE_PROVISIONED,
                _ => MORE_A_MINUTE,
            };
            self.limit = (self.limit + more * passed).min(self.most());
        }
        self.limit as usize
    }

    /// There was no room for one of so many.
    pub fn throttled(&mut self, under_way: usize, now: Ms) {
        self.limit = (self.limit.min(under_way as f64) / 2.0).max(1.0);
        self.calm_until = now + CALM;
    }

    /// Pollers that are at work, of provisioned ones.
    pub fn pollers(&self) -> Option<u32> {
        match self.rule {
            Rule::Provisioned { min, max } => {
                Some((self.limit / f64::from(OF_A_POLLER)).ceil().clamp(f64::from(min), f64::from(max)) as u32)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn busy(scale: &mut Scale, from: Ms, seconds: u64) -> usize {
        let mut limit = scale.limit(usize::MAX, from);
        for second in 1..=seconds {
            limit = scale.limit(usize::MAX, from + second * 1000);
        }
        limit
    }

    #[test]
    fn a_standard_queue_grows_while_it_is_busy_and_is_small_again_when_quiet() {
        let mut scale = Scale::new(Rule::Standard { max: None }, 0);
        assert_eq!(scale.limit(0, 0), 5);
        assert_eq!(busy(&mut scale, 0, 60), 305);
        assert_eq!(busy(&mut scale, 60_000, 600), 1250);
        assert_eq!(scale.limit(3, 661_000), 1250);
        assert_eq!(scale.limit(3, 721_000), 5);
    }

    #[test]
    fn throttles_halve_it_and_the_maximum_holds() {
        let mut scale = Scale::new(Rule::Standard { max: Some(8) }, 0);
        assert_eq!(busy(&mut scale, 0, 60), 8);
        scale.throttled(8, 60_000);
        assert_eq!(scale.limit(8, 60_500), 4);
        assert!(busy(&mut scale, 61_000, 10) > 4);
        (0..10).for_each(|_| scale.throttled(1, 80_000));
        scale.change(Rule::Standard { max: Some(8) });
        assert_eq!(scale.limit(1, 80_000), 1, "the same rule gives nothing back");
        scale.change(Rule::Standard { max: Some(6) });
        assert_eq!(scale.limit(1, 80_000), 5);
    }

    #[test]
    fn a_poller_that_is_provisioned_runs_ten() {
        let mut scale = Scale::new(Rule::Provisioned { min: 2, max: 4 }, 0);
        assert_eq!((scale.limit(0, 0), scale.pollers()), (20, Some(2)));
        assert_eq!((busy(&mut scale, 0, 60), scale.pollers()), (40, Some(4)));
        assert_eq!(Scale::new(Rule::Fifo { max: None }, 0).pollers(), None);
        assert_eq!(Scale::new(Rule::Fifo { max: Some(3) }, 0).limit(0, 0), 3);
    }

    proptest! {
        #[test]
        fn it_is_never_none_and_never_more_than_may_be(steps in proptest::collection::vec((0..100usize, 0..100_000u64, any::<bool>()), 0..60), max in 2..50u32) {
            let mut scale = Scale::new(Rule::Standard { max: Some(max) }, 0);
            let mut now = 0;
            for (under_way, passed, throttled) in steps {
                now += passed;
                if throttled {
                    scale.throttled(under_way, now);
                }
                let limit = scale.limit(under_way, now);
                prop_assert!((1..=max as usize).contains(&limit), "{limit}");
            }
        }
    }
}
