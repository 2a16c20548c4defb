//! Records that mappings have read, and loops that were cut (spec 10.1).

use std::collections::BTreeMap;

use hearth_mappings::{AGE_BUCKETS_MS, Ages, Counted, Events};
use hearth_model::FunctionArn;

use super::{declare, histogram, labels, line};

/// A number that tells what became of records: its name without prefix and suffix, what it counts, and where it is.
type OfRecords = (&'static str, &'static str, fn(&Events) -> u64);

const RECORDS: [OfRecords; 7] = [
    ("polled_event_count", "Records that were read from the source of a mapping.", |events| events.polled),
    ("filtered_out_event_count", "Records that no filter of a mapping wanted.", |events| events.filtered_out),
    ("invoked_event_count", "Records that a function was run with.", |events| events.invoked),
    ("failed_invoke_event_count", "Records of runs that failed with them.", |events| events.failed),
    ("dropped_event_count", "Records of streams that were given up.", |events| events.dropped),
    (
        "on_failure_destination_delivered_event_count",
        "Records of streams that were given up, and told of to a destination.",
        |events| events.delivered,
    ),
    ("deleted_event_count", "Records that were deleted from their queue.", |events| events.deleted),
];

/// How far functions are behind their streams.
pub fn ages(out: &mut String, all: &BTreeMap<FunctionArn, Ages>) {
    let name = "aws_lambda_iterator_age_milliseconds";
    declare(out, name, "Age of the last record of a batch of a stream, when its function is run with it.", "histogram");
    for (arn, ages) in all {
        let counts = (AGE_BUCKETS_MS.as_slice(), ages.counts.as_slice());
        histogram(out, name, &labels(arn), counts, ages.sum_ms);
    }
}

pub fn write(out: &mut String, loops: &BTreeMap<FunctionArn, u64>, mappings: &[Counted]) {
    let name = "aws_lambda_recursive_invocations_dropped_total";
    declare(out, name, "Runs that were stopped because their function was in a loop.", "counter");
    for (arn, count) in loops {
        line(out, &format!("{name}{{{}}}", labels(arn)), *count);
    }
    for (name, help, number) in RECORDS {
        let name = format!("aws_lambda_{name}_total");
        declare(out, &name, help, "counter");
        for (mapping, events) in mappings.iter().filter_map(|mapping| Some((mapping, mapping.events.as_ref()?))) {
            line(out, &format!("{name}{{{}}}", of(mapping)), number(events));
        }
    }
    let name = "aws_lambda_provisioned_pollers";
    declare(out, name, "Pollers that are at work, of mappings that have them provisioned.", "gauge");
    for (mapping, pollers) in mappings.iter().filter_map(|mapping| Some((mapping, mapping.pollers?))) {
        line(out, &format!("{name}{{{}}}", of(mapping)), pollers);
    }
}

fn of(mapping: &Counted) -> String {
    let Counted { account, region, uuid, .. } = mapping;
    format!("account=\"{account}\",region=\"{region}\",event_source_mapping_uuid=\"{uuid}\"")
}
