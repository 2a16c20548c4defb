//! What became of log events: those that were lost, and what filters of their groups made of the others.

use std::collections::HashSet;

use hearth_logs::{Counted, Series};
use hearth_observe::Missing;

use super::{declare, line};

pub fn write(out: &mut String, dropped: &Missing, filters: &Counted) {
    let counters = [
        ("log_events_dropped", "Log events that could not be kept.", dropped.events),
        ("log_bytes_dropped", "Bytes of the log events that could not be kept.", dropped.bytes),
        ("log_filter_batches_missed", "Batches of log events that came too fast for filters.", filters.missed),
        ("subscription_events_dropped", "Log events that their subscriber was not sent.", filters.unsent),
        ("log_metric_values_dropped", "Values of metric filters that make too many series.", filters.refused),
    ];
    for (name, help, number) in counters {
        let name = format!("hearth_{name}_total");
        declare(out, &name, help, "counter");
        line(out, &name, number);
    }
    let name = "hearth_log_metric";
    declare(out, name, "Values of metric filters of log groups.", "summary");
    for (series, total) in &filters.series {
        let labels = labels(series);
        line(out, &format!("{name}_sum{{{labels}}}"), total.sum);
        line(out, &format!("{name}_count{{{labels}}}"), total.count);
    }
}

/// Dimensions are labels of their own, so that they can be summed over.
fn labels(series: &Series) -> String {
    let own = [
        ("account", Some(&series.account)),
        ("region", Some(&series.region)),
        ("namespace", Some(&series.namespace)),
        ("metric", Some(&series.metric)),
        ("unit", series.unit.as_ref()),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut taken = HashSet::new();
    let dimensions = series.dimensions.iter().map(|(name, value)| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let label = format!("dimension_{}", name.chars().map(plain).collect::<String>());
        // Names that differ in other characters only are told apart by their order.
        let mut others = (2..).map(|number| format!("{label}_{number}"));
        let mut label = label.clone();
        while !taken.insert(label.clone()) {
            label = others.next().unwrap_or_default();
        }
        (label, value)
    });
    let labels = own.chain(dimensions).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_by_its_dimensions_whatever_they_hold() {
        let dimensions = [("Path-1", "a\"b\\c\nd"), ("path_1", "x")];
        let series = Series {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            namespace: "My App".to_owned(),
            metric: "Latency".to_owned(),
            unit: Some("Milliseconds".to_owned()),
            dimensions: dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let expected =
            r#"account="000000000000",region="us-east-1",namespace="My App",metric="Latency",unit="Milliseconds","#;
        let dimensions = r#"dimension_path_1="a\"b\\c\nd",dimension_path_1_2="x""#;
        assert_eq!(labels(&series), format!("{expected}{dimensions}"));
    }
}
