//! Which requests are for a function URL: by their host, `ID.lambda-url.REGION.localhost`, or for clients that find no such
//! host by their path, `/_hearth/v1/url/ID/…`.

use http::header::HOST;
use http::request;

const PATH: &str = "/_hearth/v1/url/";

#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub id: String,
    /// Where the host says it.
    pub region: Option<String>,
    /// What is asked of the function, as it was sent.
    pub path: &'a str,
}

impl<'a> Place<'a> {
    pub fn of(head: &'a request::Parts) -> Option<Self> {
        let path = head.uri.path();
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
        if let [id, "lambda-url", region, "localhost"] = name.split('.').collect::<Vec<_>>().as_slice() {
            let path = if path.is_empty() { "/" } else { path };
            return Some(Place { id: (*id).to_owned(), region: Some((*region).to_owned()), path });
        }
        let rest = path.strip_prefix(PATH)?;
        let (id, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        Some(Place { id: id.to_owned(), region: None, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(host: &str, uri: &str) -> request::Parts {
        http::Request::builder().uri(uri).header(HOST, host).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_url_is_known_by_its_host_or_by_its_path() {
        let by_host = head("ABC.lambda-url.eu-west-1.localhost:4566", "/a%2Fb?c");
        let found = Place::of(&by_host).unwrap();
        assert_eq!((found.id.as_str(), found.region.as_deref(), found.path), ("abc", Some("eu-west-1"), "/a%2Fb"));
        for (uri, path) in
            [("/_hearth/v1/url/abc", "/"), ("/_hearth/v1/url/abc/", "/"), ("/_hearth/v1/url/abc/x/y?z", "/x/y")]
        {
            let head = head("127.0.0.1:4566", uri);
            let found = Place::of(&head).unwrap();
            assert_eq!((found.id.as_str(), found.region, found.path), ("abc", None, path), "{uri}");
        }
        for (host, uri) in
            [("localhost", "/"), ("lambda-url.eu-west-1.localhost", "/"), ("a.b.lambda-url.r.localhost", "/x")]
        {
            assert_eq!(Place::of(&head(host, uri)), None, "{host}");
        }
    }
}
