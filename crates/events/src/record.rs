//! The record of an invocation, as destinations get it (spec 5.5).

use bytes::Bytes;
use hearth_store::queue::Ms;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Largest answer that is kept for the record of an event that is tried again. The record of one that is over has it
/// whole.
pub const KEPT_MAX: usize = 64 * 1024;

/// The answer of an attempt that reached the function.
#[derive(Clone, Serialize, Deserialize)]
pub struct Answer {
    pub executed_version: String,
    pub failed: bool,
    pub payload: Box<RawValue>,
}

impl Answer {
    pub fn new(executed_version: String, failed: bool, payload: &[u8]) -> Self {
        Answer { executed_version, failed, payload: raw(payload) }
    }

    /// `errorType` and `errorMessage` of a failure, as far as it has them.
    pub fn error(&self) -> (Option<String>, Option<String>) {
        #[derive(Deserialize)]
        struct Failure {
            #[serde(rename = "errorType")]
            kind: Option<String>,
            #[serde(rename = "errorMessage")]
            message: Option<String>,
        }
        match serde_json::from_str::<Failure>(self.payload.get()) {
            Ok(failure) => (failure.kind, failure.message),
            Err(_) => (None, None),
        }
    }
}

/// JSON as it is; else text, as a JSON string.
fn raw(payload: &[u8]) -> Box<RawValue> {
    let as_it_is = serde_json::from_slice::<&RawValue>(payload).map(ToOwned::to_owned);
    let as_text = || serde_json::value::to_raw_value(&String::from_utf8_lossy(payload));
    as_it_is.or_else(|_| as_text()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

pub struct Facts<'a> {
    pub at: Ms,
    pub request_id: &'a str,
    /// Qualified.
    pub function_arn: &'a str,
    pub condition: &'a str,
    pub attempts: u32,
    pub payload: &'a [u8],
    pub answer: Option<&'a Answer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'a str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'a str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

pub fn json(facts: &Facts<'_>) -> Bytes {
    let record = Record {
        version: "1.0",
        timestamp: timestamp(facts.at),
        request_context: RequestContext {
            request_id: facts.request_id,
            function_arn: facts.function_arn,
            condition: facts.condition,
            approximate_invoke_count: facts.attempts,
        },
        request_payload: raw(facts.payload),
        response_context: facts.answer.map(|answer| ResponseContext {
            status_code: 200,
            executed_version: &answer.executed_version,
            function_error: answer.failed.then_some("Unhandled"),
        }),
        response_payload: facts.answer.map(|answer| &*answer.payload),
    };
    // Texts and numbers: it cannot fail.
    serde_json::to_vec(&record).unwrap_or_default().into()
}

/// `2026-01-31T12:00:00.123Z`.
pub fn timestamp(at: Ms) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(answer: Option<&'a Answer>) -> Facts<'a> {
        Facts {
            at: 1_769_860_800_123,
            request_id: "5b3c4f6e-0000-4000-8000-000000000001",
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
            condition: "RetriesExhausted",
            attempts: 3,
            payload: b" {\"a\": 1.50}",
            answer,
        }
    }

    #[test]
    fn a_record_is_as_recorded() {
        let answer = Answer::new("$LATEST".to_owned(), true, b"{\"errorType\":\"E\",\"errorMessage\":\"m\"}");
        assert_eq!(
            json(&facts(Some(&answer))),
            "{\"version\":\"1.0\",\"timestamp\":\"2026-01-31T12:00:00.123Z\",\"requestContext\":{\"requestId\":\
             \"5b3c4f6e-0000-4000-8000-000000000001\",\"functionArn\":\
             \"arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST\",\"condition\":\"RetriesExhausted\",\
             \"approximateInvokeCount\":3},\"requestPayload\":{\"a\": 1.50},\"responseContext\":{\"statusCode\":200,\
             \"executedVersion\":\"$LATEST\",\"functionError\":\"Unhandled\"},\"responsePayload\":{\"errorType\":\"E\",\
             \"errorMessage\":\"m\"}}"
        );
        assert_eq!(answer.error(), (Some("E".to_owned()), Some("m".to_owned())));
    }

    #[test]
    fn success_names_no_error_and_no_answer_has_no_members() {
        let answer = Answer::new("7".to_owned(), false, b"null");
        let text = json(&facts(Some(&answer)));
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(record["responseContext"], serde_json::json!({"statusCode": 200, "executedVersion": "7"}));
        assert!(record["responsePayload"].is_null() && record.get("responsePayload").is_some());
        let record: serde_json::Value = serde_json::from_slice(&json(&facts(None))).unwrap();
        assert!(record.get("responseContext").is_none() && record.get("responsePayload").is_none());
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_string() {
        assert_eq!(Answer::new(String::new(), false, b"\xffplain\n").payload.get(), "\"\u{fffd}plain\\n\"");
    }
}
