//! Metrics in Prometheus's text form. Names are AWS's, in snake case, and Hearth's own begin with `hearth_`; every family is
//! declared from the start.

mod calls;
mod logs;
mod mappings;
mod schedules;

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use hearth_events::{AGE_BUCKETS_MS, Counted};
use hearth_model::FunctionArn;
use hearth_observe::Missing;
use hearth_worker::{ColdCounts, Origin, Phase};

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

/// What the rooms have counted.
#[derive(Default)]
pub struct Rooms {
    pub calls: hearth_placement::Counted,
    pub events: Vec<Counted>,
    pub dropped: Missing,
    pub filters: hearth_logs::Counted,
    pub cold: ColdCounts,
    pub loops: BTreeMap<FunctionArn, u64>,
    pub mappings: Vec<hearth_mappings::Counted>,
    pub schedules: Vec<hearth_schedules::Counted>,
    pub iterator_ages: BTreeMap<FunctionArn, hearth_mappings::Ages>,
}

pub fn text(rooms: &Rooms) -> String {
    let mut out = String::new();
    calls::write(&mut out, &rooms.calls);
    for (name, help, number) in COUNTERS {
        let name = format!("aws_lambda_{name}_total");
        declare(&mut out, &name, help, "counter");
        for counted in &rooms.events {
            line(&mut out, &format!("{name}{{{}}}", labels(&counted.arn)), number(counted));
        }
    }
    ages(&mut out, &rooms.events);
    logs::write(&mut out, &rooms.dropped, &rooms.filters);
    cold_starts(&mut out, &rooms.cold);
    mappings::write(&mut out, &rooms.loops, &rooms.mappings);
    schedules::write(&mut out, &rooms.schedules);
    mappings::ages(&mut out, &rooms.iterator_ages);
    out
}

fn ages(out: &mut String, events: &[Counted]) {
    let name = "aws_lambda_async_event_age_milliseconds";
    declare(out, name, "From the acceptance of an event to each attempt.", "histogram");
    for counted in events {
        histogram(out, name, &labels(&counted.arn), (&AGE_BUCKETS_MS, &counted.ages), counted.age_sum_ms);
    }
}

/// One of a family: upper bounds, and how many are up to each and above the one before; there is one more of those.
fn histogram(out: &mut String, name: &str, labels: &str, (bounds, counts): (&[u64], &[u64]), sum: impl Display) {
    let bounds = bounds.iter().map(u64::to_string).chain(["+Inf".to_owned()]);
    let mut up_to = 0;
    for (bound, count) in bounds.zip(counts) {
        up_to += count;
        line(out, &format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), up_to);
    }
    line(out, &format!("{name}_sum{{{labels}}}"), sum);
    line(out, &format!("{name}_count{{{labels}}}"), up_to);
}

fn cold_starts(out: &mut String, cold: &ColdCounts) {
    let name = "hearth_cold_starts_total";
    declare(out, name, "Cold starts, by what was there ahead of need.", "counter");
    for (origin, count) in Origin::ALL.iter().zip(cold.starts) {
        line(out, &format!("{name}{{from=\"{}\"}}", origin.as_str()), count);
    }
    let name = "hearth_cold_start_microseconds_total";
    declare(out, name, "Where the time of cold starts went.", "counter");
    for (phase, took) in Phase::ALL.iter().zip(cold.phases) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        line(out, &format!("{name}{{phase=\"{}\"}}", phase.as_str()), took);
    }
}

fn declare(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, series: &str, value: impl Display) {
    let _ = writeln!(out, "{series} {value}");
}

/// Names of functions and qualifiers hold nothing that would have to be escaped.
fn labels(arn: &FunctionArn) -> String {
    let resource = match &arn.qualifier {
        Some(qualifier) => format!("{}:{qualifier}", arn.name),
        None => arn.name.to_string(),
    };
    let (account, region, name) = (&arn.account, &arn.region, &arn.name);
    format!("account=\"{account}\",region=\"{region}\",function_name=\"{name}\",resource=\"{resource}\"")
}

#[cfg(test)]
mod tests {
    use hearth_model::{AccountId, FunctionName, Qualifier, Region};

    use super::*;

    #[test]
    fn families_are_declared_before_there_is_anything_and_histograms_add_up() {
        let declared = text(&Rooms::default());
        assert_eq!(declared.lines().filter(|line| line.starts_with("# TYPE ")).count(), 42);
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
        let cold = ColdCounts { starts: [3, 0, 1], ..ColdCounts::default() };
        let loops = BTreeMap::from([(counted.arn.clone(), 3)]);
        let mapping = hearth_mappings::Counted {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            uuid: "u".to_owned(),
            events: Some(hearth_mappings::Events {
                polled: 9,
                filtered_out: 1,
                invoked: 8,
                failed: 2,
                deleted: 7,
                dropped: 0,
                delivered: 0,
            }),
            pollers: None,
        };
        let text = text(&Rooms { events: vec![counted], cold, loops, mappings: vec![mapping], ..Rooms::default() });
        let labels = "account=\"000000000000\",region=\"us-east-1\",function_name=\"f\",resource=\"f:live\"";
        for line in [
            format!("aws_lambda_async_events_received_total{{{labels}}} 7"),
            format!("aws_lambda_recursive_invocations_dropped_total{{{labels}}} 3"),
            "aws_lambda_polled_event_count_total{account=\"000000000000\",region=\"us-east-1\",event_source_mapping_uuid=\"u\"} 9"
                .to_owned(),
            format!("aws_lambda_async_event_age_milliseconds_bucket{{{labels},le=\"5\"}} 2"),
            format!("aws_lambda_async_event_age_milliseconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("aws_lambda_async_event_age_milliseconds_count{{{labels}}} 3"),
            "hearth_cold_starts_total{from=\"runtime\"} 3".to_owned(),
            "hearth_cold_start_microseconds_total{phase=\"first byte\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
