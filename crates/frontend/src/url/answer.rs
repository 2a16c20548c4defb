//! What a function returned, as an answer of HTTP (spec 7.3): an object with a status describes one, everything else is
//! its body.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::event::OF_THE_CONNECTION;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Functions write their base64 with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// It describes no answer: 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is no JSON")]
    Json,
    #[error("its statusCode is none")]
    Status,
    #[error("its headers are none")]
    Headers,
    #[error("its body is not in base64")]
    Base64,
    #[error("the description before its body has no end")]
    Prelude,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    #[serde(borrow, default)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cookies: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

impl Answer {
    /// Of a whole result.
    pub fn of(result: &Bytes) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(result).map_err(|_| Malformed::Json)?;
        match text.trim_start().as_bytes().first() {
            Some(b'{') => {
                let described: Described<'_> = serde_json::from_str(text).map_err(|_| Malformed::Json)?;
                match described.status_code {
                    Some(status) => described_as(&described, status),
                    None => Ok(Answer::plain(compact(text))),
                }
            }
            Some(b'"') => Ok(Answer::plain(serde_json::from_str::<String>(text).map_err(|_| Malformed::Json)?)),
            Some(_) => Ok(Answer::plain(compact(text))),
            None => Ok(Answer::plain("null")),
        }
    }

    fn plain(body: impl Into<Bytes>) -> Self {
        Answer { status: StatusCode::OK, headers: HeaderMap::from_iter([(CONTENT_TYPE, JSON)]), body: body.into() }
    }
}

/// The type of a response that begins with its own description.
pub const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";
/// Between the description and the body.
const DELIMITER: [u8; 8] = [0; 8];
/// Longest description, bytes: as the head of a request.
const PRELUDE_MAX: usize = 64 * 1024;

/// The description at the beginning of a response, as its pieces come.
#[derive(Default)]
pub struct Prelude {
    seen: BytesMut,
}

impl Prelude {
    /// Takes the next piece. Once the description is whole, it is the answer, with as much of the body as has come.
    pub fn take(&mut self, piece: &[u8]) -> Result<Option<Answer>, Malformed> {
        // The delimiter may have begun before.
        let from = self.seen.len().saturating_sub(DELIMITER.len() - 1);
        self.seen.extend_from_slice(piece);
        let Some(at) = memchr::memmem::find(&self.seen[from..], &DELIMITER).map(|at| from + at) else {
            return if self.seen.len() > PRELUDE_MAX { Err(Malformed::Prelude) } else { Ok(None) };
        };
        if at > PRELUDE_MAX {
            return Err(Malformed::Prelude);
        }
        let mut body = std::mem::take(&mut self.seen);
        let prelude = body.split_to(at);
        let described: Described<'_> = serde_json::from_slice(&prelude).map_err(|_| Malformed::Json)?;
        let (status, headers) = head(described.status_code, described.headers, described.cookies, OCTETS)?;
        let body = body.split_off(DELIMITER.len()).freeze();
        Ok(Some(Answer { status, headers, body }))
    }
}

fn described_as(described: &Described<'_>, status_code: &RawValue) -> Result<Answer, Malformed> {
    let (status, headers) = head(Some(status_code), described.headers, described.cookies, JSON)?;
    let text = match described.body.map(RawValue::get) {
        None | Some("null") => Cow::Borrowed(""),
        Some(text) if text.starts_with('"') => serde_json::from_str(text).map_err(|_| Malformed::Json)?,
        // An object, or a number.
        Some(other) => compact(other).into(),
    };
    let body = if described.is_base64_encoded == Some(true) {
        BASE64.decode(text.trim_ascii()).map_err(|_| Malformed::Base64)?.into()
    } else {
        Bytes::from(text.into_owned())
    };
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(Answer { status, headers, body: if is_bodiless { Bytes::new() } else { body } })
}

