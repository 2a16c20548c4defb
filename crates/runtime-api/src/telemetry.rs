//! Subscriptions of the Telemetry API and of the Logs API, its older form (spec 4.6, 4.7), without HTTP.

use std::time::Duration;

use hearth_model::{Buffering, Destination, Source, TelemetrySchema};
use http::Uri;
use serde::Deserialize;

/// The Runtime API's own port, which nobody else can have.
const RESERVED_PORT: u16 = 9001;
/// Bytes of a path.
const PATH_MAX: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Telemetry,
    Logs,
}

/// What an extension wants to be sent, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub api: Api,
    pub schema: TelemetrySchema,
    /// In AWS's order, each once.
    pub sources: Vec<Source>,
    pub buffering: Buffering,
    pub destination: Destination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    schema_version: Option<String>,
    types: Vec<String>,
    destination: Place,
    buffering: Option<Limits>,
}

#[derive(Deserialize)]
struct Place {
    protocol: String,
    #[serde(rename = "URI")]
    uri: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_items: Option<u64>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
}

impl Subscription {
    /// Reads a request's body. The error is for the extension.
    pub fn parse(api: Api, body: &[u8]) -> Result<Self, String> {
        let asked: Asked = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        Ok(Subscription {
            api,
            schema: schema(api, asked.schema_version.as_deref())?,
            sources: sources(&asked.types)?,
            buffering: buffering(asked.buffering)?,
            destination: destination(asked.destination)?,
        })
    }
}

fn schema(api: Api, version: Option<&str>) -> Result<TelemetrySchema, String> {
    match (api, version) {
        (Api::Telemetry, Some("2022-07-01")) => Ok(TelemetrySchema::Telemetry),
        (Api::Telemetry, Some("2022-12-13" | "2025-01-29")) => Ok(TelemetrySchema::TelemetryWithObjects),
        (Api::Logs, None | Some("2020-08-15")) => Ok(TelemetrySchema::Logs),
        (Api::Logs, Some("2021-03-18")) => Ok(TelemetrySchema::LogsWithRuntimeDone),
        (_, Some(version)) => Err(format!("schemaVersion {version} is not supported")),
        (Api::Telemetry, None) => Err("schemaVersion is required".to_owned()),
    }
}

fn sources(types: &[String]) -> Result<Vec<Source>, String> {
    if types.is_empty() {
        return Err("types must name at least one of platform, function, extension".to_owned());
    }
    if let Some(unknown) = types.iter().find(|name| !Source::ALL.iter().any(|source| source.as_str() == **name)) {
        return Err(format!("type {unknown} is none of platform, function, extension"));
    }
    Ok(Source::ALL.into_iter().filter(|source| types.iter().any(|name| name == source.as_str())).collect())
}

fn buffering(asked: Option<Limits>) -> Result<Buffering, String> {
    let asked = asked.unwrap_or(Limits { max_items: None, max_bytes: None, timeout_ms: None });
    let within = |name: &str, asked: Option<u64>, default: u64, least: u64, most: u64| match asked.unwrap_or(default) {
        value if (least..=most).contains(&value) => Ok(value),
        value => Err(format!("{name} is {value}; it must be from {least} to {most}")),
    };
    Ok(Buffering {
        items_max: within("maxItems", asked.max_items, 10_000, 1_000, 10_000)? as usize,
        bytes_max: within("maxBytes", asked.max_bytes, 262_144, 262_144, 1_048_576)? as usize,
        timeout: Duration::from_millis(within("timeoutMs", asked.timeout_ms, 1_000, 25, 30_000)?),
    })
}

fn destination(asked: Place) -> Result<Destination, String> {
    match (asked.protocol.as_str(), asked.uri, asked.port) {
        ("HTTP", Some(uri), _) => http(&uri),
        ("HTTP", None, _) => Err("destination.URI is required".to_owned()),
        ("TCP", _, Some(port)) => Ok(Destination::Tcp { port: allowed(port)? }),
        ("TCP", _, None) => Err("destination.port is required".to_owned()),
        (other, _, _) => Err(format!("destination.protocol {other} is neither HTTP nor TCP")),
    }
}

