//! What a caller sends with an invocation, checked: payload and client context.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{CLIENT_CONTEXT_MAX, SYNC_PAYLOAD_MAX, TenantId};
use hearth_wire::{Error, MessageKey, json};
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception, invalid_request_content_exception as invalid, request_too_large_exception,
};
use serde::de::IgnoredAny;

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

/// Whom a call is for.
pub fn tenant(given: Option<&str>) -> Result<Option<TenantId>, Error> {
    let wrong = || invalid_parameter_value_exception("The tenant ID is not valid.");
    given.map(|text| TenantId::parse(text).ok_or_else(wrong)).transpose()
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
    }
}
