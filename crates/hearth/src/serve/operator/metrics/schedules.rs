//! What schedules have fired (EventBridge Scheduler's names, but for what Hearth alone tells).

use hearth_schedules::{Counted, Numbers};

use super::{declare, line};

type OfGroup = (&'static str, &'static str, fn(&Numbers) -> u64);

const GROUPS: [OfGroup; 7] = [
    ("aws_scheduler_invocation_attempt_count", "Tries to reach the target of a schedule.", |numbers| numbers.attempts),
    ("aws_scheduler_target_error_count", "Tries that did not reach the target.", |numbers| numbers.failed),
    ("aws_scheduler_invocation_dropped_count", "Occurrences that never reached their target.", |numbers| {
        numbers.dropped
    }),
    (
        "aws_scheduler_invocations_sent_to_dead_letter_count",
        "Occurrences that reached the dead-letter queue instead.",
        |numbers| numbers.dead_letters,
    ),
    (
        "aws_scheduler_invocations_failed_to_be_sent_to_dead_letter_count",
        "Occurrences that reached neither.",
        |numbers| numbers.dead_letters_failed,
    ),
    ("hearth_schedules_late", "Occurrences that were missed, and fired late.", |numbers| numbers.late),
    ("hearth_schedules_set_aside", "Schedules that do not fire, as their records cannot be read.", |numbers| {
        numbers.set_aside
    }),
];

pub fn write(out: &mut String, schedules: &[Counted]) {
    for (name, help, number) in GROUPS {
        let name = format!("{name}_total");
        declare(out, &name, help, "counter");
        for Counted { account, region, group, numbers } in schedules {
            let labels = format!("account=\"{account}\",region=\"{region}\",schedule_group=\"{group}\"");
            line(out, &format!("{name}{{{labels}}}"), number(numbers));
        }
    }
}
