//! When an occurrence is due, and what follows when it fires. Decisions only.
//!
//! ```text
//!   next: an occurrence ──due──► fires ──► next: the one after it
//!                                  └─ too late ──► fires, once and late ──► next: the first that is not over
//! ```

use hearth_store::queue::Ms;
use sha2::{Digest, Sha256};

use crate::expression::Expression;
use crate::record::{Late, ScheduleRecord};
use crate::timetable::Timetable;

/// An occurrence fires within a minute (AWS's own precision): what is later than that was missed, as is what was due when
/// the server was not there.
const ON_TIME: Ms = 60_000;
/// Occurrences that were missed are counted so far.
const SKIPPED_MAX: u64 = 1_000;

/// When an occurrence is due: at once, or at a moment of its flexible window that chance decides, but which is the same
/// whenever it is asked for. Windows end where the next occurrence is: none overtakes another.
pub fn due(record: &ScheduleRecord, timetable: &Timetable, occurrence: Ms) -> Ms {
    let Some(minutes) = record.definition.window_minutes else { return occurrence };
    let window = u64::from(minutes) * 60_000;
    let window = timetable.after(occurrence).map_or(window, |next| window.min(next - occurrence));
    let digest = Sha256::digest(format!("{}.{occurrence}", record.uuid));
    let chance = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    occurrence.saturating_add(chance % window.max(1))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    pub occurrence: Ms,
    pub late: Option<Late>,
    /// None when the schedule is completed.
    pub next: Option<Ms>,
}

/// What fires of a schedule now; `None` when nothing is due. `up_since` is when the server began.
pub fn fire(record: &ScheduleRecord, timetable: &Timetable, now: Ms, up_since: Ms) -> Option<Fired> {
    let occurrence = record.next?;
    let was_due = due(record, timetable, occurrence);
    if was_due > now {
        return None;
    }
    let is_over = |next: Ms| due(record, timetable, next) <= now;
    // A moment that was over when the schedule was told of it is not missed. Only one-time schedules have such: of others,
    // an update must not hide that they were missed, for then each of those would fire.
    let since = match timetable.expression {
        Expression::At(_) => was_due.max(record.modified),
        _ => was_due,
    };
    let by = now.saturating_sub(since);
    let was_down = since < up_since;
    if by <= ON_TIME && !was_down {
        return Some(Fired { occurrence, late: None, next: timetable.after(occurrence) });
    }
    let mut skipped = 0;
    let mut next = timetable.after(occurrence);
    while next.is_some_and(is_over) && skipped < SKIPPED_MAX {
        skipped += 1;
        next = next.and_then(|next| timetable.after(next));
    }
    if next.is_some_and(is_over) {
        next = timetable.after(now);
    }
    Some(Fired { occurrence, late: Some(Late { by, skipped, was_down }), next })
}

/// When a schedule that fires no more is to go, where it is told to when it is completed: once its end is over, or else at
/// once. None while it may fire, and of one that is disabled, which may be enabled again.
pub fn goes(record: &ScheduleRecord) -> Option<Ms> {
    let definition = &record.definition;
    let is_completed = record.next.is_none() && definition.enabled && definition.goes;
    is_completed.then(|| definition.end.unwrap_or(record.modified))
}

/// What follows an occurrence that had fired when the server died: the one after it, which may have been missed.
pub fn fired_before(record: &ScheduleRecord, occurrence: Ms) -> Fired {
    let timetable = record.definition.timetable(record.anchor);
    Fired { occurrence, late: None, next: timetable.and_then(|timetable| timetable.after(occurrence)) }
}