fn head(
    status_code: Option<&RawValue>,
    headers: Option<&RawValue>,
    cookies: Option<&RawValue>,
    content_type: HeaderValue,
) -> Result<(StatusCode, HeaderMap), Malformed> {
    let status = match status_code.map(|status| status.get().trim_matches('"').trim()) {
        None => StatusCode::OK,
        Some(digits) => {
            let number = digits.parse().ok().filter(|number| (200..=599).contains(number));
            StatusCode::from_u16(number.ok_or(Malformed::Status)?).map_err(|_| Malformed::Status)?
        }
    };
    let named: Headers<'_> = parsed(headers)?.unwrap_or_default();
    let mut answer = HeaderMap::with_capacity(named.0.len() + 1);
    for (name, value) in named.0 {
        let name = HeaderName::try_from(&*name).map_err(|_| Malformed::Headers)?;
        // How long it is, and how it travels, is the door's to say.
        if OF_THE_CONNECTION.contains(&name.as_str()) || name == http::header::CONTENT_LENGTH {
            continue;
        }
        answer.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Malformed::Headers)?);
    }
    for cookie in parsed::<Vec<Cow<'_, str>>>(cookies)?.unwrap_or_default() {
        answer.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).map_err(|_| Malformed::Headers)?);
    }
    answer.entry(CONTENT_TYPE).or_insert(content_type);
    Ok((status, answer))
}

fn parsed<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Result<Option<T>, Malformed> {
    value.map_or(Ok(None), |value| serde_json::from_str(value.get()).map_err(|_| Malformed::Headers))
}

/// Names and values in order. Values are texts; numbers and truths are taken for theirs, nothing for none.
#[derive(Default)]
struct Headers<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Headers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    let value = match value.get().as_bytes().first() {
                        Some(b'"') => {
                            serde_json::from_str::<String>(value.get()).map_err(serde::de::Error::custom)?.into()
                        }
                        Some(b'{' | b'[') => return Err(serde::de::Error::custom("a header is a text")),
                        Some(b'n') | None => continue,
                        Some(_) => Cow::Borrowed(value.get()),
                    };
                    all.push((name, value));
                }
                Ok(Headers(all))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// JSON without the white space between its parts; numbers and texts stay as they are.
