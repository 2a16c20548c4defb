//! Buckets of the embedded S3: each record an object.

use bytes::Bytes;
use hearth_events::{Delivery, Parcel};
use hearth_model::{AccountId, BoxFuture, Region};
use hearth_objects::{Caller, Objects};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Destination;
use crate::serve::s3;

/// What may stand in the path of an object as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Of an error in XML, bytes.
const ERROR_MAX: usize = 16 * 1024;

pub struct Buckets(pub Objects);

impl Destination for Buckets {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.put(delivery))
    }
}

impl Buckets {
    /// In the function's account.
    async fn put(&self, delivery: Delivery) -> Result<(), String> {
        let (json, folder, request_id, at) = match delivery.parcel {
            Parcel::Record { json, function_name, request_id, at, .. } => {
                (json, format!("async/{function_name}"), request_id, at)
            }
            Parcel::Batch { json, records, folder, request_id, at } => (with(&json, &records), folder, request_id, at),
            Parcel::DeadLetter { .. } => return Err("Hearth does not support dead letters to S3".to_owned()),
        };
        let key = key(&folder, &request_id, at);
        let path = format!("/{}/{}", delivery.target.resource, utf8_percent_encode(&key, PATH));
        let request = Request::put(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, json.len())
            .body(Full::<Bytes>::new(json))
            .map_err(|error| error.to_string())?;
        let account = AccountId::parse(&delivery.account).unwrap_or_else(AccountId::default_account);
        let region = Region::parse(&delivery.region).unwrap_or_else(Region::default_region);
        let caller = Caller { account, region, is_signed: true, origin: "http://localhost".to_owned() };
        let (head, body) = self.0.answer(&caller, request, &request_id).await.into_parts();
        if head.status.is_success() {
            return Ok(());
        }
        let said = Limited::new(body, ERROR_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Err(s3::refusal(head.status, &String::from_utf8_lossy(&said)).to_string())
    }
}

/// The record, an object, with the whole batch as its last member (recorded).
fn with(json: &[u8], records: &[u8]) -> Bytes {
    let json = json.strip_suffix(b"}").unwrap_or(json);
    [json, b",\"payload\":{\"Records\":[", records, b"]}}"].concat().into()
}

/// Recorded, but for the last part, which is random there: the event's id makes a second delivery the same object.
fn key(folder: &str, request_id: &str, at: u64) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    let moment = at.strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S");
    format!("aws/lambda/{folder}/{moment}-{request_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_recorded() {
        let key = key("async/f", "5b3c4f6e-0000-4000-8000-000000000001", 1_769_860_800_123);
        assert_eq!(key, "aws/lambda/async/f/2026/01/31/2026-01-31T12.00.00-5b3c4f6e-0000-4000-8000-000000000001");
    }
}