fn http(text: &str) -> Result<Destination, String> {
    let wrong = || format!("destination.URI {text} is not http://sandbox.localdomain:PORT with or without a path");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (scheme, host, port) = (uri.scheme_str(), uri.host(), uri.port_u16());
    let (Some("http"), Some(host @ ("sandbox.localdomain" | "sandbox"))) = (scheme, host) else { return Err(wrong()) };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if path.len() > PATH_MAX || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong());
    }
    let port = allowed(port.unwrap_or(80))?;
    Ok(Destination::Http { host: format!("{host}:{port}"), port, path: path.to_owned() })
}

fn allowed(port: u16) -> Result<u16, String> {
    match port {
        0 | RESERVED_PORT => Err(format!("port {port} cannot be used")),
        port => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(api: Api, body: &str) -> Result<Subscription, String> {
        Subscription::parse(api, body.as_bytes())
    }

    fn body(schema: &str, more: &str) -> String {
        let uri = "http://sandbox.localdomain:8080/sink?x=1";
        let destination = format!(r#"{{"protocol": "HTTP", "URI": "{uri}"}}"#);
        format!(
            r#"{{"schemaVersion": "{schema}", "types": ["function", "platform"], "destination": {destination}{more}}}"#
        )
    }

    #[test]
    fn a_subscription_is_read_with_awss_defaults() {
        let subscription = parse(Api::Telemetry, &body("2022-07-01", "")).unwrap();
        let buffering = Buffering { items_max: 10_000, bytes_max: 262_144, timeout: Duration::from_secs(1) };
        let host = "sandbox.localdomain:8080".to_owned();
        let destination = Destination::Http { host, port: 8080, path: "/sink?x=1".to_owned() };
        let sources = vec![Source::Platform, Source::Function];
        let schema = TelemetrySchema::Telemetry;
        assert_eq!(subscription, Subscription { api: Api::Telemetry, schema, sources, buffering, destination });
        let tcp = r#"{"types": ["extension"], "destination": {"protocol": "TCP", "port": 53}}"#;
        let subscription = parse(Api::Logs, tcp).unwrap();
        assert_eq!(subscription.destination, Destination::Tcp { port: 53 });
        assert_eq!(subscription.schema, TelemetrySchema::Logs);
    }

    #[test]
    fn each_api_has_its_schemas() {
        for (api, version, known) in [
            (Api::Telemetry, "2022-12-13", true),
            (Api::Telemetry, "2025-01-29", true),
            (Api::Telemetry, "2021-03-18", false),
            (Api::Logs, "2021-03-18", true),
            (Api::Logs, "2022-07-01", false),
        ] {
            assert_eq!(parse(api, &body(version, "")).is_ok(), known, "{api:?} {version}");
        }
        let unversioned = r#"{"types": ["function"], "destination": {"protocol": "TCP", "port": 1}}"#;
        assert!(parse(Api::Telemetry, unversioned).is_err());
    }

    #[test]
    fn buffering_has_limits() {
        let with =
            |limits: &str| parse(Api::Telemetry, &body("2022-07-01", &format!(r#", "buffering": {{{limits}}}"#)));
        let least = with(r#""maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25"#).unwrap().buffering;
        assert_eq!((least.items_max, least.timeout), (1_000, Duration::from_millis(25)));
        assert!(with(r#""maxItems": 10000, "maxBytes": 1048576, "timeoutMs": 30000"#).is_ok());
        for wrong in
            ["\"maxItems\": 999", "\"maxItems\": 10001", "\"maxBytes\": 1", "\"timeoutMs\": 24", "\"timeoutMs\": -1"]
        {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_go_nowhere_but_into_the_sandbox() {
        let http = |uri: &str| {
            let destination = format!(r#"{{"protocol": "HTTP", "URI": "{uri}"}}"#);
            let body =
                format!(r#"{{"schemaVersion": "2022-07-01", "types": ["function"], "destination": {destination}}}"#);
            parse(Api::Telemetry, &body)
        };
        assert!(http("http://sandbox:1").is_ok());
        for wrong in [
            "http://example.com:80/",
            "http://127.0.0.1:80/",
            "https://sandbox.localdomain:80/",
            "http://sandbox.localdomain:9001/",
            "http://sandbox.localdomain:0/",
            "http://sandbox.localdomain.example.com:80/",
            "http://u@sandbox.localdomain:80/",
            "sandbox.localdomain:80",
            "/",
            "",
        ] {
            assert!(http(wrong).is_err(), "{wrong}");
        }
        for body in ["", "null", "{}", r#"{"types": []}"#, &body("2022-07-01", "").replace("function", "nothing")] {
            assert!(parse(Api::Telemetry, body).is_err(), "{body}");
        }
    }
}
