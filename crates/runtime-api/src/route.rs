//! Method and path to what is asked for.

use http::Method;

use crate::extensions::Failing;
use crate::telemetry::Api;

/// A request of the Runtime API, or how it is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Ping,
    Register,
    NextEvent,
    ExtensionError(Failing),
    Subscribe(Api),
    WrongMethod,
    Unknown,
}

impl<'a> Route<'a> {
    pub fn of(method: &Method, path: &'a str) -> Self {
        let Some(path) = path.strip_prefix("/2018-06-01/") else { return Route::beside(method, path) };
        let (wanted, route) = match path {
            "runtime/invocation/next" => (Method::GET, Route::Next),
            "runtime/init/error" => (Method::POST, Route::InitError),
            "ping" => (Method::GET, Route::Ping),
            _ => match path.strip_prefix("runtime/invocation/").and_then(|rest| rest.split_once('/')) {
                Some((id, "response")) => (Method::POST, Route::Response(id)),
                Some((id, "error")) => (Method::POST, Route::Error(id)),
                _ => return Route::Unknown,
            },
        };
        if *method == wanted { route } else { Route::WrongMethod }
    }

    /// Routes of the other APIs on this address.
    fn beside(method: &Method, path: &str) -> Self {
        let (wanted, route) = match path {
            "/2020-01-01/extension/register" => (Method::POST, Route::Register),
            "/2020-01-01/extension/event/next" => (Method::GET, Route::NextEvent),
            "/2020-01-01/extension/init/error" => (Method::POST, Route::ExtensionError(Failing::Init)),
            "/2020-01-01/extension/exit/error" => (Method::POST, Route::ExtensionError(Failing::Exit)),
            "/2020-08-15/logs" => (Method::PUT, Route::Subscribe(Api::Logs)),
            "/2022-07-01/telemetry" => (Method::PUT, Route::Subscribe(Api::Telemetry)),
            _ => return Route::Unknown,
        };
        if *method == wanted { route } else { Route::WrongMethod }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_apart() {
        let cases = [
            (Method::GET, "/2018-06-01/runtime/invocation/next", Route::Next),
            (Method::POST, "/2018-06-01/runtime/invocation/next", Route::WrongMethod),
            (Method::POST, "/2018-06-01/runtime/invocation/a-b/response", Route::Response("a-b")),
            (Method::POST, "/2018-06-01/runtime/invocation/a-b/error", Route::Error("a-b")),
            (Method::GET, "/2018-06-01/runtime/invocation/a-b/error", Route::WrongMethod),
            (Method::POST, "/2018-06-01/runtime/invocation/a/b/response", Route::Unknown),
            (Method::POST, "/2018-06-01/runtime/init/error", Route::InitError),
            (Method::GET, "/2018-06-01/ping", Route::Ping),
            (Method::GET, "/2018-06-01/", Route::Unknown),
            (Method::POST, "/2020-01-01/extension/register", Route::Register),
            (Method::GET, "/2020-01-01/extension/register", Route::WrongMethod),
            (Method::GET, "/2020-01-01/extension/event/next", Route::NextEvent),
            (Method::POST, "/2020-01-01/extension/init/error", Route::ExtensionError(Failing::Init)),
            (Method::POST, "/2020-01-01/extension/exit/error", Route::ExtensionError(Failing::Exit)),
            (Method::GET, "/2020-01-01/extension/event", Route::Unknown),
            (Method::PUT, "/2020-08-15/logs", Route::Subscribe(Api::Logs)),
            (Method::PUT, "/2022-07-01/telemetry", Route::Subscribe(Api::Telemetry)),
            (Method::GET, "/", Route::Unknown),
            (Method::GET, "*", Route::Unknown),
        ];
        for (method, path, route) in cases {
            assert_eq!(Route::of(&method, path), route, "{method} {path}");
        }
    }
}
