//! A Kinesis at the endpoint that the configuration names, as its client: JSON 1.1, over connections that are kept.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hearth_mappings::{Batch, Given, Position, ShardFacts, StreamError, StreamFacts, Streams};
use hearth_model::{BoxFuture, Clock};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::signer::{Asked, Signer, hash};
use crate::settings::ServiceEndpoint;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to come about, and how many are kept when they have nothing to do: as many as streams are
/// read at one time, and some for looks.
const CONNECT: Duration = Duration::from_secs(5);
const IDLE_MAX: usize = 8;
/// Longest answer that is read, bytes: 10 MB of records in base64, and what is around each of them.
const ANSWER_MAX: usize = 24 << 20;
/// Pages of a list of shards, of 1,000 each.
const PAGES_MAX: usize = 20;
/// Of records, when the endpoint does not say: the shortest of Kinesis.
const RETENTION_HOURS: u64 = 24;

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub struct Kinesis {
    endpoint: ServiceEndpoint,
    clock: Arc<dyn Clock>,
    /// Made when it is needed first.
    http: OnceLock<Http>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    stream_description_summary: Summary,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    retention_period_hours: Option<u64>,
    /// Seconds.
    stream_creation_timestamp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    shards: Vec<Shard>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shard {
    shard_id: String,
    parent_shard_id: Option<String>,
    adjacent_parent_shard_id: Option<String>,
    sequence_number_range: Option<Range>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Range {
    ending_sequence_number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Iterator {
    shard_iterator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    #[serde(default)]
    records: Vec<Record>,
    next_shard_iterator: Option<String>,
    #[serde(default)]
    millis_behind_latest: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    sequence_number: String,
    partition_key: String,
    data: String,
    /// Seconds.
    approximate_arrival_timestamp: Option<f64>,
}

impl Streams for Kinesis {
    fn facts(&self, stream: String) -> BoxFuture<'_, Result<StreamFacts, StreamError>> {
        Box::pin(async move {
            let described: Described = self.ask("DescribeStreamSummary", &stream, of(&stream)).await?;
            let summary = described.stream_description_summary;
            let hours = summary.retention_period_hours.unwrap_or(RETENTION_HOURS);
            Ok(StreamFacts {
                retention: hours.saturating_mul(3_600_000),
                created: summary.stream_creation_timestamp.map(|at| (at * 1000.0).round() as u64),
            })
        })
    }

    fn shards(&self, stream: String) -> BoxFuture<'_, Result<Vec<ShardFacts>, StreamError>> {
        Box::pin(async move {
            let (mut all, mut ask) = (Vec::new(), of(&stream));
            for _ in 0..PAGES_MAX {
                let listed: Listed = self.ask("ListShards", &stream, ask).await?;
                all.extend(listed.shards.into_iter().map(|shard| ShardFacts {
                    id: shard.shard_id,
                    parents: shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect(),
                    is_closed: shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some()),
                }));
                match listed.next_token {
                    Some(token) => ask = json!({"NextToken": token}),
                    None => return Ok(all),
                }
            }
            Err(StreamError::Failed(format!("it has more than {} shards", PAGES_MAX * 1_000)))
        })
    }

    fn iterator(&self, stream: String, shard: String, from: Position) -> BoxFuture<'_, Result<String, StreamError>> {
        Box::pin(async move {
            let mut ask = of(&stream);
            ask["ShardId"] = shard.into();
            let (kind, member) = match from {
                Position::Horizon => ("TRIM_HORIZON", None),
                Position::Latest => ("LATEST", None),
                Position::Moment(at) => ("AT_TIMESTAMP", Some(("Timestamp", json!(at as f64 / 1000.0)))),
                Position::After(sequence) => {
                    ("AFTER_SEQUENCE_NUMBER", Some(("StartingSequenceNumber", sequence.0.into())))
                }
            };
            ask["ShardIteratorType"] = kind.into();
            if let Some((name, value)) = member {
                ask[name] = value;
            }
            let iterator: Iterator = self.ask("GetShardIterator", &stream, ask).await?;
            Ok(iterator.shard_iterator)
        })
    }

    fn read(&self, stream: String, iterator: String, limit: usize) -> BoxFuture<'_, Result<Batch, StreamError>> {
        Box::pin(async move {
            let ask = json!({"ShardIterator": iterator, "Limit": limit});
            let got: Got = self.ask("GetRecords", &stream, ask).await?;
            // The member is optional.
            let now = self.clock.epoch_ms();
            let given = |record: Record| Given {
                sequence: record.sequence_number,
                key: record.partition_key,
                data: record.data,
                arrived: record.approximate_arrival_timestamp.map_or(now, |at| (at * 1000.0).round() as u64),
            };
            let records = got.records.into_iter().map(given).collect();
            Ok(Batch { records, next: got.next_shard_iterator, behind: got.millis_behind_latest })
        })
    }
}

/// What a request says of a stream, by its ARN: not every endpoint that speaks Kinesis looks at both.
fn of(stream: &str) -> Value {
    let name = stream.rsplit_once("stream/").map_or(stream, |(_, name)| name);
    json!({"StreamName": name, "StreamARN": stream})
}

