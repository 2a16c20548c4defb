//! A mapping as AWS answers it (spec 6.1, recorded fields of a new one).

use hearth_model::{AccountId, Region, ResourceArn};
use hearth_wire_lambda::types::*;

use crate::filter;
use crate::mappings::Live;
use crate::record::Stream;
use crate::shard::Position;

/// `Lambda` would be another one; nothing here changes of itself.
const REASON: &str = "USER_INITIATED";
const REASON_OF_STREAMS: &str = "User action";

pub fn configuration(live: &Live) -> EventSourceMappingConfiguration {
    let record = live.record();
    let settings = &record.settings;
    let types = if settings.reports { vec!["ReportBatchItemFailures".to_owned()] } else { Vec::new() };
    let pollers = settings.pollers.map(|pollers| ProvisionedPollerConfig {
        minimum_pollers: Some(i64::from(pollers.min)),
        maximum_pollers: Some(i64::from(pollers.max)),
        poller_group_name: None,
    });
    let streams = settings.stream.as_ref().map(of_stream).unwrap_or_default();
    EventSourceMappingConfiguration {
        uuid: Some(live.uuid.clone()),
        batch_size: Some(i64::from(settings.batch_size)),
        maximum_batching_window_in_seconds: Some(i64::from(settings.window_s)),
        event_source_arn: Some(record.source.clone()),
        event_source_mapping_arn: Some(arn(live)),
        function_arn: Some(record.function.clone()),
        last_modified: Some(record.modified),
        last_processing_result: if settings.stream.is_some() { Some(live.last_result()) } else { live.problem() },
        state: Some(record.state.as_str().to_owned()),
        state_transition_reason: Some(if settings.stream.is_some() { REASON_OF_STREAMS } else { REASON }.to_owned()),
        function_response_types: Some(types),
        filter_criteria: filter::shown(&settings.filters),
        kms_key_arn: settings.kms_key.clone(),
        metrics_config: settings
            .metrics
            .clone()
            .map(|metrics| EventSourceMappingMetricsConfig { metrics: Some(metrics) }),
        scaling_config: settings.concurrency_max.map(|max| ScalingConfig { maximum_concurrency: Some(i64::from(max)) }),
        provisioned_poller_config: pollers,
        ..streams
    }
}

/// Members that mappings of queues have not.
fn of_stream(stream: &Stream) -> EventSourceMappingConfiguration {
    let (position, at) = match stream.start {
        Position::Latest => ("LATEST", None),
        Position::Moment(at) => ("AT_TIMESTAMP", Some(at as f64 / 1000.0)),
        Position::Horizon | Position::After(_) => ("TRIM_HORIZON", None),
    };
    let destination = stream.on_failure.clone();
    EventSourceMappingConfiguration {
        starting_position: Some(position.to_owned()),
        starting_position_timestamp: at,
        parallelization_factor: Some(i64::from(stream.factor)),
        maximum_record_age_in_seconds: Some(stream.age_max_s.map_or(-1, i64::from)),
        maximum_retry_attempts: Some(stream.retries.map_or(-1, i64::from)),
        bisect_batch_on_function_error: Some(stream.bisect),
        tumbling_window_in_seconds: Some(i64::from(stream.tumbling_s)),
        destination_config: Some(DestinationConfig { on_success: None, on_failure: Some(OnFailure { destination }) }),
        ..EventSourceMappingConfiguration::default()
    }
}

pub fn arn(live: &Live) -> String {
    let (account, region) = live.partition.split_once('/').unwrap_or_default();
    let account = AccountId::parse(account).unwrap_or_else(AccountId::default_account);
    let region = Region::parse(region).unwrap_or_else(Region::default_region);
    ResourceArn { region, account, kind: "event-source-mapping", name: &live.uuid }.to_string()
}
