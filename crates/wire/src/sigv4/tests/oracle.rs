//! What AWS's own signer signs, this room must accept, and nothing that differs from it.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use proptest::prelude::*;

use super::{SECRET, Text, check, now, verified};
use crate::sigv4::{Check, Dialect, Digest, Payload, Refusal, Sha256, UNSIGNED, hex};

#[derive(Clone, Debug)]
struct Wanted {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    token: Option<&'static str>,
    in_query: bool,
    s3: bool,
    unsigned: bool,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    // Clients of S3 encode whatever may be encoded, once.
    let path = any::<bool>().prop_flat_map(move |s3| {
        let segment = if s3 {
            "([a-zA-Z0-9._~-]|%20|%C3%A9|%2F|%25){0,6}"
        } else {
            "([a-zA-Z0-9._~$&+,;=:@!'()*-]|%20|%C3%A9|%2F|%25){0,6}"
        };
        let segments = prop::collection::vec(segment, 0..4);
        (Just(s3), segments.prop_map(|segments| format!("/{}", segments.join("/"))))
    });
    let part = "([a-zA-Z0-9._~!'()*,;:@/?$+-]|%20|%26|%3D|%C3%A9|%25){0,6}";
    let pair = (part, prop::option::of(part)).prop_map(|(name, value)| match value {
        Some(value) => format!("q{name}={value}"),
        None => format!("q{name}"),
    });
    let query = prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"));
    let header = ("x-[a-z]{1,3}", "[ !-~]{0,12}");
    (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
        path,
        query,
        prop::collection::vec(header, 0..4),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::option::of(Just("AQoDYXdzEPT//////////wEXAMPLE+/==")),
        any::<[bool; 2]>(),
    )
        .prop_map(|(method, (s3, path), query, headers, body, token, [in_query, unsigned])| Wanted {
            method,
            target: if query.is_empty() { path } else { format!("{path}?{query}") },
            headers,
            body,
            token,
            in_query,
            s3,
            unsigned: unsigned && s3,
        })
}

fn sent(wanted: &Wanted) -> Text {
    let identity =
        aws_credential_types::Credentials::new("KEY", SECRET, wanted.token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location =
        if wanted.in_query { SignatureLocation::QueryParams } else { SignatureLocation::Headers };
    settings.expires_in = wanted.in_query.then_some(Duration::from_secs(3600));
    if wanted.s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(if wanted.s3 { "s3" } else { "lambda" })
        .time(now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let uri = format!("http://localhost:4566{}", wanted.target);
    let headers = || wanted.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = if wanted.unsigned { SignableBody::UnsignedPayload } else { SignableBody::Bytes(&wanted.body) };
    let signable = SignableRequest::new(wanted.method, &uri, headers(), body).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    let mut request = http::Request::builder().method(wanted.method).uri(&uri);
    for (name, value) in headers() {
        request = request.header(name, value);
    }
    let mut request = request.header("host", "localhost:4566").body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    Text {
        method: wanted.method.to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
        body: String::new(),
    }
}

fn dialect(wanted: &Wanted) -> Dialect {
    if wanted.s3 { Dialect::S3 } else { Dialect::SERVICE }
}

proptest! {
    #[test]
    fn what_awss_signer_signs_is_good(wanted in wanted()) {
        let request = sent(&wanted);
        let whole = check(dialect(&wanted), Some(&wanted.body));
        // A presigned request of S3 leaves the body unsigned, whatever the body.
        let presigned_for_s3 = wanted.s3 && wanted.in_query && !wanted.unsigned;
        prop_assume!(!presigned_for_s3);
        let good = verified(&request, &Check { body: if wanted.s3 { None } else { whole.body }, ..whole });
        prop_assert!(good.is_ok(), "{:?} {:?} {:?}", good.err(), request.path, request.query);
        match good.ok().unwrap() {
            Payload::Unsigned => prop_assert!(wanted.unsigned || wanted.in_query),
            Payload::Whole(hash) => prop_assert_eq!(hex(&hash), hex(&Sha256::digest(&wanted.body))),
            Payload::Chunked { .. } => prop_assert!(false, "{}", UNSIGNED),
        }
    }

    #[test]
    fn what_was_changed_on_its_way_is_not(wanted in wanted(), what in 0..4) {
        prop_assume!(!(wanted.s3 && wanted.in_query && !wanted.unsigned));
        let mut request = sent(&wanted);
        let mut secret = SECRET.to_owned();
        match what {
            0 => request.method = if wanted.method == "GET" { "PUT".into() } else { "GET".into() },
            1 => request.path.push('x'),
            2 => request.query = format!("{}&zz=1", request.query),
            _ => secret.push('x'),
        }
        let whole = check(dialect(&wanted), Some(&wanted.body));
        let body = if wanted.s3 { None } else { whole.body };
        let refused = verified(&request, &Check { body, secret: &secret, ..whole });
        prop_assert_eq!(refused.err(), Some(Refusal::Mismatch));
    }

    #[test]
    fn a_presigned_request_is_good_for_as_long_as_it_says(wanted in wanted(), after in 0..7200u64) {
        prop_assume!(wanted.in_query && (!wanted.s3 || wanted.unsigned));
        let request = sent(&wanted);
        let whole = check(dialect(&wanted), if wanted.s3 { None } else { Some(&wanted.body) });
        let now: SystemTime = now() + Duration::from_secs(after);
        prop_assert_eq!(verified(&request, &Check { now, ..whole }).is_ok(), after <= 3600);
    }
}
