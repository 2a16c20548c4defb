//! What a caller sends with an invocation, checked: payload, client context, trace header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{CLIENT_CONTEXT_MAX, SYNC_PAYLOAD_MAX};
use hearth_wire::{Error, MessageKey, json};
use hearth_wire_lambda::errors::{invalid_request_content_exception as invalid, request_too_large_exception};
use serde::de::IgnoredAny;

/// Longest `Lineage` that is passed on.
const LINEAGE_MAX: usize = 256;

/// Checked in one pass, without building anything. Nothing at all is `{}`.
pub fn payload(payload: Bytes) -> Result<Bytes, Error> {
    if payload.len() > SYNC_PAYLOAD_MAX {
        let message = format!("Request must be smaller than {SYNC_PAYLOAD_MAX} bytes for the InvokeFunction operation");
        let error = Error::new(413, "RequestEntityTooLargeException", message);
        return Err(Error { key: MessageKey::Upper, ..error });
    }
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    // The parser looks into strings only as far as their end.
    if std::str::from_utf8(&payload).is_err() || serde_json::from_slice::<IgnoredAny>(&payload).is_err() {
        return Err(invalid(format!(
            "Could not parse request body into json: Could not parse payload into json: {}",
            json::fault(&payload)
        )));
    }
    Ok(payload)
}

/// As [`payload`], of an event, whose limit is lower (text seen in the wild).
pub fn event_payload(payload: Bytes, max: usize) -> Result<Bytes, Error> {
    if payload.len() > max {
        let size = payload.len();
        let message = format!("{size} byte payload is too large for the Event invocation type (limit {max} bytes)");
        return Err(request_too_large_exception(message));
    }
    self::payload(payload)
}

/// Base64 of JSON, at most 3,583 bytes encoded.
pub fn client_context(encoded: Option<&str>) -> Result<Option<String>, Error> {
    let Some(encoded) = encoded else { return Ok(None) };
    if encoded.len() > CLIENT_CONTEXT_MAX {
        return Err(invalid(format!("Client context must be no longer than {CLIENT_CONTEXT_MAX} bytes.")));
    }
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // One line: it travels in a header.
    let decoded = decoded.map(|text| text.replace(['\r', '\n'], " "));
    match decoded {
        Some(text) if serde_json::from_str::<IgnoredAny>(&text).is_ok() => Ok(Some(text)),
        _ => Err(invalid("Client context must be a valid Base64-encoded JSON object.")),
    }
}

/// `X-Amzn-Trace-Id` (spec 9.2), as the runtime sees it and as the caller gets it back.
#[derive(Debug, PartialEq, Eq)]
pub struct Trace {
    pub for_runtime: String,
    pub for_caller: String,
}

