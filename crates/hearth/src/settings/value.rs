//! Texts that are values of settings: addresses, durations, sizes, ranges, choices.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hearth_model::Secret;
use hearth_sandbox::{Isolation, UIDS_MIN};
use hearth_store::PostgresUrl;

use crate::client::Endpoint;

/// A type that a setting can have.
pub trait Value: Sized {
    /// How help and documentation name it.
    const KIND: &'static str;

    /// The error reads after the text: `"x" is not …`.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Host user ids from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidRange(pub RangeInclusive<u32>);

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $($variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text),+ })
            }
        }

        impl Value for $name {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err(format!("is not one of {}", [$($text),+].join(", "))),
                }
            }
        }
    };
}

choice!(
    /// How much the server says of itself.
    LogLevel, "error|warn|info|debug|trace",
    Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace"
);
choice!(
    /// Form of the server's own log.
    LogFormat, "text|json", Text = "text", Json = "json"
);

impl Value for Isolation {
    const KIND: &'static str = "process|landlock|none";

    fn parse(text: &str) -> Result<Self, String> {
        Isolation::parse(text).ok_or_else(|| "is not one of process, landlock, none".to_owned())
    }
}

impl Value for SocketAddr {
    const KIND: &'static str = "ADDRESS:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        named.as_deref().unwrap_or(text).parse().map_err(|_| "is not an address such as 127.0.0.1:4566".to_owned())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("is not a path".to_owned());
        }
        Ok(PathBuf::from(text))
    }
}

impl Value for Option<PathBuf> {
    const KIND: &'static str = PathBuf::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { PathBuf::parse(text).map(Some) }
    }
}

/// Where another service is, and who Hearth is there.
#[derive(Clone)]
pub struct ServiceEndpoint {
    pub address: Endpoint,
    /// Key id and secret.
    pub credentials: Option<(String, Secret)>,
}

impl fmt::Debug for ServiceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Value for Option<ServiceEndpoint> {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let bad = || "is not an endpoint such as http://KEY:SECRET@host:9000 or https://KEY:SECRET@host".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (who, address) = rest.rsplit_once('@').map_or((None, rest), |(who, address)| (Some(who), address));
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().map(String::from);
        let credentials = who.map(|who| {
            let (key, secret) = who.split_once(':').filter(|(key, secret)| !key.is_empty() && !secret.is_empty())?;
            Some((decoded(key).ok()?, Secret::new(decoded(secret).ok()?)))
        });
        let credentials = credentials.map(|credentials| credentials.ok_or_else(bad)).transpose()?;
        let address = Endpoint::parse(&format!("{scheme}://{address}")).map_err(|_| bad())?;
        Ok(Some(ServiceEndpoint { address, credentials }))
    }
}

/// A bucket of another S3, and where in it.
#[derive(Clone, Debug)]
pub struct S3Bucket {
    pub endpoint: ServiceEndpoint,
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl Value for Option<S3Bucket> {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let bad = || "is not a bucket such as https://KEY:SECRET@host/BUCKET".to_owned();
        let from = text.find('@').or_else(|| text.find("://").map(|at| at + 2)).ok_or_else(bad)?;
        let slash = text[from + 1..].find('/').map(|at| from + 1 + at).ok_or_else(bad)?;
        let endpoint = <Option<ServiceEndpoint>>::parse(&text[..slash])?.ok_or_else(bad)?;
        let path = percent_encoding::percent_decode_str(&text[slash + 1..]).decode_utf8().map_err(|_| bad())?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
        if bucket.is_empty() {
            return Err(bad());
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Some(S3Bucket { endpoint, bucket: bucket.to_owned(), prefix }))
    }
}

impl Value for Option<PostgresUrl> {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { PostgresUrl::parse(text).map(Some) }
    }
}

/// The secret of keys that Hearth did not issue.
#[derive(Clone)]
pub struct LocalSecret(pub Secret);

impl fmt::Debug for LocalSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Value for LocalSecret {
    const KIND: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is no secret".to_owned());
        }
        Ok(LocalSecret(Secret::new(text)))
    }
}

impl<T: FromStr<Err: Display>> Value for Vec<T> {
    const KIND: &'static str = "LIST";

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().map_err(|reason| format!("has \"{part}\", which {reason}"))).collect()
    }
}

impl Value for bool {
    const KIND: &'static str = "true|false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not true or false".to_owned())
    }
}

impl Value for u32 {
    const KIND: &'static str = "NUMBER";

    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("is not a whole number from 1 to {}", u32::MAX)),
            Ok(number) => Ok(number),
        }
    }
}

impl Value for Duration {
    const KIND: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "is not a duration such as 500ms, 1s, 10m, 6h or 30d".to_owned();
        let (digits, unit) = split_unit(text).ok_or_else(bad)?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        // A century is more than any wait needs, and leaves clocks room to add.
        let longest = 100 * 365 * 86_400_000;
        digits
            .checked_mul(milliseconds)
            .filter(|total| *total <= longest)
            .map(Duration::from_millis)
            .ok_or_else(|| "is longer than a century".to_owned())
    }
}

