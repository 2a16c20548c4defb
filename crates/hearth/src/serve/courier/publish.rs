//! Topics and event buses, at endpoints that the configuration names: one request each.

use std::sync::Arc;

use bytes::Bytes;
use hearth_events::{Delivery, Parcel};
use hearth_model::{BoxFuture, Clock};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Destination;
use crate::serve::s3;
use crate::serve::signer::{Asked, Signer, hash};
use crate::settings::ServiceEndpoint;

/// Longest answer that is read, bytes.
const ANSWER_MAX: usize = 64 * 1024;

pub struct Publisher {
    pub endpoint: ServiceEndpoint,
    pub clock: Arc<dyn Clock>,
}

/// SNS.
pub struct Topics(pub Publisher);

/// EventBridge.
pub struct Buses(pub Publisher);

impl Destination for Topics {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.publish(delivery))
    }
}

impl Destination for Buses {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.put_event(delivery))
    }
}

impl Topics {
    async fn publish(&self, delivery: Delivery) -> Result<(), String> {
        let form = message(&delivery);
        let said = self.0.ask("sns", "application/x-www-form-urlencoded", None, form.into(), &delivery).await;
        said.map(|_| ())
    }
}

impl Buses {
    async fn put_event(&self, delivery: Delivery) -> Result<(), String> {
        let Some(entry) = event(&delivery) else {
            return Err("Hearth does not support this to EventBridge".to_owned());
        };
        let (target, entry) = (Some("AWSEvents.PutEvents"), entry.to_string());
        let said = self.0.ask("events", "application/x-amz-json-1.1", target, entry.into(), &delivery).await?;
        let answer: Value = serde_json::from_slice(&said).map_err(|error| error.to_string())?;
        match answer["FailedEntryCount"].as_u64() {
            None | Some(0) => Ok(()),
            Some(_) => Err(answer["Entries"][0]["ErrorMessage"].as_str().unwrap_or("the event was refused").to_owned()),
        }
    }
}

impl Publisher {
    async fn ask(
        &self,
        service: &str,
        content_type: &str,
        target: Option<&str>,
        body: Bytes,
        delivery: &Delivery,
    ) -> Result<Bytes, String> {
        let host = self.endpoint.address.authority();
        let mut request = Request::post("/").header(header::HOST, &host).header(header::CONTENT_TYPE, content_type);
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        if let Some((key, secret)) = &self.endpoint.credentials {
            let region = if delivery.target.region.is_empty() { &delivery.region } else { &delivery.target.region };
            let signer = Signer { region, key, secret: secret.reveal(), at: self.clock.wall() };
            let headers = &[("content-type", content_type), ("host", &*host)];
            let asked = Asked { service, method: "POST", path: "/", query: "", headers, body: &hash(&body) };
            request = request.header(header::AUTHORIZATION, signer.authorization(&asked));
            request = request.header("x-amz-date", signer.date());
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let (mut sender, connection) = self.endpoint.address.connect().await.map_err(|error| error.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| error.to_string())?.to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            Err(s3::refusal(head.status, &String::from_utf8_lossy(&body)).to_string())
        };
        let answered = answered.await;
        connection.abort();
        answered
    }
}

fn message(delivery: &Delivery) -> String {
    let mut form = vec![
        ("Action".to_owned(), "Publish"),
        ("Version".to_owned(), "2010-03-31"),
        ("TopicArn".to_owned(), delivery.target.arn.as_str()),
    ];
    let text;
    match &delivery.parcel {
        Parcel::Record { json, .. } | Parcel::Batch { json, .. } => {
            text = String::from_utf8_lossy(json);
            form.push(("Message".to_owned(), &text));
        }
        Parcel::DeadLetter { body, request_id, error_code, error_message } => {
            text = String::from_utf8_lossy(body);
            form.push(("Message".to_owned(), &text));
            let attributes = [
                ("RequestID", "String", request_id),
                ("ErrorCode", "Number", error_code),
                ("ErrorMessage", "String", error_message),
            ];
            for (number, (name, kind, value)) in attributes.into_iter().enumerate() {
                let entry = format!("MessageAttributes.entry.{}", number + 1);
                form.push((format!("{entry}.Name"), name));
                form.push((format!("{entry}.Value.DataType"), kind));
                form.push((format!("{entry}.Value.StringValue"), value));
            }
        }
    }
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

/// As recorded (spec 5.4).
fn event(delivery: &Delivery) -> Option<Value> {
    let bus = &delivery.target.arn;
    let Parcel::Record { json, success, function_arn, .. } = &delivery.parcel else { return None };
    let became = if *success { "Success" } else { "Failure" };
    Some(json!({"Entries": [{
        "Source": "lambda",
        "DetailType": format!("Lambda Function Invocation Result - {became}"),
        "Detail": String::from_utf8_lossy(json),
        "EventBusName": bus,
        "Resources": [bus, function_arn],
        "TraceHeader": delivery.trace,
    }]}))
}
