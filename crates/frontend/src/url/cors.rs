//! CORS of a function URL: preflights are answered here, and what the function says of it itself is replaced (spec 7.3).

use hearth_wire_lambda::types::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};

/// Of answers; those of a function do not count where there are rules.
const ALL: &[HeaderName] = &[
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Whether a browser asks what it may ask for.
pub fn is_preflight(head: &request::Parts) -> bool {
    let has = |name: HeaderName| head.headers.contains_key(name);
    head.method == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers that a preflight is answered: none for an origin that is not allowed.
pub fn preflight(cors: &Cors, asked: &HeaderMap) -> HeaderMap {
    let mut answer = HeaderMap::new();
    let Some(origin) = allowed(cors, asked) else { return answer };
    allow(cors, origin, &mut answer);
    // With credentials a star is no wildcard (Fetch standard), so what was asked for is named.
    let named = |list: &Option<Vec<String>>, asked_by: HeaderName| match listed(list) {
        Some(list) if list == "*" && cors.allow_credentials == Some(true) => asked.get(asked_by).cloned(),
        Some(list) => HeaderValue::from_str(&list).ok(),
        None => None,
    };
    let lists = [
        (ACCESS_CONTROL_ALLOW_METHODS, named(&cors.allow_methods, ACCESS_CONTROL_REQUEST_METHOD)),
        (ACCESS_CONTROL_ALLOW_HEADERS, named(&cors.allow_headers, ACCESS_CONTROL_REQUEST_HEADERS)),
    ];
    answer.extend(lists.into_iter().filter_map(|(name, list)| Some((name, list?))));
    if let Some(age) = cors.max_age {
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age));
    }
    answer
}

/// Gives an answer the headers that the rules say, and takes away those that the function said.
pub fn apply(cors: &Cors, asked: &HeaderMap, answer: &mut HeaderMap) {
    ALL.iter().for_each(|name| drop(answer.remove(name)));
    let Some(origin) = allowed(cors, asked) else { return };
    allow(cors, origin, answer);
    let exposed = listed(&cors.expose_headers).and_then(|list| HeaderValue::from_str(&list).ok());
    if let Some(exposed) = exposed {
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The origin, if it may ask. `*` is any; `https://*.example.com` is not, as on AWS.
fn allowed<'a>(cors: &Cors, asked: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let origin = asked.get(ORIGIN)?;
    let mut origins = cors.allow_origins.iter().flatten();
    origins.any(|one| one == "*" || one.as_bytes().eq_ignore_ascii_case(origin.as_bytes())).then_some(origin)
}

fn allow(cors: &Cors, origin: &HeaderValue, answer: &mut HeaderMap) {
    let credentials = cors.allow_credentials == Some(true);
    let is_any = cors.allow_origins.iter().flatten().any(|one| one == "*");
    if is_any && !credentials {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.append(VARY, HeaderValue::from_static("Origin"));
    }
    if credentials {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn listed(list: &Option<Vec<String>>) -> Option<String> {
    let list = list.as_ref().filter(|list| !list.is_empty())?;
    Some(if list.iter().any(|one| one == "*") { "*".to_owned() } else { list.join(",") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-a"));
        headers
    }

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|item| (*item).to_owned()).collect())
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_preflight_is_answered_by_the_rules() {
        let cors = Cors {
            allow_origins: list(&["https://a.example"]),
            allow_methods: list(&["GET", "PUT"]),
            allow_headers: list(&["x-a", "x-b"]),
            max_age: Some(60),
            ..Cors::default()
        };
        let expected = [
            "access-control-allow-headers: x-a,x-b",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-origin: https://a.example",
            "access-control-max-age: 60",
            "vary: Origin",
        ];
        assert_eq!(shown(&preflight(&cors, &asked("https://a.example"))), expected);
        assert!(preflight(&cors, &asked("https://b.example")).is_empty());
        assert!(preflight(&Cors::default(), &asked("https://a.example")).is_empty());
    }

    #[test]
    fn stars_are_spelled_out_where_credentials_are_allowed() {
        let star = || list(&["*"]);
        let cors = Cors { allow_origins: star(), allow_methods: star(), allow_headers: star(), ..Cors::default() };
        let open = preflight(&cors, &asked("https://a.example"));
        assert_eq!(
            (&open[ACCESS_CONTROL_ALLOW_ORIGIN], &open[ACCESS_CONTROL_ALLOW_METHODS]),
            (&"*".parse().unwrap(), &"*".parse().unwrap())
        );
        let with = preflight(&Cors { allow_credentials: Some(true), ..cors }, &asked("https://a.example"));
        let expected = [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: x-a",
            "access-control-allow-methods: PUT",
            "access-control-allow-origin: https://a.example",
            "vary: Origin",
        ];
        assert_eq!(shown(&with), expected);
    }

    #[test]
    fn what_the_function_says_is_replaced() {
        let cors =
            Cors { allow_origins: list(&["https://a.example"]), expose_headers: list(&["x-c"]), ..Cors::default() };
        let mut answer = HeaderMap::new();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        apply(&cors, &asked("https://a.example"), &mut answer);
        let expected =
            ["access-control-allow-origin: https://a.example", "access-control-expose-headers: x-c", "vary: Origin"];
        assert_eq!(shown(&answer), expected);
        apply(&cors, &HeaderMap::new(), &mut answer);
        assert_eq!(shown(&answer), ["vary: Origin"]);
    }
}