/// Takes the caller's trace header up, or makes one. `now_s` is the time in seconds; `chance` 128 random bits.
pub fn trace(given: Option<&str>, now_s: u64, chance: u128) -> Trace {
    let part = |name: &str| {
        let mut parts = given.unwrap_or_default().split(';').filter_map(|part| part.trim().split_once('='));
        parts.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let (own_root, own_segment) = (chance >> 32, chance as u64);
    let root = match part("Root").filter(|root| is_root(root)) {
        Some(root) => root.to_owned(),
        None => format!("1-{now_s:08x}-{own_root:024x}"),
    };
    let sampled = part("Sampled").filter(|sampled| matches!(*sampled, "0" | "1")).unwrap_or("0");
    let lineage = part("Lineage").filter(|lineage| lineage.len() <= LINEAGE_MAX);
    let lineage = lineage.map(|lineage| format!(";Lineage={lineage}")).unwrap_or_default();
    Trace {
        for_runtime: format!("Root={root};Parent={own_segment:016x};Sampled={sampled}{lineage}"),
        for_caller: format!("Root={root};Sampled={sampled}"),
    }
}

/// `1-` 8 hex digits `-` 24 hex digits.
fn is_root(text: &str) -> bool {
    let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts.as_slice(), ["1", time, chance] if is_hex(time, 8) && is_hex(chance, 24))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &'static str) -> Result<Bytes, Error> {
        payload(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn nothing_is_an_empty_object_and_json_is_passed_on_as_it_is() {
        assert_eq!(of("").unwrap(), "{}");
        assert_eq!(of(" {\"a\" : [1, 2.50]} ").unwrap(), " {\"a\" : [1, 2.50]} ");
    }

    #[test]
    fn deep_nesting_is_no_harm() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(payload(deep.into()).is_ok());
        assert!(payload(b"[".repeat(100_000).into()).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused_with_the_place() {
        let error = of("{\n  \"a\": nope }").unwrap_err();
        assert_eq!((error.status, &*error.code), (400, "InvalidRequestContentException"));
        assert_eq!(
            error.message.unwrap(),
            "Could not parse request body into json: Could not parse payload into json: Unrecognized token 'nope': was \
             expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: REDACTED \
             (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 2, column: 13]"
        );
        assert!(payload(Bytes::from_static(b"\"\xff\"")).is_err());
    }

    #[test]
    fn six_megabytes_are_the_most() {
        let text = |size: usize| Bytes::from([b"\"".to_vec(), b"x".repeat(size - 2), b"\"".to_vec()].concat());
        assert!(payload(text(SYNC_PAYLOAD_MAX)).is_ok());
        let error = payload(text(SYNC_PAYLOAD_MAX + 1)).unwrap_err();
        assert_eq!((error.status, &*error.code, error.key), (413, "RequestEntityTooLargeException", MessageKey::Upper));
        let expected = "Request must be smaller than 6291456 bytes for the InvokeFunction operation";
        assert_eq!(error.message.as_deref(), Some(expected));
    }

    #[test]
    fn a_client_context_is_decoded_to_one_line() {
        let encoded = STANDARD.encode("{\n\"custom\": {}}");
        assert_eq!(client_context(Some(&encoded)).unwrap().unwrap(), "{ \"custom\": {}}");
        assert_eq!(client_context(None).unwrap(), None);
        for bad in ["%", &STANDARD.encode("not json"), &STANDARD.encode([0xff]), &"A".repeat(3584)] {
            let error = client_context(Some(bad)).unwrap_err();
            assert_eq!(&*error.code, "InvalidRequestContentException", "{bad}");
        }
    }

    const ROOT: &str = "1-67891233-abcdef012345678912345678";

    #[test]
    fn a_trace_is_taken_up_with_a_segment_of_its_own() {
        let given = format!("Sampled=1; Root={ROOT};Parent=53995c3f42cd8ad8;Lineage=1:abcd1234:0;Other=x");
        let trace = trace(Some(&given), 0, 0x11);
        assert_eq!(trace.for_runtime, format!("Root={ROOT};Parent=0000000000000011;Sampled=1;Lineage=1:abcd1234:0"));
        assert_eq!(trace.for_caller, format!("Root={ROOT};Sampled=1"));
    }

    #[test]
    fn without_a_trace_one_is_made_and_not_sampled() {
        for given in [None, Some("Root=nonsense"), Some("Root=1-0-0;Sampled=maybe")] {
            let trace = trace(given, 0x6789_1233, 0xabcd_ef01_2345_6789_1234_5678_0000_0001);
            assert_eq!(trace.for_caller, "Root=1-67891233-abcdef012345678912345678;Sampled=0");
            assert!(trace.for_runtime.contains(";Parent=1234567800000001;Sampled=0"), "{}", trace.for_runtime);
        }
    }

    proptest! {
        #[test]
        fn a_payload_passes_exactly_when_it_is_json(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            let is_json = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            // Numbers beyond a double are JSON all the same.
            if is_json {
                prop_assert!(payload(bytes.into()).is_ok());
            } else if payload(bytes.clone().into()).is_ok() {
                prop_assert!(bytes.iter().any(u8::is_ascii_digit) || bytes.contains(&b'\\'));
            }
        }

        #[test]
        fn no_trace_header_breaks_the_line(given in "[ -~]{0,80}") {
            let trace = trace(Some(&given), 1, 2);
            prop_assert!(trace.for_runtime.starts_with("Root=1-") && trace.for_runtime.len() < 400);
        }
    }
}
