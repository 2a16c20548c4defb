//! What the data plane knows of a function: one immutable value per version and configuration.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    AccountId, FunctionArn, FunctionName, Image, ImageOverrides, JsonLogs, LogGroup, Memory, Qualifier, Region,
    Runtime, Secret, TenantId,
};

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

/// What a version runs.
#[derive(Clone)]
pub enum Program {
    /// A package on one of the host's runtimes.
    Zip(ZipProgram),
    /// An image, which brings all that it needs.
    Image(ImageProgram),
}

#[derive(Clone)]
pub struct ZipProgram {
    pub runtime: Runtime,
    /// The one version of it that this runs on; otherwise what there is when it starts.
    pub runtime_version: Option<CodeHash>,
    /// Free text for `provided` runtimes, where it may be empty.
    pub handler: String,
    pub code: CodeHash,
    /// Packages that appear merged at `/opt`: later ones over earlier ones.
    pub layers: Vec<CodeHash>,
}

#[derive(Clone)]
pub struct ImageProgram {
    pub image: Arc<Image>,
    pub overrides: ImageOverrides,
}

impl Program {
    /// As extensions are told it; an image has none.
    pub fn handler(&self) -> &str {
        match self {
            Program::Zip(zip) => &zip.handler,
            Program::Image(_) => "",
        }
    }

    /// Where code is told that its Runtime API is (spec 3.2).
    pub fn runtime_api_address(&self) -> &'static str {
        match self {
            Program::Zip(zip) => zip.runtime.runtime_api_address(),
            Program::Image(_) => "127.0.0.1:9001",
        }
    }
}

/// Everything needed to run one version of a function. Immutable; an update makes a new one.
pub struct FunctionVersion {
    pub key: VersionKey,
    pub program: Program,
    pub architecture: Architecture,
    pub memory: Memory,
    pub timeout: Duration,
    /// Size of `/tmp`.
    pub ephemeral_storage: Memory,
    pub environment: Vec<(String, Secret)>,
    pub log_group: LogGroup,
    /// `LoggingConfig.LogGroup` was given: the log stream's name then carries the function's name.
    pub custom_log_group: bool,
    /// `LoggingConfig.LogFormat` is JSON.
    pub json_logs: Option<JsonLogs>,
    /// ARN of the execution role.
    pub role: String,
    /// ARN of the queue or topic that gets events which came to nothing.
    pub dead_letters: Option<String>,
    /// Of one that becomes inactive when nobody calls it for long: whoever runs it notes when.
    pub last_used: Option<LastUsed>,
    /// Every call is for a tenant, and an environment serves one (spec 2.6).
    pub per_tenant: bool,
}

/// A call is for a tenant where none can be, or the other way round. The first text is AWS's; the second is worded after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenancyError {
    #[error(
        "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."
    )]
    Missing,
    #[error(
        "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try \
         again."
    )]
    Unwanted,
}

impl FunctionVersion {
    /// Whether it may be called for that tenant, or for none.
    pub fn admits(&self, tenant: Option<&TenantId>) -> Result<(), TenancyError> {
        match (self.per_tenant, tenant) {
            (true, None) => Err(TenancyError::Missing),
            (false, Some(_)) => Err(TenancyError::Unwanted),
            _ => Ok(()),
        }
    }

    pub fn arn(&self) -> FunctionArn {
        FunctionArn {
            region: self.key.region.clone(),
            account: self.key.account.clone(),
            name: self.key.name.clone(),
            qualifier: None,
        }
    }
}

/// When something was called last, and whether a call is running, in memory; shared by all who know of it.
#[derive(Clone, Debug, Default)]
pub struct LastUsed(Arc<Use>);

#[derive(Debug, Default)]
struct Use {
    ms: AtomicU64,
    running: AtomicU32,
}

/// A call that is running. Dropped when it is over.
#[derive(Debug)]
pub struct InUse(LastUsed);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LastUsed {
    /// Calls that are closer than this are one: who calls often writes seldom.
    const GRAIN_MS: u64 = 100;

    pub fn note(&self, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        if now > self.ms() + Self::GRAIN_MS {
            self.0.ms.store(now, Ordering::Relaxed);
        }
    }

    /// A call begins.
    pub fn begin(&self) -> InUse {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    pub fn is_running(&self) -> bool {
        self.0.running.load(Ordering::Relaxed) > 0
    }

    /// Milliseconds since 1970; 0 when nobody called.
    pub fn ms(&self) -> u64 {
        self.0.ms.load(Ordering::Relaxed)
    }
}

/// What is made again for a function that nobody called for long: it is what the caller hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    Image,
    Vpc,
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
    /// 409 of an image, 502 of a VPC: nobody called it for long. Who wanted to call says so by [`Functions::wake`].
    #[error("{}", match .0 {
        Idle::Image => "Lambda is initializing your function. It will be ready to invoke shortly.",
        Idle::Vpc => "The operation cannot be performed at this time. The function is currently in the following state: Inactive",
    })]
    Idle(Idle),
}

