use std::io::Write;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

mod oracle;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A request as text: a first line, headers of which some go on in the next line, and a body.
struct Text {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: String,
}

impl Text {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let folded = head.replace("\n ", " ");
        let mut lines = folded.lines();
        let first = lines.next().unwrap();
        let (method, rest) = first.split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.trim()).unwrap())
        });
        Text {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    fn head(&self) -> Head<'_> {
        Head { method: &self.method, path: &self.path, query: &self.query, headers: &self.headers }
    }
}

/// AWS's published vectors, where they are; they are not part of this project.
fn vectors() -> Option<Vec<Value>> {
    let folder = std::env::var_os("HEARTH_SPEC_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec"), PathBuf::from);
    let read = std::fs::read(folder.join("sigv4-vectors.json"));
    match read {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            // Past what the test runner keeps to itself.
            let said = format!(
                "\nNOT TESTED: AWS's vectors of signatures are not there ({error}); HEARTH_SPEC_DIR names their folder\n"
            );
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
    }
}

#[test]
fn awss_vectors_pass_in_every_stage() {
    let Some(vectors) = vectors() else { return };
    assert_eq!(vectors.len(), 38);
    for vector in vectors {
        for form in ["header", "query"] {
            let name = format!("{} ({form})", vector["name"]);
            let (context, expected) = (&vector["context"], &vector[form]);
            let request = Text::parse(expected["signed_request"].as_str().unwrap());
            let head = request.head();
            let signature = Signature::presented(&head).unwrap().unwrap();
            let token = context["credentials"]["token"].as_str();
            assert_eq!(signature.token.as_deref(), token, "{name}");
            let dialect = Dialect {
                normalizes: context["normalize"].as_bool().unwrap(),
                signs_token: context["omit_session_token"] != true,
                streams: false,
            };
            let secret = context["credentials"]["secret_access_key"].as_str().unwrap();
            let now: Timestamp = context["timestamp"].as_str().unwrap().parse().unwrap();
            let body = Sha256::digest(&request.body).into();
            let check = Check { dialect, secret, now: now.into(), body: Some(body) };
            let canonical = signature.canonical(&head, dialect, &hex(&body));
            assert_eq!(canonical, expected["canonical_request"].as_str().unwrap(), "{name}");
            let text = format!("{ALGORITHM}\n{}{}", signature.context(), hex(&Sha256::digest(&canonical)));
            assert_eq!(text, expected["string_to_sign"].as_str().unwrap(), "{name}");
            assert_eq!(hex(&signature.signature), expected["signature"].as_str().unwrap(), "{name}");
            assert!(matches!(signature.verify(&head, &check), Ok(Payload::Whole(hash)) if hash == body), "{name}");
            let forged = Check { secret: "another", ..check };
            assert_eq!(signature.verify(&head, &forged).err(), Some(Refusal::Mismatch), "{name}");
        }
    }
}

