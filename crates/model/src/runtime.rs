//! Runtime identifiers that AWS accepts (API model of 2026).

use std::fmt;

/// A runtime identifier that CreateFunction accepts, such as `python3.11` or `provided.al2023`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Runtime(&'static str);

/// What a runtime's bootstrap must speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Python,
    NodeJs,
    Java,
    DotNet,
    Ruby,
    /// The package brings its own `bootstrap` (`provided.al2`, `provided.al2023`).
    Provided,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime")]
pub struct UnknownRuntime;

/// Every identifier that can be named for a new function, in the order in which error texts list them.
pub const RUNTIMES: &[&str] = &[
    "nodejs16.x",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "nodejs26.x",
    "python3.8",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "java8.al2",
    "java8.al2023",
    "java11",
    "java11.al2023",
    "java17",
    "java17.al2023",
    "java21",
    "java25",
    "dotnet6",
    "dotnet8",
    "dotnet10",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "ruby4.0",
    "provided.al2",
    "provided.al2023",
];

/// Identifiers that only functions of long ago may have: AWS lets nobody name them any more (the others of its model).
const RETIRED: &[&str] = &[
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "java8",
    "python2.7",
    "python3.6",
    "python3.7",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "provided",
];

impl Runtime {
    /// Whether a text names a runtime that there was.
    pub fn is_retired(text: &str) -> bool {
        RETIRED.contains(&text)
    }

    pub fn parse(text: &str) -> Result<Self, UnknownRuntime> {
        RUNTIMES.iter().find(|known| **known == text).map(|known| Runtime(known)).ok_or(UnknownRuntime)
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }

    pub fn family(self) -> Family {
        match self.0.bytes().next() {
            Some(b'n') => Family::NodeJs,
            Some(b'j') => Family::Java,
            Some(b'd') => Family::DotNet,
            Some(b'r') => Family::Ruby,
            _ if self.0.starts_with("python") => Family::Python,
            _ => Family::Provided,
        }
    }

    /// `3.11` of `python3.11`, `20` of `nodejs20.x`; `None` for `provided`.
    pub fn language_version(self) -> Option<&'static str> {
        let digits = self.0.find(|c: char| c.is_ascii_digit())?;
        match self.family() {
            Family::Provided => None,
            _ => Some(self.0[digits..].trim_end_matches(".x").trim_end_matches(".al2023").trim_end_matches(".al2")),
        }
    }

    /// Whether functions can begin from a snapshot on AWS: Java from 11 on, Python from 3.12, .NET from 8.
    pub fn has_snap_start(self) -> bool {
        let version = self.language_version().unwrap_or_default();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
        let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        match self.family() {
            Family::Java => version >= (11, 0),
            Family::Python => version >= (3, 12),
            Family::DotNet => version >= (8, 0),
            Family::NodeJs | Family::Ruby | Family::Provided => false,
        }
    }

    /// Amazon Linux 2 runtimes see their Runtime API on loopback, later ones on a link-local address (spec 3.2).
    pub fn runtime_api_address(self) -> &'static str {
        let al2 = [
            "nodejs16.x",
            "nodejs18.x",
            "python3.8",
            "python3.9",
            "python3.10",
            "python3.11",
            "java8.al2",
            "java11",
            "java17",
            "ruby3.2",
            "dotnet6",
            "provided.al2",
        ];
        if al2.contains(&self.0) { "127.0.0.1:9001" } else { "169.254.100.1:9001" }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl serde::Serialize for Runtime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Runtime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Runtime::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_for_newer_runtimes_of_three_languages() {
        let with = RUNTIMES.iter().filter(|name| Runtime::parse(name).unwrap().has_snap_start());
        let expected = "python3.12 python3.13 python3.14 python3.15 java11 java11.al2023 java17 java17.al2023 java21 java25 \
                        dotnet8 dotnet10";
        assert_eq!(with.copied().collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn what_is_retired_is_no_runtime() {
        assert!(RETIRED.iter().all(|name| Runtime::parse(name).is_err() && Runtime::is_retired(name)));
        assert!(RUNTIMES.iter().all(|name| !Runtime::is_retired(name)));
    }

    #[test]
    fn families_and_versions_follow_the_identifier() {
        let expect = [
            ("python3.11", Family::Python, Some("3.11")),
            ("nodejs20.x", Family::NodeJs, Some("20")),
            ("java8.al2", Family::Java, Some("8")),
            ("java17.al2023", Family::Java, Some("17")),
            ("dotnet8", Family::DotNet, Some("8")),
            ("ruby3.4", Family::Ruby, Some("3.4")),
            ("provided.al2023", Family::Provided, None),
        ];
        for (text, family, version) in expect {
            let runtime = Runtime::parse(text).unwrap();
            assert_eq!((runtime.family(), runtime.language_version()), (family, version), "{text}");
        }
        assert!(Runtime::parse("python2.7").is_err());
    }
}
