//! A request as the function sees it: payload format 2.0 (spec 7.2). Written in one pass; no tree is built.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, request};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Headers of the connection, not of the request (RFC 9110, 7.6.1).
pub const OF_THE_CONNECTION: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
const DEFAULT: &str = "$default";

/// A request with what the door knows of it.
pub struct Received<'a> {
    pub head: &'a request::Parts,
    pub body: &'a Bytes,
    /// As it was sent, without what led to the URL.
    pub path: &'a str,
    pub id: &'a str,
    /// `ID.lambda-url.REGION.localhost`, without a port.
    pub domain: &'a str,
    /// Whose the function is.
    pub account: &'a str,
    pub request_id: &'a str,
    pub trace: &'a str,
    pub client: IpAddr,
    pub is_secure: bool,
    pub at: SystemTime,
    /// Who has signed, where that was asked for.
    pub iam: Option<Iam>,
}

/// `requestContext.authorizer.iam`.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Iam {
    pub access_key: String,
    pub account_id: String,
    pub caller_id: String,
    pub cognito_identity: Option<()>,
    pub principal_org_id: Option<()>,
    pub user_arn: String,
    pub user_id: String,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: Pairs<'a>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    query_string_parameters: Pairs<'a>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(serde::Serialize)]
struct Authorizer<'a> {
    iam: &'a Iam,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

/// An object of texts, in order.
#[derive(Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// Whether the request can be told to a function: JSON has no other texts than those of UTF-8.
pub fn is_text(head: &request::Parts) -> bool {
    head.headers.values().all(|value| std::str::from_utf8(value.as_bytes()).is_ok())
}

/// The event, as JSON. The head is text ([`is_text`]).
pub fn written(received: &Received<'_>) -> serde_json::Result<Bytes> {
    let Received { head, path, .. } = received;
    let query = head.uri.query().unwrap_or_default();
    let (body, is_base64_encoded) = body(received);
    let at = jiff::Timestamp::try_from(received.at).unwrap_or_default();
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: path,
        raw_query_string: query,
        cookies: cookies(&head.headers),
        headers: headers(received),
        query_string_parameters: parameters(query),
        request_context: Context {
            account_id: if received.iam.is_some() { received.account } else { "anonymous" },
            api_id: received.id,
            authorizer: received.iam.as_ref().map(|iam| Authorizer { iam }),
            domain_name: received.domain,
            domain_prefix: received.id,
            http: Http {
                method: head.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip: received.client.to_string(),
                user_agent: head.headers.get(USER_AGENT).map(|value| text(value.as_bytes())),
            },
            request_id: received.request_id,
            route_key: DEFAULT,
            stage: DEFAULT,
            time: at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            time_epoch: at.as_millisecond(),
        },
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).map(Bytes::from)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Each `name=value`.
fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all(COOKIE).iter().flat_map(|value| text(value.as_bytes()).split(';'));
    all.map(str::trim).filter(|cookie| !cookie.is_empty()).collect()
}