/// Signs as a client of S3 or another service would, with this room's own canonical form: what the oracle does not do.
fn signed(method: &str, path: &str, headers: &[(&'static str, &str)], dialect: Dialect, payload: &str) -> Text {
    let mut request = Text::parse(&format!("{method} {path} HTTP/1.1\nhost:localhost:4566\n"));
    for (name, value) in headers {
        request.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    let mut names: Vec<String> = request.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    let signature = Signature {
        scope: Scope::parse("KEY/20150830/us-east-1/s3/aws4_request").unwrap(),
        token: None,
        signed: names,
        signature: [0; 32],
        time: instant("20150830T123600Z").unwrap(),
        expires: None,
    };
    let canonical = signature.canonical(&request.head(), dialect, payload);
    let text = format!("{ALGORITHM}\n{}{}", signature.context(), hex(&Sha256::digest(canonical)));
    let code = mac(&signing_key(SECRET, &signature.scope), text.as_bytes()).finalize().into_bytes();
    let authorization = format!(
        "{ALGORITHM} Credential=KEY/20150830/us-east-1/s3/aws4_request,SignedHeaders={},Signature={}",
        signature.signed.join(";"),
        hex(&code)
    );
    request.headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    request
}

const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");

fn now() -> SystemTime {
    instant("20150830T123600Z").unwrap().into()
}

fn check(dialect: Dialect, body: Option<&[u8]>) -> Check<'static> {
    Check { dialect, secret: SECRET, now: now(), body: body.map(|body| Sha256::digest(body).into()) }
}

fn verified(request: &Text, check: &Check<'_>) -> Result<Payload, Refusal> {
    Signature::presented(&request.head()).map(Option::unwrap)?.verify(&request.head(), check)
}

#[test]
fn a_signature_is_good_for_as_long_as_clocks_may_differ() {
    let request = signed("GET", "/", &[DATE], Dialect::SERVICE, &hex(&Sha256::digest(b"")));
    let at = |now| verified(&request, &Check { now, ..check(Dialect::SERVICE, Some(b"")) });
    for good in [now(), now() + SKEW, now() - SKEW] {
        assert!(at(good).is_ok());
    }
    let late = at(now() + SKEW + Duration::from_secs(1)).err().unwrap().to_string();
    assert_eq!(
        late,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)."
    );
    assert!(matches!(at(now() - SKEW - Duration::from_secs(1)).err(), Some(Refusal::NotYet { .. })));
    assert!(at(UNIX_EPOCH).is_err());
}

#[test]
fn what_is_not_the_body_that_was_signed_is_refused() {
    let hash = hex(&Sha256::digest(b"body"));
    let request = signed("POST", "/", &[DATE, ("x-amz-content-sha256", &hash)], Dialect::SERVICE, &hash);
    assert!(verified(&request, &check(Dialect::SERVICE, Some(b"body"))).is_ok());
    let other = verified(&request, &check(Dialect::SERVICE, Some(b"other")));
    assert_eq!(other.err(), Some(Refusal::OtherPayload));
    // Without the header it is the body's hash that does not fit.
    let request = signed("POST", "/", &[DATE], Dialect::SERVICE, &hash);
    assert_eq!(verified(&request, &check(Dialect::SERVICE, Some(b"other"))).err(), Some(Refusal::Mismatch));
    assert_eq!(verified(&request, &check(Dialect::SERVICE, None)).err(), Some(Refusal::Payload));
    let unsigned = signed("POST", "/", &[DATE, ("x-amz-content-sha256", UNSIGNED)], Dialect::SERVICE, UNSIGNED);
    assert_eq!(verified(&unsigned, &check(Dialect::SERVICE, Some(b""))).err(), Some(Refusal::Payload));
    assert!(matches!(verified(&unsigned, &check(Dialect::S3, None)), Ok(Payload::Unsigned)));
}

#[test]
fn all_that_must_be_signed_is() {
    let empty = hex(&Sha256::digest(b""));
    let mut request = signed("GET", "/", &[DATE, ("x-amz-content-sha256", &empty)], Dialect::S3, &empty);
    assert!(verified(&request, &check(Dialect::S3, None)).is_ok());
    request.headers.insert("x-amz-acl", HeaderValue::from_static("public-read"));
    let refused = verified(&request, &check(Dialect::S3, None)).err();
    assert_eq!(refused, Some(Refusal::HeaderUnsigned("x-amz-acl".to_owned())));
    request.headers.remove("x-amz-acl");
    let without_host = request.headers[AUTHORIZATION].to_str().unwrap().replace("=host;", "=");
    request.headers.insert(AUTHORIZATION, without_host.parse().unwrap());
    assert_eq!(verified(&request, &check(Dialect::S3, None)).err(), Some(Refusal::HostUnsigned));
}

#[test]
fn what_does_not_read_is_refused_by_name() {
    let presented = |authorization: &str, query: &str| {
        let mut request = Text::parse(&format!("GET /?{query} HTTP/1.1\nhost:h\nx-amz-date:20150830T123600Z\n"));
        if !authorization.is_empty() {
            request.headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        }
        Signature::presented(&request.head()).err()
    };
    let scope = "Credential=K/20150830/r/s/aws4_request";
    let signature = format!("Signature={}", "0".repeat(64));
    for (authorization, query, refusal) in [
        ("AWS4-HMAC-SHA256".to_owned(), "", Refusal::Missing("Credential")),
        (format!("AWS4-HMAC-SHA256 {scope}"), "", Refusal::Missing("SignedHeaders")),
        (format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host"), "", Refusal::Missing("Signature")),
        (format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=Host, {signature}"), "", Refusal::Malformed("SignedHeaders")),
        (format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=b;a, {signature}"), "", Refusal::Malformed("SignedHeaders")),
        (format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"), "", Refusal::Malformed("Signature")),
        ("AWS4-ECDSA-P256-SHA256 x".to_owned(), "", Refusal::Algorithm("AWS4-ECDSA-P256-SHA256".to_owned())),
        (
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0".to_owned(),
            "",
            Refusal::Scope("a/b".to_owned()),
        ),
        (format!("AWS4-HMAC-SHA256 {scope}"), "X-Amz-Algorithm=AWS4-HMAC-SHA256", Refusal::Twice),
        (String::new(), "X-Amz-Algorithm=AWS4-HMAC-SHA256", Refusal::MissingInQuery("X-Amz-Date")),
        (
            String::new(),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20150830T123600Z&X-Amz-Expires=604801",
            Refusal::Malformed("X-Amz-Expires"),
        ),
        (
            String::new(),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20150830T123600Z&X-Amz-Date=20150830T123600Z",
            Refusal::Malformed("X-Amz-Date"),
        ),
        (
            "AWS4-HMAC-SHA256 Credential=K/20150831/r/s/aws4_request, SignedHeaders=host, Signature=0".to_owned(),
            "",
            Refusal::OtherDate { scope: "20150831".to_owned(), date: "20150830".to_owned() },
        ),
    ] {
        assert_eq!(presented(&authorization, query), Some(refusal), "{authorization} {query}");
    }
    assert_eq!(presented("Basic abc", ""), None);
}

/// A body in chunks as AWS's reference of S3 describes it, signed with a chain of its own.
fn chunked(request: &Text, contents: &[&[u8]], trailer: Option<&str>) -> (Bytes, Payload) {
    let payload = verified(request, &check(Dialect::S3, None)).ok().unwrap();
    let Payload::Chunked { signing: Some(signing), .. } = &payload else { panic!("not signed") };
    let ChunkSigning { key, context, previous } = signing;
    let mut previous = *previous;
    let mut body = Vec::new();
    let mut sign = |kind: &str, hashes: String| {
        let text = format!("{ALGORITHM}-{kind}\n{context}{}\n{hashes}", hex(&previous));
        previous = mac(key, text.as_bytes()).finalize().into_bytes().into();
        hex(&previous)
    };
    for content in contents.iter().chain([&&b""[..]]) {
        let hashes = format!("{}\n{}", hex(&Sha256::digest(b"")), hex(&Sha256::digest(content)));
        let signature = sign("PAYLOAD", hashes);
        body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", content.len()).as_bytes());
        if !content.is_empty() {
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
    }
    if let Some(trailer) = trailer {
        let signature = sign("TRAILER", hex(&Sha256::digest(format!("{trailer}\n"))));
        body.extend_from_slice(format!("{trailer}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    (body.into(), payload)
}

type Content = (Vec<u8>, Vec<(String, String)>);

fn read(payload: Payload, length: u64, pieces: &[Bytes]) -> Result<Content, ChunkError> {
    let Payload::Chunked { signing, trailer } = payload else { panic!("not chunked") };
    let mut chunks = Chunks::new(length, signing, trailer);
    let mut content = Vec::new();
    for piece in pieces {
        let mut piece = piece.clone();
        while let Some(found) = chunks.next(&mut piece)? {
            content.extend_from_slice(&found);
        }
    }
    chunks.end()?;
    Ok((content, chunks.trailers().to_vec()))
}

fn streamed(kind: &str) -> Text {
    signed("PUT", "/b/k", &[DATE, ("x-amz-content-sha256", kind)], Dialect::S3, kind)
}

#[test]
fn signed_chunks_are_read_wherever_pieces_end_and_every_changed_byte_is_found() {
    let request = streamed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER");
    let trailer = "x-amz-checksum-crc32c:sOO8/Q==";
    let contents: &[&[u8]] = &[b"hello ", b"world"];
    let (body, _) = chunked(&request, contents, Some(trailer));
    for at in 0..=body.len() {
        let (_, payload) = chunked(&request, contents, Some(trailer));
        let pieces = [body.slice(..at), body.slice(at..)];
        let (content, trailers) = read(payload, 11, &pieces).unwrap();
        assert_eq!(content, b"hello world");
        assert_eq!(trailers, [("x-amz-checksum-crc32c".to_owned(), "sOO8/Q==".to_owned())]);
    }
    for at in 0..body.len() - 2 {
        let (_, payload) = chunked(&request, contents, Some(trailer));
        let mut changed = body.to_vec();
        changed[at] ^= 1;
        let read = read(payload, 11, &[changed.into()]);
        // The name of a header is the same in either case.
        assert!(read.is_err(), "byte {at} of {:?}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn chunks_without_their_signatures_are_refused_and_so_is_an_unsigned_trailer() {
    let request = streamed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    let (body, payload) = chunked(&request, &[b"hello"], None);
    assert_eq!(read(payload, 5, std::slice::from_ref(&body)).unwrap().0, b"hello");
    let payload = || chunked(&request, &[b"hello"], None).1;
    let bare = Bytes::from_static(b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(read(payload(), 5, &[bare]), Err(ChunkError::Signature));
    let mut more = body[..body.len() - 2].to_vec();
    more.extend_from_slice(b"x-amz-checksum-crc32:AAAA\r\n\r\n");
    assert_eq!(read(payload(), 5, &[more.into()]), Err(ChunkError::Signature));
    let request = streamed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER");
    let (body, payload) = chunked(&request, &[b"hello"], None);
    assert_eq!(read(payload, 5, &[body]), Err(ChunkError::Signature), "the trailer is missing");
}

#[test]
fn chunks_need_no_signature_where_none_was_announced() {
    let request = streamed("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let payload = verified(&request, &check(Dialect::S3, None)).ok().unwrap();
    let body = Bytes::from_static(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n");
    let (content, trailers) = read(payload, 5, &[body]).unwrap();
    assert_eq!((content.as_slice(), trailers.len()), (&b"hello"[..], 1));
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(path in "/\\PC{0,20}", query in "\\PC{0,60}", authorization in "AWS4-HMAC-SHA256 [ -~]{0,80}") {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        for headers in [headers, HeaderMap::new()] {
            let head = Head { method: "GET", path: &path, query: &query, headers: &headers };
            if let Ok(Some(signature)) = Signature::presented(&head) {
                let _ = signature.verify(&head, &check(Dialect::SERVICE, Some(b"")));
            }
        }
    }

    #[test]
    fn no_chunks_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), trailer in any::<bool>()) {
        let request = streamed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        let Ok(Payload::Chunked { signing, .. }) = verified(&request, &check(Dialect::S3, None)) else { panic!() };
        for signing in [signing, None] {
            let mut chunks = Chunks::new(50, signing, trailer);
            let mut piece = Bytes::from(bytes.clone());
            while let Ok(Some(_)) = chunks.next(&mut piece) {}
            let _ = chunks.end();
        }
    }
}