/// How long somebody is waited for: a second or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Value for Patience {
    const KIND: &'static str = Duration::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        match Duration::parse(text)? {
            short if short < Duration::from_secs(1) => Err("is shorter than a second".to_owned()),
            patience => Ok(Patience(patience)),
        }
    }
}

impl Value for Size {
    const KIND: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "is not a size such as 512MiB or 2GiB, or a number of bytes".to_owned();
        let (digits, unit) = split_unit(text).ok_or_else(bad)?;
        let shift = match unit {
            "" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(bad()),
        };
        digits.checked_mul(1 << shift).map(Size).ok_or_else(|| "is too large".to_owned())
    }
}

impl Value for UidRange {
    const KIND: &'static str = "FIRST-LAST";

    fn parse(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ends {
            Some((first, last)) if first == 0 || last < first || last - first < UIDS_MIN - 1 || last == u32::MAX => {
                Err(format!("is not a range of at least {UIDS_MIN} user ids other than root's"))
            }
            Some((first, last)) => Ok(UidRange(first..=last)),
            None => Err("is not a range of user ids such as 1879048192-1879113727".to_owned()),
        }
    }
}

/// `10m` is 10 and `m`. No sign, no fraction.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_carry_their_unit() {
        assert_eq!(Duration::parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(Duration::parse("6h"), Ok(Duration::from_secs(21_600)));
        assert_eq!(Size::parse("512MiB"), Ok(Size(536_870_912)));
        assert_eq!(Size::parse("80530636800"), Ok(Size(80_530_636_800)));
        for bad in ["", "5", "s", "-1s", "1.5s", "1 s", "10min", "99999999999999999999s", "9999999d"] {
            assert!(Duration::parse(bad).is_err(), "{bad:?}");
            assert!(Patience::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "MiB", "1MB", "1mib", "-1", "99999999999TiB"] {
            assert!(Size::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        assert_eq!(<Isolation as Value>::parse("none"), Ok(Isolation::None));
        assert_eq!(<Isolation as Value>::parse("vm"), Err("is not one of process, landlock, none".to_owned()));
        assert_eq!(LogLevel::parse("Info"), Err("is not one of error, warn, info, debug, trace".to_owned()));
    }

    #[test]
    fn another_s3_may_have_credentials() {
        let parse = <Option<ServiceEndpoint> as Value>::parse;
        assert!(parse("").unwrap().is_none());
        let plain = parse("http://127.0.0.1:9000").unwrap().unwrap();
        assert!(plain.credentials.is_none() && plain.address.to_string() == "http://127.0.0.1:9000");
        let signed = parse("http://key:a%2Fb@s3.test:9000").unwrap().unwrap();
        let (key, secret) = signed.credentials.clone().unwrap();
        assert_eq!((key.as_str(), secret.reveal()), ("key", "a/b"));
        assert_eq!(format!("{signed:?}"), "http://s3.test:9000");
        let secure = parse("https://key:secret@s3.test").unwrap().unwrap().address;
        assert_eq!((secure.to_string(), secure.authority()), ("https://s3.test:443".into(), "s3.test".into()));
        for bad in ["s3.test", "ftp://s3.test", "http://key@s3.test", "http://:x@s3.test", "http://s3.test/path"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bucket_is_an_endpoint_and_a_path() {
        let parse = <Option<S3Bucket> as Value>::parse;
        let found = parse("http://key:se%2Fcret@s3.test:9000/code/a/b/").unwrap().unwrap();
        assert_eq!((found.bucket.as_str(), found.prefix.as_str()), ("code", "a/b"));
        assert_eq!(found.endpoint.credentials.unwrap().1.reveal(), "se/cret");
        assert_eq!(parse("http://s3.test/code").unwrap().unwrap().prefix, "");
        for bad in ["s3.test", "http://s3.test", "http://s3.test/", "ftp://s3.test/code", "http://k@s3.test/code"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_of_uids_never_holds_root_and_has_room_for_sandboxes() {
        assert_eq!(UidRange::parse("10-1033"), Ok(UidRange(10..=1033)));
        for bad in ["0-2000", "2000-10", "10-10", "10", "a-b", "10-4294967295"] {
            assert!(UidRange::parse(bad).is_err(), "{bad:?}");
        }
        let short = UidRange::parse("10-1032");
        assert_eq!(short, Err("is not a range of at least 1024 user ids other than root's".to_owned()));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
            let _ = (SocketAddr::parse(&text), Duration::parse(&text), Size::parse(&text), UidRange::parse(&text));
            let _ = (bool::parse(&text), u32::parse(&text), PathBuf::parse(&text), LogLevel::parse(&text));
        }

        #[test]
        fn whole_milliseconds_read_back(milliseconds in 0u64..1_000_000_000) {
            prop_assert_eq!(Duration::parse(&format!("{milliseconds}ms")), Ok(Duration::from_millis(milliseconds)));
        }
    }
}