/// As they were sent, joined where there were several, but those of the connection, and with those that a front end adds.
fn headers<'a>(received: &Received<'a>) -> Pairs<'a> {
    let Received { head, body, domain, trace, client, is_secure, .. } = received;
    let given = &head.headers;
    let dropped: Vec<String> = given
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| text(value.as_bytes()).split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let is_kept = |name: &HeaderName| {
        let of_the_signature = *name == AUTHORIZATION && received.iam.is_some();
        let of_the_connection =
            OF_THE_CONNECTION.contains(&name.as_str()) || dropped.iter().any(|one| one == name.as_str());
        *name != COOKIE && !of_the_signature && !of_the_connection && !ADDED.contains(&name.as_str())
    };
    let sent = given.keys().filter(|name| is_kept(name)).map(|name| {
        let mut values = given.get_all(name).iter().map(|value| text(value.as_bytes()));
        let first = values.next().unwrap_or_default();
        let joined = values.fold(Cow::Borrowed(first), |joined, next| Cow::Owned(format!("{joined},{next}")));
        (Cow::Borrowed(name.as_str()), joined)
    });
    let port = given.get(HOST).and_then(|host| text(host.as_bytes()).rsplit_once(':')).map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = port.map_or_else(|| (*domain).to_owned(), |port| format!("{domain}:{port}"));
    let before = given.get("x-forwarded-for").map(|value| format!("{},", text(value.as_bytes())));
    let mut all: Vec<(Cow<'a, str>, Cow<'a, str>)> = sent.collect();
    let mut add = |name: &'static str, value: Cow<'a, str>| all.push((Cow::Borrowed(name), value));
    add("host", host.into());
    add("x-amzn-trace-id", Cow::Borrowed(*trace));
    add("x-forwarded-for", format!("{}{client}", before.unwrap_or_default()).into());
    add("x-forwarded-port", Cow::Borrowed(port.unwrap_or(if *is_secure { "443" } else { "80" })));
    add("x-forwarded-proto", Cow::Borrowed(if *is_secure { "https" } else { "http" }));
    if !body.is_empty() || given.contains_key(CONTENT_LENGTH) {
        add("content-length", body.len().to_string().into());
    }
    Pairs(all)
}

/// Headers of the front end's own.
const ADDED: &[&str] = &[
    "host",
    "content-length",
    "x-amzn-trace-id",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-amzn-tls-version",
    "x-amzn-tls-cipher-suite",
];

/// Decoded; values of one name are joined.
fn parameters(query: &str) -> Pairs<'_> {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match pairs.iter_mut().find(|(found, _)| *found == name) {
            Some((_, joined)) => *joined = format!("{joined},{value}").into(),
            None => pairs.push((name, value)),
        }
    }
    Pairs(pairs)
}

/// The body, and whether it is in base64: what a content type calls text is text, if it is.
fn body<'a>(received: &Received<'a>) -> (Option<Cow<'a, str>>, bool) {
    let bytes: &'a Bytes = received.body;
    if bytes.is_empty() {
        return (None, false);
    }
    let content_type = received.head.headers.get(CONTENT_TYPE).map(|value| text(value.as_bytes()));
    match std::str::from_utf8(bytes) {
        Ok(text) if content_type.is_none_or(is_of_text) => (Some(Cow::Borrowed(text)), false),
        _ => (Some(BASE64_STANDARD.encode(bytes).into()), true),
    }
}

