//! A web page must not be able to drive a developer's Hearth: only local names are answered, and no foreign origin.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};

/// Why a request is refused, for the client.
pub fn refusal(headers: &HeaderMap) -> Option<String> {
    foreign_host(headers).or_else(|| foreign_origin(headers))
}

/// A name that is given twice is local only when both are.
pub fn foreign_host(headers: &HeaderMap) -> Option<String> {
    let hosts: Vec<String> = headers.get_all(HOST).iter().map(text).collect();
    let is_foreign = hosts.is_empty() || !hosts.iter().all(|host| is_local(host));
    is_foreign.then(|| format!("The host '{}' is not a local name of this Hearth.", shown(&hosts.join(", "))))
}

/// Function URLs do not ask: there CORS decides.
fn foreign_origin(headers: &HeaderMap) -> Option<String> {
    let is_own = |origin: &String| origin.split_once("://").is_some_and(|(_, host)| is_local(host));
    let foreign = headers.get_all(ORIGIN).iter().map(text).find(|origin| !is_own(origin));
    foreign.map(|origin| format!("Requests from the origin '{}' are refused.", shown(&origin)))
}

fn text(value: &HeaderValue) -> String {
    value.to_str().unwrap_or("?").to_owned()
}

/// `localhost`, `*.localhost`, a loopback address; each with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_are_local() {
        for local in
            ["localhost", "localhost:4566", "a.localhost", "127.0.0.1:1", "127.9.9.9", "[::1]:4566", "LOCALHOST"]
        {
            assert!(is_local(local), "{local}");
        }
        for foreign in
            ["", "example.com", "localhost.example.com", "10.0.0.1:4566", "127.0.0.1.example.com", "xlocalhost"]
        {
            assert!(!is_local(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_foreign_or_opaque_origin_is_refused() {
        let headers = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "localhost:4566".parse().unwrap());
            headers.insert(ORIGIN, origin.parse().unwrap());
            headers
        };
        assert!(refusal(&headers("http://localhost:3000")).is_none());
        assert!(refusal(&headers("https://evil.example")).is_some());
        assert!(refusal(&headers("null")).is_some());
    }

    #[test]
    fn a_second_name_does_not_hide_behind_a_local_one() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(refusal(&headers).is_none());
        headers.append(ORIGIN, "http://localhost".parse().unwrap());
        headers.append(ORIGIN, "http://evil.example".parse().unwrap());
        assert!(refusal(&headers).is_some());
        headers.remove(ORIGIN);
        headers.append(HOST, "evil.example".parse().unwrap());
        assert!(refusal(&headers).is_some());
    }
}
