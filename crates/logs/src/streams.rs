//! Log streams: the handlers of the group `streams`.

use async_trait::async_trait;
use hearth_model::LogStreamName;
use hearth_observe::{Stream, StreamMark, StreamOrder};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::StreamsApi;
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;
use hearth_wire_logs::types::*;

use crate::cloudwatch::{CloudWatch, Kind, failed, no_group, refused};
use crate::coverage::COVERAGE;
use crate::{names, page};

/// Streams of a page, unless the client says how many.
const USUAL: usize = 50;

#[async_trait]
impl StreamsApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_log_stream(&self, cx: &Context, input: CreateLogStreamRequest) -> Result<(), Error> {
        let group = names::group(cx, &input.log_group_name.unwrap_or_default());
        let stream = LogStreamName::named(&input.log_stream_name.unwrap_or_default());
        self.logs.create_stream(group, stream).await.map_err(refused(Kind::Stream))
    }

    async fn delete_log_stream(&self, cx: &Context, input: DeleteLogStreamRequest) -> Result<(), Error> {
        let group = names::group(cx, &input.log_group_name.unwrap_or_default());
        let stream = LogStreamName::named(&input.log_stream_name.unwrap_or_default());
        self.logs.delete_stream(group, stream).await.map_err(refused(Kind::Stream))
    }

    async fn describe_log_streams(
        &self,
        cx: &Context,
        input: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, Error> {
        let name = names::named(cx, input.log_group_name.as_deref(), input.log_group_identifier.as_deref())?;
        let descending = input.descending.unwrap_or(false);
        let order = match input.order_by.as_deref() {
            Some("LastEventTime") => StreamOrder::LastEvent { descending },
            _ => StreamOrder::Name { descending },
        };
        if matches!(order, StreamOrder::LastEvent { .. }) && input.log_stream_name_prefix.is_some() {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        let after: Option<StreamMark> = input.next_token.as_deref().map(page::mark).transpose()?;
        let group = self.logs.group(&name).await.map_err(failed)?.ok_or_else(no_group)?;
        let size = page::size(input.limit, USUAL);
        let prefix = input.log_stream_name_prefix.unwrap_or_default();
        let found = self.logs.streams(group.id, prefix, order, after, size + 1).await;
        let mut streams = found.map_err(failed)?;
        let more = streams.len() > size;
        streams.truncate(size);
        let next_token = streams.last().filter(|_| more).map(|last| page::token(&StreamMark::of(last)));
        let described = |stream: &Stream| LogStream {
            log_stream_name: Some(stream.name.clone()),
            creation_time: Some(stream.created),
            first_event_timestamp: stream.first,
            last_event_timestamp: stream.last,
            last_ingestion_time: stream.ingested,
            upload_sequence_token: Some(SEQUENCE_TOKEN.to_owned()),
            arn: Some(names::stream_arn(&name, &stream.name)),
            // As AWS has answered it since 2019.
            stored_bytes: Some(0),
        };
        Ok(DescribeLogStreamsResponse { log_streams: Some(streams.iter().map(described).collect()), next_token })
    }
}

/// Sequence tokens are accepted whatever they say, and mean nothing any more.
pub const SEQUENCE_TOKEN: &str = "49039859593146665283320325534190312396183011113440404512";