fn failed(error: impl std::fmt::Display) -> StreamError {
    StreamError::Failed(error.to_string())
}

impl Kinesis {
    pub fn new(endpoint: ServiceEndpoint, clock: Arc<dyn Clock>) -> Self {
        Kinesis { endpoint, clock, http: OnceLock::new() }
    }

    /// Its connections are kept: streams are asked all the time.
    fn http(&self) -> Result<&Http, StreamError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let tls = (*hearth_tls::client().map_err(failed)?).clone();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector);
        Ok(self.http.get_or_init(|| http))
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &str, stream: &str, ask: Value) -> Result<T, StreamError> {
        let late = |_| failed(format!("Kinesis did not answer within {} s", PATIENCE.as_secs()));
        let answer = tokio::time::timeout(PATIENCE, self.exchange(operation, stream, ask)).await.map_err(late)??;
        serde_json::from_slice(&answer).map_err(|error| failed(format!("Kinesis said what cannot be read: {error}")))
    }

    async fn exchange(&self, operation: &str, stream: &str, ask: Value) -> Result<Bytes, StreamError> {
        let body = Bytes::from(ask.to_string());
        let (host, target) = (self.endpoint.address.authority(), format!("Kinesis_20131202.{operation}"));
        let mut request = Request::post(format!("{}/", self.endpoint.address))
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, CONTENT_TYPE);
        request = request.header("x-amz-target", &target);
        if let Some((key, secret)) = &self.endpoint.credentials {
            let region = stream.split(':').nth(3).unwrap_or_default();
            let signer = Signer { region, key, secret: secret.reveal(), at: self.clock.wall() };
            let headers = &[("content-type", CONTENT_TYPE), ("host", &*host)];
            let body = &hash(&body);
            let asked = Asked { service: "kinesis", method: "POST", path: "/", query: "", headers, body };
            request = request.header(header::AUTHORIZATION, signer.authorization(&asked));
            request = request.header("x-amz-date", signer.date());
        }
        let request = request.body(Full::new(body)).map_err(failed)?;
        let unreachable = |error: hyper_util::client::legacy::Error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            failed(format!("{} does not answer ({why})", self.endpoint.address))
        };
        let answer = self.http()?.request(request).await.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(failed)?.to_bytes();
        match head.status.is_success() {
            true => Ok(body),
            false => Err(refusal(&body, stream).unwrap_or_else(|| failed(head.status))),
        }
    }
}

fn refusal(body: &[u8], stream: &str) -> Option<StreamError> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let kind = said["__type"].as_str()?.rsplit('#').next()?;
    let message = said["message"].as_str().or(said["Message"].as_str()).unwrap_or_default();
    Some(match kind {
        "ResourceNotFoundException" => StreamError::NotFound(stream.to_owned()),
        "ExpiredIteratorException" => StreamError::Expired,
        _ => StreamError::Failed(format!("Kinesis Error Code: {kind}. Kinesis Error Message: {message}")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hearth_model::SystemClock;
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::settings::Value as _;

    #[tokio::test]
    async fn a_connection_is_kept_and_another_made_when_it_has_ended() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let (count, end) = (connections.clone(), accepted.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let service = hyper::service::service_fn(|_| async {
                    let body =
                        r#"{"StreamDescriptionSummary":{"RetentionPeriodHours":48,"StreamCreationTimestamp":1.5}}"#;
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(Bytes::from_static(
                        body.as_bytes(),
                    ))))
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let end = end.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serving => {}
                        () = end.notified() => {}
                    }
                });
            }
        });
        let endpoint = <Option<ServiceEndpoint>>::parse(&format!("http://key:secret@{address}")).unwrap().unwrap();
        let kinesis = Kinesis::new(endpoint, Arc::new(SystemClock));
        let ask = || kinesis.facts("arn:aws:kinesis:eu-west-1:1:stream/s".to_owned());
        for _ in 0..5 {
            let expected = StreamFacts { retention: 48 * 3_600_000, created: Some(1_500) };
            assert_eq!(ask().await.unwrap(), expected);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        accepted.notify_waiters();
        tokio::task::yield_now().await;
        ask().await.unwrap();
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn refusals_are_told_apart() {
        let said = |body: &str| refusal(body.as_bytes(), "s").map(|error| error.to_string());
        assert_eq!(said(r#"{"__type":"ResourceNotFoundException"}"#).as_deref(), Some("Stream not found: s"));
        let expired = said(r#"{"__type":"com.amazonaws.kinesis#ExpiredIteratorException","message":"m"}"#);
        assert_eq!(expired.as_deref(), Some("the iterator has expired"));
        let slow = said(r#"{"__type":"ProvisionedThroughputExceededException","message":"m"}"#);
        assert!(
            slow.is_some_and(|slow| slow.ends_with("ProvisionedThroughputExceededException. Kinesis Error Message: m"))
        );
        assert_eq!(said("<html>"), None);
    }
}
