//! Filters of groups: the handlers of the group `filters`.

use async_trait::async_trait;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::FiltersApi;
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;
use hearth_wire_logs::types::*;

use crate::cloudwatch::CloudWatch;
use crate::coverage::COVERAGE;
use crate::pattern::Pattern;

#[async_trait]
impl FiltersApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn test_metric_filter(
        &self,
        _cx: &Context,
        input: TestMetricFilterRequest,
    ) -> Result<TestMetricFilterResponse, Error> {
        let pattern = Pattern::parse(&input.filter_pattern.unwrap_or_default()).map_err(|error| invalid(error.0))?;
        let messages = input.log_event_messages.unwrap_or_default();
        let matches = (1_i64..).zip(messages).filter(|(_, message)| pattern.is_match(message.as_bytes()));
        let found = matches.map(|(number, message)| MetricFilterMatchRecord {
            event_number: Some(number),
            extracted_values: Some(pattern.extract(message.as_bytes())),
            event_message: Some(message),
        });
        Ok(TestMetricFilterResponse { matches: Some(found.collect()) })
    }
}
