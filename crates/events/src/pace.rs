//! How many events of one function may be under way at once. Decisions only.
//!
//! It begins low and doubles while there is more to do and it helps: a function that waits gets as many environments as it
//! may have, one that only computes gets no more than the host can feed. A throttle halves it. So a function with a million
//! events takes neither a host's memory nor its environments from others.

use hearth_store::queue::Ms;

/// Where every function begins.
const FIRST: usize = 2;
/// Shortest time over which a number is judged.
const WINDOW_MIN: Ms = 500;
/// Longest.
const WINDOW_MAX: Ms = 10_000;
/// Doubling must gain this much, in percent, to be kept.
const GAIN: u64 = 10;
/// Windows before it is tried again whether more would help.
const CONTENT_FOR: u32 = 20;
/// After a throttle nothing grows for so long.
const HOLD: Ms = 2_000;
/// After a throttle nothing begins for so long; twice as long after each further one, until an event runs.
const PAUSE_FIRST: Ms = 100;
const PAUSE_MAX: Ms = 10_000;
/// Shortest time between two looks at a window.
const LOOK_MIN: Ms = 10;

#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    most: usize,
    window: Window,
    /// Before it was last doubled: the number, and events per 1,000 s.
    before: Option<(usize, u64)>,
    content: u32,
    hold_until: Ms,
    /// Throttles in a row, as far as they were felt one after another.
    throttles: u32,
    pause_until: Ms,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Ms,
    ended: u64,
    /// Time that attempts took, together.
    took: Ms,
    /// As many were under way as may be, at some moment.
    full: bool,
}

impl Window {
    fn new(since: Ms) -> Self {
        Window { since, ended: 0, took: 0, full: false }
    }

    /// Twice what an attempt takes, so that what it counts means something.
    fn length(&self) -> Ms {
        (2 * self.took / self.ended.max(1)).clamp(WINDOW_MIN, WINDOW_MAX)
    }
}

impl Pace {
    pub fn new(most: usize, now: Ms) -> Self {
        let most = most.max(1);
        let (limit, window) = (FIRST.min(most), Window::new(now));
        Pace { limit, most, window, before: None, content: 0, hold_until: 0, throttles: 0, pause_until: 0 }
    }

    /// How many more may begin.
    pub fn free(&self, under_way: usize, now: Ms) -> usize {
        if now < self.pause_until { 0 } else { self.limit.saturating_sub(under_way) }
    }

    /// There is more to do, and nothing may begin. Answers when to look again.
    pub fn full(&mut self, under_way: usize, now: Ms) -> Ms {
        if now < self.pause_until {
            return self.pause_until - now;
        }
        self.window.full |= under_way >= self.limit;
        self.judge(now);
        (self.window.since + self.window.length()).max(self.hold_until).saturating_sub(now).max(LOOK_MIN)
    }

    pub fn ended(&mut self, took: Ms, now: Ms) {
        self.window.ended += 1;
        self.window.took += took;
        self.throttles = 0;
        self.judge(now);
    }

    /// The function was throttled.
    pub fn throttled(&mut self, now: Ms) {
        if now >= self.hold_until {
            self.limit = (self.limit / 2).max(1);
            self.hold_until = now + HOLD;
        }
        if now >= self.pause_until {
            self.pause_until = now + (PAUSE_FIRST << self.throttles.min(16)).min(PAUSE_MAX);
            self.throttles += 1;
        }
        (self.before, self.content, self.window) = (None, 0, Window::new(now));
    }

    /// Looks whether a window is over, and what its number is worth.
    fn judge(&mut self, now: Ms) {
        let window = self.window;
        let elapsed = now.saturating_sub(window.since);
        if elapsed < window.length() || now < self.hold_until {
            return;
        }
        self.window = Window::new(now);
        if !window.full {
            // There was nothing to judge.
            self.before = None;
            return;
        }
        if self.content > 0 {
            self.content -= 1;
            return;
        }
        let rate = window.ended * 1_000_000 / elapsed.max(1);
        match self.before {
            Some((limit, before)) if rate * 100 < before * (100 + GAIN) => {
                (self.limit, self.before, self.content) = (limit, None, CONTENT_FOR);
            }
            _ if self.limit < self.most => {
                self.before = Some((self.limit, rate));
                self.limit = (self.limit * 2).min(self.most);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function on a host: how long an attempt takes when so many are under way.
    fn settle(most: usize, seconds: u64, takes: impl Fn(usize) -> Ms) -> usize {
        let mut pace = Pace::new(most, 0);
        let mut under_way: Vec<(Ms, Ms)> = Vec::new();
        for now in (0..seconds * 1000).step_by(10) {
            let mut ended = Vec::new();
            under_way.retain(|(until, took)| {
                if *until <= now {
                    ended.push(*took);
                    false
                } else {
                    true
                }
            });
            ended.into_iter().for_each(|took| pace.ended(took, now));
            while pace.free(under_way.len(), now) > 0 {
                let took = takes(under_way.len() + 1).max(10);
                under_way.push((now + took, took));
            }
            pace.full(under_way.len(), now);
        }
        pace.limit
    }

    #[test]
    fn a_function_that_waits_gets_as_many_as_it_may_have() {
        assert_eq!(settle(1000, 20, |_| 10_000), 1000);
        assert!(settle(1000, 60, |_| 1_500) >= 500);
    }

    #[test]
    fn a_function_that_computes_gets_no_more_than_helps() {
        // Two cores: eight under way take four times as long as two.
        assert!(settle(1000, 60, |under_way| 20 * under_way.div_ceil(2) as u64) <= 16);
    }

    #[test]
    fn a_throttle_halves_it_down_to_one_and_one_at_a_time() {
        let mut pace = Pace::new(1000, 0);
        pace.throttled(10);
        pace.throttled(20);
        assert_eq!(pace.limit, 1);
        pace.throttled(10 + HOLD);
        pace.throttled(20 + 2 * HOLD);
        let after = 20 + 2 * HOLD + PAUSE_MAX;
        assert_eq!((pace.limit, pace.free(0, after), pace.free(1, after)), (1, 1, 0));
    }

    #[test]
    fn throttles_in_a_row_make_pauses_that_an_event_that_runs_ends() {
        let mut pace = Pace::new(1000, 0);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..9 {
            pace.throttled(now);
            pace.throttled(now + 1);
            pauses.push(pace.full(0, now));
            now = pace.pause_until;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        pace.ended(1, now);
        pace.throttled(now);
        assert_eq!(pace.full(0, now), 100);
    }

    #[test]
    fn nothing_grows_without_more_to_do() {
        let mut pace = Pace::new(1000, 0);
        for now in 1..100 {
            pace.ended(1, now * 1000);
        }
        assert_eq!(pace.limit, FIRST);
    }
}
