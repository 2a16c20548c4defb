//! The parts of the one text that a request is signed as: path, query and headers.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{LENGTH_MAX, Refusal};

/// What stays as it is (RFC 3986).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const SEGMENTS: &AsciiSet = &UNRESERVED.remove(b'/');

/// The path of most services: encoded once more than it was sent, without what leads nowhere.
pub fn service_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    // What ends with a segment that leads nowhere is a folder (RFC 3986, 5.2.4).
    let is_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let end = if is_folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", utf8_percent_encode(&kept.join("/"), SEGMENTS))
}

/// The path of S3: as it was meant, encoded once.
pub fn plain_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let meant: Vec<u8> = percent_decode_str(segment).collect();
        percent_encoding::percent_encode(&meant, UNRESERVED).to_string()
    });
    let encoded = segments.collect::<Vec<_>>().join("/");
    if encoded.is_empty() { "/".to_owned() } else { encoded }
}

/// `name:value` lines. What was sent several times is one line; what was not sent is empty.
pub fn headers(headers: &HeaderMap, signed: &[String]) -> String {
    let mut lines = String::new();
    for name in signed {
        let values = headers.get_all(name).iter();
        let values: Vec<String> = values.map(|value| trimmed(&String::from_utf8_lossy(value.as_bytes()))).collect();
        lines.extend([name, ":", &values.join(","), "\n"]);
    }
    lines
}

/// Without white space at the ends, and with one space for several within.
fn trimmed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Pairs of a query, as they were sent.
pub struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
    }

    /// The decoded value of the first parameter with this name.
    pub fn given(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(found, _)| *found == name)?;
        Some(decoded(value))
    }

    /// As [`Query::given`], of a parameter that must not be there twice.
    pub fn once(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        let found = self.0.iter().filter(|(found, _)| *found == name).count();
        let value = self.given(name);
        if found > 1 || value.as_ref().is_some_and(|value| value.len() > LENGTH_MAX) {
            return Err(Refusal::Malformed(name));
        }
        Ok(value)
    }

    /// Encoded in one way and in order, without what `is_left_out`.
    pub fn canonical(&self, is_left_out: impl Fn(&str) -> bool) -> String {
        let kept = self.0.iter().filter(|(name, _)| !is_left_out(name));
        let mut pairs: Vec<(String, String)> = kept.map(|(name, value)| (again(name), again(value))).collect();
        pairs.sort_unstable();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

/// A plus is a space, as AWS's own signers have it.
fn meant(text: &str) -> Vec<u8> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).collect()
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&meant(text)).into_owned()
}

fn again(text: &str) -> String {
    percent_encoding::percent_encode(&meant(text), UNRESERVED).to_string()
}
