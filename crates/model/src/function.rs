//! What the data plane knows of a function: one immutable value per version and configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{AccountId, FunctionArn, FunctionName, LogGroup, Memory, Qualifier, Region, Runtime, Secret};

/// SHA-256 of a package's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeHash(pub [u8; 32]);

impl CodeHash {
    /// 64 lower-case hex digits: the spelling of file names and records.
    pub fn to_hex(self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(CodeHash(bytes))
    }
}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl serde::Serialize for CodeHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> serde::Deserialize<'de> for CodeHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        CodeHash::from_hex(&hex).ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Architecture {
    #[serde(rename = "x86_64")]
    X86_64,
    #[serde(rename = "arm64")]
    Arm64,
}

impl Architecture {
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// The architecture that this process runs on, if functions know it.
    pub fn of_host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::X86_64),
            "aarch64" => Some(Architecture::Arm64),
            _ => None,
        }
    }
}

/// `$LATEST` or the number of a published version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Latest,
    Number(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.write_str(Qualifier::LATEST),
            Version::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Two invocations may share an execution environment exactly when their keys are equal.
///
/// `generation` grows with every update of code or configuration that environments can see, so that an update never
/// mixes versions in one environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionKey {
    pub account: AccountId,
    pub region: Region,
    pub name: FunctionName,
    pub version: Version,
    pub generation: u64,
}

/// Everything needed to run one version of a function. Immutable; an update makes a new one.
pub struct FunctionVersion {
    pub key: VersionKey,
    pub runtime: Runtime,
    /// Free text for `provided` runtimes, where it may be empty.
    pub handler: String,
    pub code: CodeHash,
    pub architecture: Architecture,
    pub memory: Memory,
    pub timeout: Duration,
    /// Size of `/tmp`.
    pub ephemeral_storage: Memory,
    pub environment: Vec<(String, Secret)>,
    pub log_group: LogGroup,
    /// `LoggingConfig.LogGroup` was given: the log stream's name then carries the function's name.
    pub custom_log_group: bool,
    /// ARN of the execution role.
    pub role: String,
}

impl FunctionVersion {
    pub fn arn(&self) -> FunctionArn {
        FunctionArn {
            region: self.key.region.clone(),
            account: self.key.account.clone(),
            name: self.key.name.clone(),
            qualifier: None,
        }
    }
}

/// Why an invocation finds no function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// 404 `Function not found: ARN`, the ARN with the qualifier that was asked for, `$LATEST` when none was.
    #[error("Function not found: {0}")]
    NotFound(String),
    /// 409: the function is still being created.
    #[error("The operation cannot be performed at this time. The function is currently in the following state: {0}")]
    NotReady(&'static str),
}

/// The data plane's view of what control has written: lookups in memory, never IO.
pub trait Functions: Send + Sync + 'static {
    /// The version that `arn` (qualified or not) means now.
    fn find(&self, arn: &FunctionArn) -> Result<Arc<FunctionVersion>, LookupError>;

    /// True while `key` is what its function's `find` would answer: environments of other keys can be shut down.
    fn is_current(&self, key: &VersionKey) -> bool;
}