fn is_of_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(kind.as_str(), "application/json" | "application/javascript" | "application/xml")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8], iam: Option<Iam>) -> Value {
        let mut request = http::Request::builder().method(method).uri(uri).header("host", "127.0.0.1:4566");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let path = head.uri.path().to_owned();
        let received = Received {
            head: &head,
            body: &Bytes::copy_from_slice(body),
            path: &path,
            id: "abc",
            domain: "abc.lambda-url.us-east-1.localhost",
            account: "123456789012",
            request_id: "r",
            trace: "Root=1-2-3",
            client: Ipv4Addr::LOCALHOST.into(),
            is_secure: false,
            at: UNIX_EPOCH + Duration::from_millis(1_765_274_826_789),
            iam,
        };
        serde_json::from_slice(&written(&received).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_told_as_aws_tells_it() {
        let headers = [
            ("Cookie", "a=1; b=2"),
            ("cookie", "c=3"),
            ("X-Two", "1"),
            ("x-two", "2"),
            ("user-agent", "me"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
        ];
        let found = event("GET", "/pa2%Fth/1?foo=%2Fbar&foo=b+c&d&%C3%A9=%FF", &headers, b"", None);
        let expected = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/pa2%Fth/1",
            "rawQueryString": "foo=%2Fbar&foo=b+c&d&%C3%A9=%FF",
            "cookies": ["a=1", "b=2", "c=3"],
            "headers": {
                "x-two": "1,2",
                "user-agent": "me",
                "host": "abc.lambda-url.us-east-1.localhost:4566",
                "x-amzn-trace-id": "Root=1-2-3",
                "x-forwarded-for": "127.0.0.1",
                "x-forwarded-port": "4566",
                "x-forwarded-proto": "http",
            },
            "queryStringParameters": {"foo": "/bar,b c", "d": "", "é": "\u{fffd}"},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "abc",
                "domainName": "abc.lambda-url.us-east-1.localhost",
                "domainPrefix": "abc",
                "http": {"method": "GET", "path": "/pa2%Fth/1", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "me"},
                "requestId": "r",
                "routeKey": "$default",
                "stage": "$default",
                "time": "09/Dec/2025:10:07:06 +0000",
                "timeEpoch": 1_765_274_826_789_i64,
            },
            "isBase64Encoded": false,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_was_not_sent_is_absent() {
        let found = event("GET", "/", &[], b"", None);
        for absent in ["cookies", "queryStringParameters", "body"] {
            assert!(found.get(absent).is_none(), "{absent}");
        }
        assert_eq!((&found["rawQueryString"], &found["isBase64Encoded"]), (&json!(""), &json!(false)));
        assert!(found["requestContext"]["http"].get("userAgent").is_none());
    }

    #[test]
    fn bodies_are_text_where_their_type_says_so() {
        let told = |kind: &str, body: &[u8]| {
            let found = event("POST", "/", &[("content-type", kind)], body, None);
            (found["isBase64Encoded"] == true, found["body"].as_str().unwrap().to_owned())
        };
        for kind in
            ["text/plain; charset=utf-8", "application/json", "application/ld+json", "image/svg+xml", "Application/XML"]
        {
            assert_eq!(told(kind, "é".as_bytes()), (false, "é".to_owned()), "{kind}");
        }
        for kind in ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "image/png"] {
            assert_eq!(told(kind, b"a"), (true, "YQ==".to_owned()), "{kind}");
        }
        assert_eq!(told("text/plain", b"\xff"), (true, "/w==".to_owned()));
        assert_eq!(event("POST", "/", &[], b"a", None)["body"], "a");
    }

    #[test]
    fn who_signed_is_told_and_the_signature_is_not() {
        let iam = Iam {
            access_key: "AKID".to_owned(),
            account_id: "210987654321".to_owned(),
            caller_id: "c".to_owned(),
            cognito_identity: None,
            principal_org_id: None,
            user_arn: "arn".to_owned(),
            user_id: "u".to_owned(),
        };
        let found = event("GET", "/", &[("authorization", "AWS4 x"), ("x-amz-date", "d")], b"", Some(iam));
        assert_eq!(found["requestContext"]["accountId"], "123456789012");
        let expected = json!({"accessKey": "AKID", "accountId": "210987654321", "callerId": "c", "cognitoIdentity": null,
            "principalOrgId": null, "userArn": "arn", "userId": "u"});
        assert_eq!(found["requestContext"]["authorizer"]["iam"], expected);
        assert_eq!((found["headers"].get("authorization"), &found["headers"]["x-amz-date"]), (None, &json!("d")));
        let open = event(
            "GET",
            "/",
            &[("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")],
            b"",
            None,
        );
        assert_eq!(open["headers"]["authorization"], "Bearer x");
        assert_eq!(open["headers"]["x-forwarded-for"], "1.2.3.4,127.0.0.1");
        assert_eq!(open["headers"]["x-forwarded-proto"], "http");
    }

    proptest! {
        #[test]
        fn every_body_comes_back(body in prop::collection::vec(any::<u8>(), 1..60), kind in prop::sample::select(vec!["text/plain", "image/png", "application/json"])) {
            let found = event("POST", "/", &[("content-type", kind)], &body, None);
            let told = found["body"].as_str().unwrap();
            let bytes = if found["isBase64Encoded"] == true { BASE64_STANDARD.decode(told).unwrap() } else { told.as_bytes().to_vec() };
            prop_assert_eq!(bytes, body);
        }
    }
}