/// A version that can be run, or why it cannot.
pub type Found = Result<Arc<FunctionVersion>, LookupError>;

/// What a name means to an invocation: one version, or by an alias with weights, one of two. Each is there, or not, by
/// itself: where one is inactive, the other goes on.
#[derive(Clone)]
pub struct Target {
    pub primary: Found,
    /// Another version and how often it is meant instead, 0.0 to 1.0.
    pub additional: Option<(Found, f64)>,
}

impl Target {
    /// The version that one invocation runs. `draw` is uniform in `0.0..1.0`, and every invocation draws anew (spec 1.7).
    pub fn choose(self, draw: f64) -> Found {
        match self.additional {
            Some((additional, weight)) if draw < weight => additional,
            _ => self.primary,
        }
    }
}

/// Uniform in `0.0..1.0`, from the last bits of a random UUID: all of them are random.
pub fn draw(random: u128) -> f64 {
    const BITS: u32 = 53;
    (random & ((1 << BITS) - 1)) as f64 / (1u64 << BITS) as f64
}

/// What is set aside of an account's concurrency (spec 8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// The function's own: its cap and its guarantee, shared by its versions and aliases.
    pub function: Option<u32>,
    /// All reservations of the account together: what others must leave free.
    pub account: u32,
}

/// Environments of one version that are to be kept initialised (spec 8.4).
#[derive(Clone)]
pub struct Provision {
    pub function: Arc<FunctionVersion>,
    pub count: u32,
    /// It is not inactive. What is gets no environment before it is awake, and what it follows keeps its own until then.
    pub is_awake: bool,
    /// Tells one decision from the next: what failed under one is tried again under another.
    pub decision: String,
}

/// How far provisioned concurrency has been brought about: placement's answer to control.
pub trait Provisioning: Send + Sync + 'static {
    fn observe(&self, key: &VersionKey) -> Provisioned;

    /// [`Functions::provisions`] has changed.
    fn changed(&self);
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Environments that are initialised, idle or not.
    pub ready: u32,
    /// Why there are not as many as wanted, when that is more than a matter of time.
    pub failure: Option<String>,
}

/// The data plane's view of what control has written: lookups in memory, never IO.
pub trait Functions: Send + Sync + 'static {
    /// What `arn` (qualified or not) means now.
    fn find(&self, arn: &FunctionArn) -> Result<Target, LookupError>;

    /// The version that it means, without its weights and also when it is inactive: for those who do not call it now.
    fn known(&self, arn: &FunctionArn) -> Found {
        self.find(arn)?.primary
    }

    /// Somebody wanted to call `arn` and could not: what of it is inactive becomes active again. Does not wait for that.
    fn wake(&self, arn: &FunctionArn) {
        let _ = arn;
    }

    /// The concurrency that is set aside for the function of `key`, and for others.
    fn reservation(&self, key: &VersionKey) -> Reservation;

    /// All reservations of an account in a region together.
    fn set_aside(&self, account: &AccountId, region: &Region) -> u32;

    /// Whether the owner of the function of `key` wants it to be run in loops.
    fn allows_loops(&self, key: &VersionKey) -> bool {
        let _ = key;
        false
    }

    /// Environments that are to be kept initialised, of every account.
    fn provisions(&self) -> Vec<Provision>;

    /// Whether the policy of `arn` lets somebody of another account invoke it.
    fn lets_invoke(&self, arn: &FunctionArn, caller: &AccountId) -> bool;

    /// True while `key` is what its function's `find` may answer: environments of other keys can be shut down.
    fn is_current(&self, key: &VersionKey) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Arc<FunctionVersion> {
        let (account, region) = (AccountId::default_account(), Region::default_region());
        Arc::new(FunctionVersion {
            log_group: LogGroup { account: account.clone(), region: region.clone(), name: "g".into() },
            key: VersionKey {
                account,
                region,
                name: FunctionName::parse("f").unwrap(),
                version: Version::Number(number),
                generation: 1,
            },
            program: Program::Zip(ZipProgram {
                runtime: Runtime::parse("provided.al2023").unwrap(),
                runtime_version: None,
                handler: String::new(),
                code: CodeHash([0; 32]),
                layers: Vec::new(),
            }),
            architecture: Architecture::X86_64,
            memory: Memory::mib(128),
            timeout: Duration::from_secs(3),
            ephemeral_storage: Memory::mib(512),
            environment: Vec::new(),
            custom_log_group: false,
            json_logs: None,
            role: String::new(),
            dead_letters: None,
            last_used: None,
            per_tenant: false,
        })
    }

    #[test]
    fn weights_choose_as_often_as_they_say() {
        for weight in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let target = Target { primary: Ok(version(1)), additional: Some((Ok(version(2)), weight)) };
            let chosen = (0..10_000).map(|i| target.clone().choose(f64::from(i) / 10_000.0).unwrap());
            let chosen = chosen.filter(|chosen| chosen.key.version == Version::Number(2));
            assert_eq!(chosen.count() as f64, 10_000.0 * weight, "{weight}");
        }
    }
}