/// Decides what is next of a schedule that is told something now.
pub fn tell(before: Option<&ScheduleRecord>, record: &mut ScheduleRecord, timetable: &Timetable, now: Ms) {
    let begins = record.definition.enabled.then(|| timetable.begin(now)).flatten();
    let Some(before) = before else {
        record.next = begins;
        return;
    };
    let is_same = before.definition.has_times_of(&record.definition);
    if is_same && before.definition.enabled && record.definition.enabled {
        record.next = before.next;
        return;
    }
    // What has fired does not fire again, unless it is told to.
    record.next = begins.filter(|begins| !is_same || before.fired.is_none_or(|fired| *begins > fired));
    record.turn = before.turn.wrapping_add(1);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Definition, Target};

    pub fn record(expression: &str, window: Option<u32>) -> ScheduleRecord {
        let target = Target {
            arn: "a".to_owned(),
            role: "r".to_owned(),
            input: None,
            dead_letters: None,
            age_max_s: 86_400,
            retries: 185,
            message_group: None,
        };
        let definition = Definition {
            description: None,
            expression: expression.to_owned(),
            zone: "UTC".to_owned(),
            start: None,
            end: None,
            window_minutes: window,
            enabled: true,
            goes: false,
            kms_key: None,
            target,
        };
        ScheduleRecord {
            uuid: "u".to_owned(),
            definition,
            created: 0,
            modified: 0,
            anchor: 0,
            turn: 0,
            next: None,
            fired: None,
            made_by: None,
        }
    }

    const MINUTE: Ms = 60_000;

    #[test]
    fn what_is_a_little_late_loses_nothing() {
        let mut record = record("rate(1 minute)", None);
        let timetable = record.definition.timetable(0).unwrap();
        record.next = Some(10 * MINUTE);
        assert_eq!(fire(&record, &timetable, 10 * MINUTE - 1, 0), None);
        let fired = fire(&record, &timetable, 11 * MINUTE, 0).unwrap();
        assert_eq!(fired, Fired { occurrence: 10 * MINUTE, late: None, next: Some(11 * MINUTE) });
    }

    #[test]
    fn what_was_missed_fires_once_and_says_so() {
        let mut record = record("rate(1 minute)", None);
        let timetable = record.definition.timetable(0).unwrap();
        record.next = Some(10 * MINUTE);
        let now = 100 * MINUTE + 1;
        let late = Late { by: 90 * MINUTE + 1, skipped: 90, was_down: true };
        let fired = fire(&record, &timetable, now, now).unwrap();
        assert_eq!(fired, Fired { occurrence: 10 * MINUTE, late: Some(late), next: Some(101 * MINUTE) });
        // However many there were.
        let fired = fire(&record, &timetable, 1_000_000 * MINUTE, 0).unwrap();
        assert_eq!(fired.next, Some(1_000_001 * MINUTE));
        assert_eq!(fired.late, Some(Late { by: 999_990 * MINUTE, skipped: SKIPPED_MAX, was_down: false }));
    }

    #[test]
    fn what_was_due_without_a_server_was_missed_however_short_that_was() {
        let mut record = record("rate(1 minute)", None);
        let timetable = record.definition.timetable(0).unwrap();
        record.next = Some(10 * MINUTE);
        let fired = fire(&record, &timetable, 10 * MINUTE + 2_000, 10 * MINUTE + 1_500).unwrap();
        assert_eq!(fired.late, Some(Late { by: 2_000, skipped: 0, was_down: true }));
    }

    #[test]
    fn a_moment_that_was_over_when_it_was_told_is_not_late() {
        let mut record = record("at(1970-01-01T00:10:00)", None);
        let timetable = record.definition.timetable(0).unwrap();
        record.next = Some(10 * MINUTE);
        record.modified = 500 * MINUTE;
        let fired = fire(&record, &timetable, 500 * MINUTE + 5, 400 * MINUTE).unwrap();
        assert_eq!(fired, Fired { occurrence: 10 * MINUTE, late: None, next: None });
    }

    #[test]
    fn an_update_of_what_was_missed_lets_it_fire_once() {
        let mut record = record("rate(1 minute)", None);
        let timetable = record.definition.timetable(0).unwrap();
        let before = ScheduleRecord { next: Some(10 * MINUTE), ..record.clone() };
        record.modified = 100 * MINUTE;
        tell(Some(&before), &mut record, &timetable, 100 * MINUTE);
        let fired = fire(&record, &timetable, 100 * MINUTE + 1, 100 * MINUTE).unwrap();
        let late = Late { by: 90 * MINUTE + 1, skipped: 90, was_down: true };
        assert_eq!(fired, Fired { occurrence: 10 * MINUTE, late: Some(late), next: Some(101 * MINUTE) });
    }

    #[test]
    fn a_one_time_schedule_is_completed_when_it_has_fired() {
        let mut record = record("at(1970-01-02T00:00:00)", None);
        let timetable = record.definition.timetable(0).unwrap();
        tell(None, &mut record, &timetable, 5);
        assert_eq!(record.next, Some(86_400_000));
        let fired = fire(&record, &timetable, 86_400_000, 0).unwrap();
        assert_eq!(fired, Fired { occurrence: 86_400_000, late: None, next: None });
        // Told the same again, it does not fire again; told another time, it does.
        let before = ScheduleRecord { next: None, fired: Some(86_400_000), ..record.clone() };
        tell(Some(&before), &mut record, &timetable, 90_000_000);
        assert_eq!((record.next, record.turn), (None, 0));
        let mut other = record.clone();
        other.definition.expression = "at(1970-01-01T00:00:09)".to_owned();
        let timetable = other.definition.timetable(0).unwrap();
        tell(Some(&before), &mut other, &timetable, 90_000_000);
        assert_eq!((other.next, other.turn), (Some(9000), 1));
    }

    #[test]
    fn what_never_occurs_goes_when_its_end_is_over() {
        let mut record = record("cron(0 0 1 1 ? 1975)", None);
        record.definition.end = Some(10 * MINUTE);
        let timetable = record.definition.timetable(0).unwrap();
        tell(None, &mut record, &timetable, 5);
        assert_eq!((record.next, goes(&record)), (None, None));
        record.definition.goes = true;
        assert_eq!(goes(&record), Some(10 * MINUTE));
        assert_eq!(goes(&ScheduleRecord { next: Some(7), ..record.clone() }), None);
        record.definition.enabled = false;
        assert_eq!(goes(&record), None);
        (record.definition.enabled, record.definition.end, record.modified) = (true, None, 7);
        assert_eq!(goes(&record), Some(7));
    }

    #[test]
    fn what_was_disabled_goes_on_with_what_is_to_come() {
        let mut record = record("rate(1 minute)", None);
        let timetable = record.definition.timetable(0).unwrap();
        let mut before = record.clone();
        before.definition.enabled = false;
        tell(Some(&before), &mut record, &timetable, 90 * MINUTE + 5);
        assert_eq!(record.next, Some(91 * MINUTE));
        tell(Some(&record.clone()), &mut before, &timetable, 5);
        assert_eq!(before.next, None);
        // Told something else than times, a schedule keeps its next occurrence.
        let before = ScheduleRecord { next: Some(7 * MINUTE), ..record.clone() };
        tell(Some(&before), &mut record, &timetable, 90 * MINUTE);
        assert_eq!(record.next, Some(7 * MINUTE));
    }

    proptest! {
        #[test]
        fn flexible_moments_are_in_their_window_and_overtake_none(uuid in "[a-f0-9]{8}", at in 0..400_000_000u64, minutes in 1..1440u32) {
            let mut record = record("rate(9 minutes)", Some(minutes));
            record.uuid = uuid;
            let timetable = record.definition.timetable(0).unwrap();
            let occurrence = timetable.from(at).unwrap();
            let moment = due(&record, &timetable, occurrence);
            prop_assert!(moment >= occurrence && moment < occurrence + u64::from(minutes.min(9)) * MINUTE);
            prop_assert_eq!(due(&record, &timetable, occurrence), moment);
            record.definition.window_minutes = None;
            prop_assert_eq!(due(&record, &timetable, occurrence), occurrence);
        }

        /// Ticks that come when they like: each occurrence fires at most once, in order, and while ticks come in time, none
        /// is left out.
        #[test]
        fn nothing_fires_twice_and_nothing_is_lost_in_time(
            text in prop::sample::select(&["rate(1 minute)", "rate(7 minutes)", "cron(0/5 * * * ? *)", "cron(3 0/2 * * ? *)"][..]),
            window in prop::option::of(1..30u32),
            waits in prop::collection::vec((0..400_000u64, any::<bool>()), 1..200),
        ) {
            let mut record = record(text, window);
            let timetable = record.definition.timetable(0).unwrap();
            record.next = timetable.begin(0);
            let (mut now, mut seen) = (0, Vec::new());
            for (wait, is_short) in waits {
                let wanted = record.next.map(|next| due(&record, &timetable, next)).unwrap();
                // A timer that is right, or one that is not.
                now = if is_short { now.max(wanted) + wait % ON_TIME } else { now + wait };
                let expected = record.next;
                if let Some(fired) = fire(&record, &timetable, now, 0) {
                    prop_assert_eq!(Some(fired.occurrence), expected);
                    prop_assert!(wanted <= now && fired.next.unwrap() > fired.occurrence);
                    match fired.late {
                        None => prop_assert_eq!(fired.next, timetable.after(fired.occurrence)),
                        Some(late) => {
                            prop_assert_eq!(late.by, now - wanted);
                            let mut rest = std::iter::successors(timetable.after(fired.occurrence), |at| timetable.after(*at));
                            prop_assert_eq!(fired.next, rest.find(|at| due(&record, &timetable, *at) > now));
                        }
                    }
                    seen.push(fired.occurrence);
                    record.next = fired.next;
                } else {
                    prop_assert!(wanted > now);
                }
            }
            prop_assert!(seen.is_sorted_by(|a, b| a < b));
        }
    }
}
