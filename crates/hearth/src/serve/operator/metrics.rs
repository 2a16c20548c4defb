//! Metrics in Prometheus's text form. Names are AWS's, in snake case; every family is declared from the start.

use std::fmt::Write;

use hearth_events::{AGE_BUCKETS_MS, Counted};

/// A family of counters: its name without prefix and suffix, what it counts, and where the number is.
type Counter = (&'static str, &'static str, fn(&Counted) -> u64);

const COUNTERS: [Counter; 4] = [
    ("async_events_received", "Events accepted into the asynchronous queue.", |counted| counted.received),
    ("async_events_dropped", "Events given up without a successful run.", |counted| counted.dropped),
    ("dead_letter_errors", "Events that did not reach their dead-letter queue.", |counted| counted.dead_letters_failed),
    ("destination_delivery_failures", "Records that did not reach their destination.", |counted| {
        counted.destinations_failed
    }),
];

pub fn text(events: &[Counted]) -> String {
    let mut out = String::new();
    for (name, help, number) in COUNTERS {
        let name = format!("aws_lambda_{name}_total");
        declare(&mut out, &name, help, "counter");
        for counted in events {
            line(&mut out, &format!("{name}{{{}}}", labels(counted)), number(counted));
        }
    }
    ages(&mut out, events);
    out
}

fn ages(out: &mut String, events: &[Counted]) {
    let name = "aws_lambda_async_event_age_milliseconds";
    declare(out, name, "From the acceptance of an event to each attempt.", "histogram");
    for counted in events {
        let labels = labels(counted);
        let bounds = AGE_BUCKETS_MS.iter().map(u64::to_string).chain(["+Inf".to_owned()]);
        let mut up_to = 0;
        for (bound, count) in bounds.zip(counted.ages) {
            up_to += count;
            line(out, &format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), up_to);
        }
        line(out, &format!("{name}_sum{{{labels}}}"), counted.age_sum_ms);
        line(out, &format!("{name}_count{{{labels}}}"), up_to);
    }
}

fn declare(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, series: &str, value: u64) {
    let _ = writeln!(out, "{series} {value}");
}

/// Names of functions and qualifiers hold nothing that would have to be escaped.
fn labels(counted: &Counted) -> String {
    let arn = &counted.arn;
    let resource = match &arn.qualifier {
        Some(qualifier) => format!("{}:{qualifier}", arn.name),
        None => arn.name.to_string(),
    };
    let (account, region, name) = (&arn.account, &arn.region, &arn.name);
    format!("account=\"{account}\",region=\"{region}\",function_name=\"{name}\",resource=\"{resource}\"")
}

#[cfg(test)]
mod tests {
    use hearth_model::{AccountId, FunctionArn, FunctionName, Qualifier, Region};

    use super::*;

    #[test]
    fn families_are_declared_before_there_is_anything_and_histograms_add_up() {
        let declared = text(&[]);
        assert_eq!(declared.lines().filter(|line| line.starts_with("# TYPE ")).count(), 5);
        let arn = FunctionArn {
            account: AccountId::default_account(),
            region: Region::default_region(),
            name: FunctionName::parse("f").unwrap(),
            qualifier: Some(Qualifier::new("live")),
        };
        let mut ages = [0; AGE_BUCKETS_MS.len() + 1];
        (ages[0], ages[AGE_BUCKETS_MS.len()]) = (2, 1);
        let counted = Counted {
            arn,
            received: 7,
            dropped: 0,
            dead_letters_failed: 0,
            destinations_failed: 0,
            ages,
            age_sum_ms: 9,
        };
        let text = text(&[counted]);
        let labels = "account=\"000000000000\",region=\"us-east-1\",function_name=\"f\",resource=\"f:live\"";
        for line in [
            format!("aws_lambda_async_events_received_total{{{labels}}} 7"),
            format!("aws_lambda_async_event_age_milliseconds_bucket{{{labels},le=\"5\"}} 2"),
            format!("aws_lambda_async_event_age_milliseconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("aws_lambda_async_event_age_milliseconds_count{{{labels}}} 3"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
