//! The handlers of the group `event source mappings` (spec 6.1).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_events::{Service, Target as Destination};
use hearth_model::{AccountId, FunctionArn, FunctionRef, FunctionVersion, LookupError, RefError, Region};
use hearth_queues::{Facts, Sender};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::EventSourceMappingsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_conflict_exception as conflict,
    resource_in_use_exception as in_use, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::other_account;
use hearth_wire_lambda::page::Page;
use hearth_wire_lambda::types::*;

use crate::life::State;
use crate::mappings::{Live, Mappings};
use crate::parameters::{self, Asked, AskedOfStream, apply, fresh, fresh_of_stream, start};
use crate::present::configuration;
use crate::record::MappingRecord;
use crate::sqs::refused;
use crate::stream::StreamError;

/// Longest page, and the length when none is asked for (recorded).
const PAGE: usize = 100;

#[async_trait]
impl EventSourceMappingsApi for Mappings {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn create_event_source_mapping(
        &self,
        cx: &Context,
        input: CreateEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Error> {
        let source = source(cx, &input)?;
        let function = function(cx, input.function_name.as_deref())?;
        let target = self.target(&function)?;
        let is_stream = is_stream(&source);
        refuse_of_create(&input, is_stream)?;
        let before = match is_stream {
            true => fresh_of_stream(start(input.starting_position.as_deref(), input.starting_position_timestamp)?),
            false => fresh(),
        };
        let facts = match is_stream {
            true => self.stream(&source).await.map(|()| None)?,
            false => Some(self.facts(&source, &function, &target)?),
        };
        let tags = input.tags.unwrap_or_default();
        hearth_control::check_tags(&tags)?;
        let asked = Asked {
            batch_size: input.batch_size,
            window_s: input.maximum_batching_window_in_seconds,
            filters: input.filter_criteria,
            response_types: input.function_response_types,
            scaling: input.scaling_config,
            pollers: input.provisioned_poller_config,
            metrics: input.metrics_config,
            kms_key: input.kms_key_arn,
            stream: AskedOfStream {
                factor: input.parallelization_factor,
                bisect: input.bisect_batch_on_function_error,
                retries: input.maximum_retry_attempts,
                age_max_s: input.maximum_record_age_in_seconds,
                tumbling_s: input.tumbling_window_in_seconds,
                on_failure: self.on_failure(input.destination_config)?,
            },
        };
        let settings = apply(&before, asked, facts)?;
        facts.map_or(Ok(()), |facts| long_enough(&target, facts))?;
        let _turn = self.shared.turn.lock().await;
        let partition = partition(cx);
        self.only_one(&partition, &source, &function, None)?;
        let enabled = input.enabled.unwrap_or(true);
        let function = function.to_string();
        let (state, modified) = (State::of_new(enabled), self.seconds());
        let record = MappingRecord { source, function, state, enabled, modified, tags, settings };
        let live = Arc::new(Live::new(partition, uuid::Uuid::new_v4().to_string(), record));
        let answer = configuration(&live);
        self.shared.add(live).await?;
        Ok(answer)
    }

    async fn get_event_source_mapping(
        &self,
        cx: &Context,
        input: GetEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Error> {
        Ok(configuration(&*self.asked(cx, input.uuid)?))
    }

    async fn list_event_source_mappings(
        &self,
        cx: &Context,
        input: ListEventSourceMappingsRequest,
    ) -> Result<ListEventSourceMappingsResponse, Error> {
        let of = input.function_name.as_deref().map(|name| function(cx, Some(name))).transpose()?;
        let of = of.map(|arn| same(&arn));
        let page = Page::of(input.marker.as_deref(), input.max_items.or(Some(PAGE as i64)), PAGE)?;
        let mut all = self.shared.of(&partition(cx));
        all.retain(|live| {
            let record = live.record();
            let is_source = input.event_source_arn.as_ref().is_none_or(|arn| *arn == record.source);
            is_source
                && of
                    .as_ref()
                    .is_none_or(|of| FunctionArn::parse(&record.function).is_some_and(|arn| same(&arn) == *of))
        });
        let after = page.after.clone().unwrap_or_default();
        let rest = all.into_iter().skip_while(|live| live.uuid <= after);
        let (taken, next_marker) = page.take(rest, |live| live.uuid.clone());
        let shown = taken.iter().map(|live| {
            let shown = configuration(live);
            // What is encrypted with a key of the customer's is no list's to show.
            let filter_criteria = shown.filter_criteria.filter(|_| shown.kms_key_arn.is_none());
            EventSourceMappingConfiguration { filter_criteria, ..shown }
        });
        Ok(ListEventSourceMappingsResponse { event_source_mappings: Some(shown.collect()), next_marker })
    }

    async fn update_event_source_mapping(
        &self,
        cx: &Context,
        input: UpdateEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Error> {
        let live = self.asked(cx, input.uuid.clone())?;
        refuse_of_update(&input, is_stream(&live.record().source))?;
        let _turn = self.shared.turn.lock().await;
        let record = live.record();
        refuse_busy(&record, "update")?;
        let was = FunctionArn::parse(&record.function).ok_or_else(gone)?;
        let named = input.function_name.as_deref().map(|name| function(cx, Some(name))).transpose()?;
        let function = named.clone().unwrap_or(was);
        let target = self.target(&function)?;
        let facts = match is_stream(&record.source) {
            true => None,
            false => Some(self.facts(&record.source, &function, &target)?),
        };
        let asked = Asked {
            batch_size: input.batch_size,
            window_s: input.maximum_batching_window_in_seconds,
            filters: input.filter_criteria,
            response_types: input.function_response_types,
            scaling: input.scaling_config,
            pollers: input.provisioned_poller_config,
            metrics: input.metrics_config,
            kms_key: input.kms_key_arn,
            stream: AskedOfStream {
                factor: input.parallelization_factor,
                bisect: input.bisect_batch_on_function_error,
                retries: input.maximum_retry_attempts,
                age_max_s: input.maximum_record_age_in_seconds,
                tumbling_s: input.tumbling_window_in_seconds,
                on_failure: self.on_failure(input.destination_config)?,
            },
        };
        let something_else = !asked.is_empty() || named.is_some();
        let settings = apply(&record.settings, asked, facts)?;
        facts.map_or(Ok(()), |facts| long_enough(&target, facts))?;
        self.only_one(&live.partition, &record.source, &function, Some(&live.uuid))?;
        let enabled = input.enabled.unwrap_or(record.enabled);
        let changed = MappingRecord {
            function: function.to_string(),
            state: State::told(record.enabled, enabled, something_else),
            enabled,
            modified: self.seconds(),
            settings,
            ..(*record).clone()
        };
        let state = changed.state;
        self.shared.keep(&live, changed).await?;
        Ok(EventSourceMappingConfiguration { state: Some(state.as_str().to_owned()), ..configuration(&live) })
    }

    async fn delete_event_source_mapping(
        &self,
        cx: &Context,
        input: DeleteEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Error> {
        let live = self.asked(cx, input.uuid)?;
        let _turn = self.shared.turn.lock().await;
        let record = live.record();
        refuse_busy(&record, "delete")?;
        let record = MappingRecord { state: State::Deleting, modified: self.seconds(), ..(*record).clone() };
        self.shared.keep(&live, record).await?;
        Ok(EventSourceMappingConfiguration { state: Some(State::Deleting.as_str().to_owned()), ..configuration(&live) })
    }
}

impl Mappings {
    fn asked(&self, cx: &Context, uuid: Option<String>) -> Result<Arc<Live>, Error> {
        self.shared.find(&partition(cx), &uuid.unwrap_or_default()).ok_or_else(gone)
    }

    fn target(&self, function: &FunctionArn) -> Result<Arc<FunctionVersion>, Error> {
        let known = self.shared.ports.functions.known(function).map_err(|error| match error {
            LookupError::NotFound(_) => invalid("Function does not exist"),
            error @ (LookupError::NotReady(_) | LookupError::Idle(_)) => conflict(error.to_string()),
        })?;
        // No source says whom a batch is for.
        if known.per_tenant {
            return Err(invalid("Event source mappings are not supported for functions with tenancy configuration."));
        }
        Ok(known)
    }

    /// What is to be known of a queue that the function's role may poll.
    fn facts(&self, source: &str, function: &FunctionArn, target: &FunctionVersion) -> Result<Facts, Error> {
        let account = function.account.to_string();
        let sender = Sender::Role { account: &account, arn: &target.role };
        self.shared.ports.queues.facts(sender, source).map_err(|(action, error)| match &*error.code {
            "AccessDenied" => {
                invalid(format!("The function execution role does not have permissions to call {action} on SQS"))
            }
            _ => invalid(refused(action, &error)),
        })
    }

    /// Whether there is such a stream.
    async fn stream(&self, source: &str) -> Result<(), Error> {
        let Some(streams) = &self.shared.ports.streams else {
            return unsupported("a source of Kinesis without the setting endpoints.kinesis");
        };
        streams.facts(source.to_owned()).await.map(drop).map_err(|error| match error {
            StreamError::NotFound(_) => invalid(format!("Stream not found: {source}")),
            error => invalid(format!("Error occurred while DescribeStreamSummary. {error}")),
        })
    }

    /// Where records that are given up go; `Some(None)` where a configuration is given that names nothing.
    fn on_failure(&self, config: Option<DestinationConfig>) -> Result<Option<Option<String>>, Error> {
        let Some(config) = config else { return Ok(None) };
        let arn = config.on_failure.and_then(|on| on.destination).filter(|arn| !arn.is_empty());
        let Some(arn) = arn else { return Ok(Some(None)) };
        let target = Destination::parse(&arn)
            .filter(|target| matches!(target.service, Service::Sqs | Service::Sns | Service::S3));
        let target = target.ok_or_else(|| invalid(format!("Invalid destination: {arn}")))?;
        match self.shared.ports.couriers.unable(target.service) {
            Some(why) => Err(Error::not_supported(format_args!("destinations of {why}"))),
            None => Ok(Some(Some(arn))),
        }
    }

    fn only_one(&self, partition: &str, source: &str, function: &FunctionArn, but: Option<&str>) -> Result<(), Error> {
        let is_same = |live: &&Arc<Live>| {
            let record = live.record();
            but != Some(live.uuid.as_str())
                && record.source == source
                && FunctionArn::parse(&record.function).is_some_and(|arn| same(&arn) == same(function))
        };
        match self.shared.of(partition).iter().find(is_same) {
            Some(other) if is_stream(source) => Err(conflict(format!(
                "The event source arn (\" {source} \") and function (\" {} \") provided mapping already exists. Please \
                 update or delete the existing mapping with UUID {}",
                function.name, other.uuid
            ))),
            Some(other) => Err(conflict(format!(
                "An event source mapping with SQS arn (\" {source} \") and function (\" {} \") already exists. Please update \
                 or delete the existing mapping with UUID {}",
                function.name, other.uuid
            ))),
            None => Ok(()),
        }
    }

    fn seconds(&self) -> f64 {
        self.shared.now() as f64 / 1000.0
    }
}

fn unsupported<T>(what: &str) -> Result<T, Error> {
    Err(Error::not_supported(format_args!("lambda:CreateEventSourceMapping with {what}")))
}

fn is_stream(source: &str) -> bool {
    source.split(':').nth(2) == Some("kinesis")
}

/// The queue or stream that is to be read. Other sources are refused by name.
fn source(cx: &Context, input: &CreateEventSourceMappingRequest) -> Result<String, Error> {
    if input.self_managed_event_source.is_some() {
        return unsupported("SelfManagedEventSource");
    }
    let arn = input.event_source_arn.clone().ok_or_else(|| invalid("Unrecognized event source."))?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let (service, region) = match parts.as_slice() {
        ["arn", _, service, region, ..] => (*service, *region),
        _ => return Err(invalid("Unrecognized event source.")),
    };
    match service {
        "sqs" if region == cx.region => Ok(arn),
        "kinesis" if arn.contains("/consumer/") => unsupported("a consumer of Kinesis with enhanced fan-out"),
        "kinesis" if parts.last().is_none_or(|name| !name.starts_with("stream/")) => {
            Err(invalid("Unrecognized event source."))
        }
        "kinesis" if region == cx.region => Ok(arn),
        "sqs" | "kinesis" => Err(invalid(format!("The event source {arn} is not in this region ({}).", cx.region))),
        "dynamodb" => unsupported("a source of DynamoDB"),
        "kafka" => unsupported("a source of Kafka"),
        "mq" => unsupported("a source of Amazon MQ"),
        "rds" => unsupported("a source of DocumentDB"),
        _ => Err(invalid("Unrecognized event source.")),
    }
}

fn refuse_of_create(input: &CreateEventSourceMappingRequest, is_stream: bool) -> Result<(), Error> {
    if !is_stream && (input.starting_position.is_some() || input.starting_position_timestamp.is_some()) {
        return Err(invalid("StartingPosition is not valid for SQS event sources."));
    }
    parameters::refuse_destination(&input.destination_config, is_stream)?;
    parameters::refuse(&[
        (input.logging_config.is_some(), "LoggingConfig"),
        (!is_stream && input.parallelization_factor.is_some(), "ParallelizationFactor"),
        (!is_stream && input.maximum_record_age_in_seconds.is_some(), "MaximumRecordAgeInSeconds"),
        (!is_stream && input.bisect_batch_on_function_error.is_some(), "BisectBatchOnFunctionError"),
        (!is_stream && input.maximum_retry_attempts.is_some(), "MaximumRetryAttempts"),
        (!is_stream && input.tumbling_window_in_seconds.is_some(), "TumblingWindowInSeconds"),
        (input.topics.is_some(), "Topics"),
        (input.queues.is_some(), "Queues"),
        (input.source_access_configurations.is_some(), "SourceAccessConfigurations"),
        (input.amazon_managed_kafka_event_source_config.is_some(), "AmazonManagedKafkaEventSourceConfig"),
        (input.self_managed_kafka_event_source_config.is_some(), "SelfManagedKafkaEventSourceConfig"),
        (input.document_db_event_source_config.is_some(), "DocumentDBEventSourceConfig"),
    ])
}

fn refuse_of_update(input: &UpdateEventSourceMappingRequest, is_stream: bool) -> Result<(), Error> {
    parameters::refuse_destination(&input.destination_config, is_stream)?;
    parameters::refuse(&[
        (input.logging_config.is_some(), "LoggingConfig"),
        (!is_stream && input.parallelization_factor.is_some(), "ParallelizationFactor"),
        (!is_stream && input.maximum_record_age_in_seconds.is_some(), "MaximumRecordAgeInSeconds"),
        (!is_stream && input.bisect_batch_on_function_error.is_some(), "BisectBatchOnFunctionError"),
        (!is_stream && input.maximum_retry_attempts.is_some(), "MaximumRetryAttempts"),
        (!is_stream && input.tumbling_window_in_seconds.is_some(), "TumblingWindowInSeconds"),
        (input.source_access_configurations.is_some(), "SourceAccessConfigurations"),
        (input.amazon_managed_kafka_event_source_config.is_some(), "AmazonManagedKafkaEventSourceConfig"),
        (input.self_managed_kafka_event_source_config.is_some(), "SelfManagedKafkaEventSourceConfig"),
        (input.document_db_event_source_config.is_some(), "DocumentDBEventSourceConfig"),
    ])
}

fn refuse_busy(record: &MappingRecord, verb: &str) -> Result<(), Error> {
    match record.state.is_busy() {
        true => Err(in_use(format!("Cannot {verb} the event source mapping because it is in use."))),
        false => Ok(()),
    }
}

/// Seen in reports of users.
fn long_enough(target: &FunctionVersion, queue: Facts) -> Result<(), Error> {
    let timeout = target.timeout;
    match queue.visibility < timeout {
        true => Err(invalid(format!(
            "Queue visibility timeout: {} seconds is less than Function timeout: {} seconds",
            queue.visibility.as_secs(),
            Duration::as_secs(&timeout)
        ))),
        false => Ok(()),
    }
}

fn gone() -> Error {
    not_found("The resource you requested does not exist.")
}

fn partition(cx: &Context) -> String {
    format!("{}/{}", cx.account, cx.region)
}

/// The caller's function, qualified as it is named: `$LATEST` stays where it was said (recorded).
fn function(cx: &Context, name: Option<&str>) -> Result<FunctionArn, Error> {
    let account = AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account);
    let region = Region::parse(&cx.region).unwrap_or_else(Region::default_region);
    let arn = FunctionRef::parse(name.unwrap_or_default()).and_then(|named| named.resolve(&account, &region, None));
    arn.map_err(|error| match error {
        RefError::OtherRegion { .. } => not_found(error.to_string()),
        RefError::OtherAccount => other_account(),
        RefError::NameTooLong { .. } => invalid("Function does not exist"),
        RefError::QualifierMismatch | RefError::Malformed => invalid(error.to_string()),
    })
}

/// `$LATEST` and nothing are the same function.
fn same(arn: &FunctionArn) -> FunctionArn {
    match &arn.qualifier {
        Some(qualifier) if qualifier.is_latest() => arn.unqualified(),
        _ => arn.clone(),
    }
}
