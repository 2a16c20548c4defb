//! What runtimes post: responses and errors, made into [`Answer`]s.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{BodyError, ErrorType, RESPONSE_PAYLOAD_MAX};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::protocol::Answer;

/// Bytes beyond the limit that are read and thrown away, so that a client that writes before it reads gets its 413.
const SURPLUS_MAX: usize = 32 * 1024 * 1024;

const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// A body that was read whole, with its trailers.
pub(crate) struct Posted {
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// Why a body was not read whole.
pub(crate) enum Unread {
    TooLarge,
    Truncated,
}

/// Reads a body of at most the largest response's size. What is left of it stays in `body`.
pub(crate) async fn read(body: &mut Incoming) -> Result<Posted, Unread> {
    read_at_most(body, RESPONSE_PAYLOAD_MAX).await
}

pub(crate) async fn read_at_most(body: &mut Incoming, limit: usize) -> Result<Posted, Unread> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            Ok(Posted { body: collected.to_bytes(), trailers })
        }
        Err(e) if e.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Truncated),
    }
}

/// Answers how many bytes were thrown away.
pub(crate) async fn discard(mut body: Incoming) -> usize {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > SURPLUS_MAX {
            break;
        }
    }
    read
}

pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get("content-type").and_then(|value| value.to_str().ok());
    value.unwrap_or("application/json").to_owned()
}

/// The answer that a `response` carries.
pub(crate) fn response(content_type: String, posted: Posted) -> Answer {
    let error = posted.trailers.as_ref().and_then(error_of_trailers);
    error.unwrap_or(Answer { error: None, content_type, body: posted.body })
}

/// A streamed response that ended in an error says so after its body (spec 4.3).
fn error_of_trailers(trailers: &HeaderMap) -> Option<Answer> {
    let BodyError { error_type, details } = body_error(trailers)?;
    let content_type = "application/json".to_owned();
    Some(Answer { error: Some(ErrorType::posted(&error_type)), content_type, body: details })
}

/// The error that is told after a response's body, with its type as it came.
pub(crate) fn body_error(trailers: &HeaderMap) -> Option<BodyError> {
    let error_type = trailers.get(ERROR_TYPE).filter(|value| !value.is_empty())?.to_str().ok()?.to_owned();
    let details = trailers.get("lambda-runtime-function-error-body").map(HeaderValue::as_bytes).unwrap_or_default();
    let details = STANDARD.decode(details).unwrap_or_default().into();
    Some(BodyError { error_type, details })
}

/// The answer that an `error` carries.
pub(crate) fn error(headers: &HeaderMap, posted: Posted) -> Answer {
    let error_type = headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    let error = Some(ErrorType::posted(error_type.unwrap_or_default()));
    let content_type = content_type(headers);
    if content_type == "application/vnd.aws.lambda.error.cause+json" {
        let (content_type, body) = without_cause(&posted.body);
        return Answer { error, content_type: content_type.to_owned(), body };
    }
    Answer { error, content_type, body: posted.body }
}

/// The answer that an init error carries: what is not JSON is said not to be (spec 4.4).
pub(crate) fn init_error(headers: &HeaderMap, posted: Posted) -> Answer {
    let mut answer = error(headers, posted);
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
    answer.content_type = if json { "application/json" } else { "application/octet-stream" }.to_owned();
    answer
}

/// The caller gets such an error without its `errorCause` (spec 4.4).
fn without_cause(body: &Bytes) -> (&'static str, Bytes) {
    #[derive(serde::Deserialize, serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        #[serde(borrow)]
        error_message: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        error_type: &'a serde_json::value::RawValue,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        stack_trace: Option<&'a serde_json::value::RawValue>,
    }
    let parsed = serde_json::from_slice::<Error<'_>>(body).and_then(|error| serde_json::to_vec(&error));
    match parsed {
        Ok(body) => ("application/json", body.into()),
        Err(_) => ("application/octet-stream", Bytes::from_static(b"\"Invalid error body\"")),
    }
}

/// The answer that callers get in place of one that is larger than they take.
pub(crate) fn too_large(limit: usize) -> Answer {
    let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
    replaced(ErrorType::RESPONSE_TOO_LARGE, Some(&message))
}

/// The answer that callers get in place of one that ended early.
pub(crate) fn truncated() -> Answer {
    replaced(ErrorType::TRUNCATED_RESPONSE, None)
}

/// The answer that callers get in place of one that the platform could not take.
pub(crate) fn replaced(error: ErrorType, message: Option<&str>) -> Answer {
    let body = match message {
        Some(message) => format!(r#"{{"errorMessage":"{message}","errorType":"{}"}}"#, error.as_str()),
        None => format!(r#"{{"errorType":"{}"}}"#, error.as_str()),
    };
    Answer { error: Some(error), content_type: "application/json".to_owned(), body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn posted(body: &'static str) -> Posted {
        Posted { body: Bytes::from_static(body.as_bytes()), trailers: None }
    }

    #[test]
    fn an_error_with_a_cause_reaches_the_caller_without_it() {
        let headers = headers(&[("content-type", "application/vnd.aws.lambda.error.cause+json")]);
        let body = r#"{"errorMessage":"m","errorType":"T","stackTrace":["a"],"errorCause":{"x":1}}"#;
        let answer = error(&headers, posted(body));
        assert_eq!(answer.body, r#"{"errorMessage":"m","errorType":"T","stackTrace":["a"]}"#);
        assert_eq!(answer.content_type, "application/json");
        let answer = error(&headers, posted("not json"));
        assert_eq!(
            (answer.body.as_ref(), answer.content_type.as_str()),
            (&b"\"Invalid error body\""[..], "application/octet-stream")
        );
    }

    #[test]
    fn error_types_are_made_safe_and_bodies_left_alone() {
        let answer = error(&headers(&[("lambda-runtime-function-error-type", "Runtime.Oops")]), posted("{\"a\": 1}"));
        assert_eq!(answer.error.unwrap().as_str(), "Runtime.Oops");
        assert_eq!(answer.body, "{\"a\": 1}");
        assert_eq!(error(&headers(&[]), posted("")).error.unwrap(), ErrorType::RUNTIME_UNKNOWN);
    }

    #[test]
    fn init_errors_that_are_not_json_are_octets() {
        assert_eq!(init_error(&headers(&[]), posted("{}")).content_type, "application/json");
        assert_eq!(init_error(&headers(&[]), posted("oops")).content_type, "application/octet-stream");
    }

    #[test]
    fn trailers_turn_a_streamed_response_into_an_error() {
        let trailers = headers(&[
            ("lambda-runtime-function-error-type", "Runtime.StreamError"),
            ("lambda-runtime-function-error-body", "eyJlcnJvclR5cGUiOiJFIn0="),
        ]);
        let posted = Posted { body: Bytes::from_static(b"half"), trailers: Some(trailers) };
        let answer = response("text/plain".to_owned(), posted);
        assert_eq!(answer.body, r#"{"errorType":"E"}"#);
        assert_eq!(answer.error.unwrap().as_str(), "Runtime.StreamError");
    }
}
