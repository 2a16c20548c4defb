//! Calls of functions, and how many there are at once (spec 10.1).

use hearth_placement::{Concurrency, Counted, InUse};
use hearth_worker::{DURATION_BUCKETS_MS, Durations, Metered};

use super::{declare, histogram, labels, line};

/// A number of calls: its name without prefix and suffix, what it counts, and where it is.
type OfCalls = (&'static str, &'static str, fn(&Metered) -> u64);

const CALLS: [OfCalls; 5] = [
    ("invocations", "Calls that a function has run for, whether it failed or not.", |calls| calls.invocations),
    ("errors", "Calls that failed in the function: exceptions, timeouts, runtimes that ended.", |calls| calls.errors),
    ("throttles", "Calls that were refused for concurrency, rate or room.", |calls| calls.throttles),
    ("provisioned_concurrency_invocations", "Calls in environments that are kept initialised.", |calls| {
        calls.provisioned
    }),
    (
        "provisioned_concurrency_spillover_invocations",
        "Calls on demand, as none that is kept initialised was free.",
        |calls| calls.spilled,
    ),
];

/// Times of calls, likewise.
type OfTimes = (&'static str, &'static str, fn(&Metered) -> &Durations);

const TIMES: [OfTimes; 2] = [
    ("duration", "How long functions ran, without their init.", |calls| &calls.durations),
    ("post_runtime_extensions_duration", "What extensions took after runtimes were done.", |calls| &calls.extensions),
];

pub fn write(out: &mut String, counted: &Counted) {
    for (name, help, number) in CALLS {
        let name = format!("aws_lambda_{name}_total");
        declare(out, &name, help, "counter");
        for (arn, calls) in &counted.calls {
            line(out, &format!("{name}{{{}}}", labels(arn)), number(calls));
        }
    }
    for (name, help, durations) in TIMES {
        let name = format!("aws_lambda_{name}_milliseconds");
        declare(out, &name, help, "histogram");
        for (arn, calls) in &counted.calls {
            let Durations { buckets, sum } = durations(calls);
            let sum = sum.as_micros() as f64 / 1000.0;
            histogram(out, &name, &labels(arn), (&DURATION_BUCKETS_MS, buckets), sum);
        }
    }
    let name = "aws_lambda_concurrent_executions";
    declare(out, name, "Calls that run at this moment.", "gauge");
    for (arn, calls) in &counted.calls {
        line(out, &format!("{name}{{{}}}", labels(arn)), calls.running);
    }
    of_accounts(out, &counted.accounts);
    of_provisioned(out, &counted.provisioned);
}

fn of_accounts(out: &mut String, accounts: &[Concurrency]) {
    type OfAccount = (&'static str, &'static str, fn(&Concurrency) -> u32);
    const ALL: [OfAccount; 2] = [
        ("unreserved_concurrent_executions", "Calls at this moment of functions without a reservation.", |one| {
            one.unreserved
        }),
        ("claimed_account_concurrency", "Those, and all that is set aside for other functions, used or not.", |one| {
            one.claimed
        }),
    ];
    for (name, help, number) in ALL {
        let name = format!("aws_lambda_{name}");
        declare(out, &name, help, "gauge");
        for one in accounts {
            let (account, region) = (&one.account, &one.region);
            line(out, &format!("{name}{{account=\"{account}\",region=\"{region}\"}}"), number(one));
        }
    }
}

fn of_provisioned(out: &mut String, all: &[InUse]) {
    let name = "aws_lambda_provisioned_concurrent_executions";
    declare(out, name, "Environments kept initialised that run at this moment.", "gauge");
    for one in all {
        line(out, &format!("{name}{{{}}}", labels(&one.arn)), one.running);
    }
    let name = "aws_lambda_provisioned_concurrency_utilization";
    declare(out, name, "Which part of the environments kept initialised runs at this moment.", "gauge");
    for one in all {
        let part = f64::from(one.running) / f64::from(one.ready.max(1));
        line(out, &format!("{name}{{{}}}", labels(&one.arn)), part);
    }
}
