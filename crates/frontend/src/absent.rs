//! Refuses services that are not there, by their signing name and in their own protocol, so that their clients can read
//! it: the protocol shows in the request.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use hearth_wire::query::{self, Form};
use hearth_wire::{Error, Reply};

/// Longest name of a service or operation that an answer repeats, characters.
const NAME_MAX: usize = 64;

/// How a request of an unknown service speaks.
#[derive(Debug, PartialEq, Eq)]
enum Protocol<'a> {
    /// AWS-JSON: the operation is in a header.
    Target {
        operation: &'a str,
        content_type: &'static str,
    },
    /// Query: the operation is in the form.
    Form,
    /// REST-XML.
    Xml,
    RestJson,
}

/// The operation that `X-Amz-Target` names, and the service that it belongs to.
pub fn target(headers: &HeaderMap) -> Option<(&str, &str)> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    Some(target.rsplit_once('.').unwrap_or(("", target)))
}

/// Whether the body is a form, which names its operation.
pub fn has_form(headers: &HeaderMap) -> bool {
    target(headers).is_none() && content_type(headers).starts_with("application/x-www-form-urlencoded")
}

/// `form` is the body where [`has_form`] says so.
pub fn refuse(service: &str, headers: &HeaderMap, form: &[u8], request_id: &str) -> Reply {
    let form = Form::parse(form);
    let (operation, protocol) = match protocol(service, headers) {
        protocol @ Protocol::Target { operation, .. } => (operation, protocol),
        protocol @ Protocol::Form => (form.action().unwrap_or_default(), protocol),
        protocol => ("", protocol),
    };
    let mut name = shown(service);
    if !operation.is_empty() {
        name = format!("{name}:{}", shown(operation));
    }
    let error = Error::not_supported(name);
    match protocol {
        Protocol::Target { content_type, .. } => error.aws_json(content_type),
        Protocol::Form => query::error(&error, &format!("https://{}.amazonaws.com/", shown(service)), request_id),
        Protocol::Xml => error.rest_xml(request_id),
        Protocol::RestJson => error.rest_json(),
    }
}

fn protocol<'a>(service: &str, headers: &'a HeaderMap) -> Protocol<'a> {
    if let Some((_, operation)) = target(headers) {
        let content_type = match content_type(headers) {
            "application/x-amz-json-1.1" => "application/x-amz-json-1.1",
            _ => "application/x-amz-json-1.0",
        };
        return Protocol::Target { operation, content_type };
    }
    match service {
        _ if has_form(headers) => Protocol::Form,
        "s3express" | "s3-object-lambda" | "route53" | "cloudfront" => Protocol::Xml,
        _ => Protocol::RestJson,
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A name from outside, as an answer repeats it.
fn shown(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(service: &str, headers: &[(&'static str, &str)], form: &str) -> (u16, String) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).try_into().unwrap(), value.parse().unwrap())).collect();
        let reply = refuse(service, &headers, form.as_bytes(), "r");
        (reply.status, String::from_utf8(reply.whole().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn each_protocol_is_answered_in_kind() {
        let json = [("x-amz-target", "DynamoDB_20120810.ListTables"), ("content-type", "application/x-amz-json-1.0")];
        let expected =
            r#"{"__type":"NotImplementedException","message":"Hearth does not support dynamodb:ListTables."}"#;
        assert_eq!(refused("dynamodb", &json, "{}"), (501, expected.to_owned()));
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let (status, text) = refused("sns", &form, "Action=ListTopics&Version=2010-03-31");
        assert!(status == 501 && text.contains("<Code>NotImplementedException</Code>"), "{text}");
        assert!(text.contains("<Message>Hearth does not support sns:ListTopics.</Message>"), "{text}");
        let (_, text) = refused("route53", &[], "");
        assert!(
            text.contains("<Error><Code>NotImplementedException</Code><Message>Hearth does not support route53."),
            "{text}"
        );
        assert_eq!(refused("pipes", &[], "").1, r#"{"message":"Hearth does not support pipes."}"#);
    }

    #[test]
    fn names_from_outside_are_harmless() {
        let (_, text) = refused("<b>", &[("x-amz-target", "A.\"x\"<script>")], "");
        assert!(text.contains("b:xscript"), "{text}");
    }
}