fn compact(json: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let kept = json.chars().filter(|character| {
        if in_text {
            in_text = is_escaped || *character != '"';
            is_escaped = !is_escaped && *character == '\\';
            true
        } else {
            in_text = *character == '"';
            !character.is_ascii_whitespace()
        }
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn of(result: &str) -> Result<(u16, String, String), Malformed> {
        let answer = Answer::of(&Bytes::copy_from_slice(result.as_bytes()))?;
        let mut headers: Vec<String> = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        headers.sort();
        Ok((answer.status.as_u16(), headers.join("\n"), String::from_utf8_lossy(&answer.body).into_owned()))
    }

    #[test]
    fn what_describes_no_answer_is_its_body() {
        for (result, body) in [
            (r#" {"hello": "world"} "#, r#"{"hello":"world"}"#),
            (r#"["hello", 3, true]"#, r#"["hello",3,true]"#),
            (r#""hel\"lo é""#, "hel\"lo é"),
            ("3", "3"),
            ("3.10", "3.10"),
            ("true", "true"),
            ("null", "null"),
            ("", "null"),
            (r#"{"body": "x", "statusCode": null}"#, r#"{"body":"x","statusCode":null}"#),
        ] {
            assert_eq!(of(result), Ok((200, "content-type: application/json".to_owned(), body.to_owned())), "{result}");
        }
    }

    #[test]
    fn a_description_is_followed() {
        let result = r#"{"statusCode": "418", "headers": {"Content-Type": "text/html", "X-N": 1, "x-t": true, "x-no": null,
            "Content-Length": "99", "Transfer-Encoding": "chunked", "set-cookie": "z=0"}, "cookies": ["a=1", "b=2; Path=/"],
            "multiValueHeaders": {"x": ["1"]}, "body": "<b>é</b>"}"#;
        let headers =
            "content-type: text/html\nset-cookie: a=1\nset-cookie: b=2; Path=/\nset-cookie: z=0\nx-n: 1\nx-t: true";
        assert_eq!(of(result), Ok((418, headers.to_owned(), "<b>é</b>".to_owned())));
        let json = || "content-type: application/json".to_owned();
        assert_eq!(of(r#"{"statusCode": 200, "body": {"a": 1}}"#), Ok((200, json(), r#"{"a":1}"#.to_owned())));
        assert_eq!(of(r#"{"statusCode": 201}"#), Ok((201, json(), String::new())));
        assert_eq!(of(r#"{"statusCode": 204, "body": "x"}"#), Ok((204, json(), String::new())));
        for body in ["aGk=", "aGk"] {
            let result = format!(r#"{{"statusCode": 200, "isBase64Encoded": true, "body": "{body}"}}"#);
            assert_eq!(of(&result), Ok((200, json(), "hi".to_owned())));
        }
    }

    #[test]
    fn a_prelude_is_read_wherever_pieces_end() {
        let mut response = br#"{"statusCode": 201, "headers": {"x-a": "b"}, "cookies": ["c=d"]}"#.to_vec();
        let end = response.len() + DELIMITER.len();
        response.extend_from_slice(&DELIMITER);
        response.extend_from_slice(b"\0body");
        for at in 0..=response.len() {
            let mut prelude = Prelude::default();
            let first = prelude.take(&response[..at]).unwrap();
            assert_eq!(first.is_some(), at >= end);
            let (answer, rest) = match first {
                Some(answer) => (answer, &response[at..]),
                None => (prelude.take(&response[at..]).unwrap().unwrap(), &b""[..]),
            };
            assert_eq!([&answer.body, rest].concat(), b"\0body");
            assert_eq!((answer.status.as_u16(), answer.headers.len()), (201, 3));
            assert_eq!(answer.headers[CONTENT_TYPE], OCTETS);
        }
        let endless = vec![b'x'; PRELUDE_MAX + 1];
        assert_eq!(Prelude::default().take(&endless).unwrap_err(), Malformed::Prelude);
        assert_eq!(Prelude::default().take(&[b"x".as_slice(), &DELIMITER].concat()).unwrap_err(), Malformed::Json);
    }

    #[test]
    fn what_cannot_be_an_answer_is_malformed() {
        for (result, error) in [
            ("{", Malformed::Json),
            (r#"{"statusCode": "abc"}"#, Malformed::Status),
            (r#"{"statusCode": 99}"#, Malformed::Status),
            (r#"{"statusCode": 101}"#, Malformed::Status),
            (r#"{"statusCode": {}}"#, Malformed::Status),
            (r#"{"statusCode": 200, "headers": []}"#, Malformed::Headers),
            (r#"{"statusCode": 200, "headers": {"x": ["1"]}}"#, Malformed::Headers),
            (r#"{"statusCode": 200, "headers": {"a b": "1"}}"#, Malformed::Headers),
            (r#"{"statusCode": 200, "headers": {"x": "1\r\nset-cookie: evil"}}"#, Malformed::Headers),
            (r#"{"statusCode": 200, "cookies": "a=1"}"#, Malformed::Headers),
            (r#"{"statusCode": 200, "isBase64Encoded": true, "body": "%"}"#, Malformed::Base64),
        ] {
            assert_eq!(of(result).unwrap_err(), error, "{result}");
        }
    }

    proptest! {
        #[test]
        fn compact_json_means_the_same(text in "\\PC{0,12}", number in any::<i64>()) {
            let value = serde_json::json!({text.clone(): [number, text, null, {"a": [[]]}]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&compact(&pretty)).unwrap(), value.clone());
            prop_assert_eq!(compact(&pretty), value.to_string());
        }

        #[test]
        fn no_result_makes_it_panic(result in "\\PC{0,60}") {
            let _ = of(&result);
            let _ = of(&format!(r#"{{"statusCode": 200, "headers": {{"a": {result}}}}}"#));
        }
    }
}
