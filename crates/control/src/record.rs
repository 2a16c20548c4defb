//! What is stored: JSON documents, keyed by account and region, kind and id.
//!
//! A function and everything named below it is one family: its own record is the root, and every write to the family
//! writes the root again, expecting the change it has seen. So writers of one family can never miss each other.
//!
//! | kind | id |
//! |---|---|
//! | `function` | `NAME`: the root, with `$LATEST` |
//! | `version` | `NAME/NUMBER`, ten digits |
//! | `alias` | `NAME/ALIAS` |
//! | `policy` | `NAME/QUALIFIER`, empty for the function itself |
//! | `function-url` | `NAME/ALIAS`, empty for the function itself |
//! | `function-use` | `NAME/NUMBER`, ten digits, 0 for `$LATEST`: when it was called, now and then |
//! | `layer` | `NAME`: the root, with the number given last |
//! | `layer-version` | `NAME/NUMBER`, ten digits; with its policy |
//! | `code-signing-config` | `csc-…` |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{
    AccountId, Architecture, CodeHash, FunctionArn, FunctionName, FunctionVersion, Image, ImageOverrides, ImageProgram,
    JsonLogs, LogGroup, LogLevel, Memory, Program, Region, Runtime, Secret, Version, VersionKey, ZipProgram,
};
use hearth_store::Key;
use hearth_wire_lambda::types;
use serde::{Deserialize, Serialize};

use crate::idle::Uses;

pub const FUNCTION: &str = "function";
pub const VERSION: &str = "version";
pub const ALIAS: &str = "alias";
pub const POLICY: &str = "policy";
pub const URL: &str = "function-url";
/// No part of the family: whoever writes it decides nothing.
pub const USE: &str = "function-use";
pub const LAYER: &str = "layer";
pub const LAYER_VERSION: &str = "layer-version";
pub const CODE_SIGNING: &str = "code-signing-config";

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    pub account: AccountId,
    pub region: Region,
}

impl Owner {
    pub fn of(arn: &FunctionArn) -> Self {
        Owner { account: arn.account.clone(), region: arn.region.clone() }
    }

    pub fn partition(&self) -> String {
        format!("{}/{}", self.account, self.region)
    }

    /// Back from [`Owner::partition`].
    pub fn from_partition(text: &str) -> Option<Self> {
        let (account, region) = text.split_once('/')?;
        Some(Owner { account: AccountId::parse(account)?, region: Region::parse(region)? })
    }

    pub fn key(&self, kind: &'static str, id: String) -> Key {
        Key { partition: self.partition(), kind, id }
    }

    pub fn function(&self, name: &FunctionName) -> FunctionArn {
        let (account, region) = (self.account.clone(), self.region.clone());
        FunctionArn { region, account, name: name.clone(), qualifier: None }
    }
}

/// Ids of numbered records sort as their numbers do.
pub fn numbered(name: &str, number: u64) -> String {
    format!("{name}/{number:010}")
}

#[derive(Clone, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// What was asked for last.
    pub intent: Arc<Definition>,
    pub update: Update,
    /// Of `$LATEST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    pub revision_id: String,
    /// As AWS prints it.
    pub last_modified: String,
    /// The number that was given to a version last; none is given twice.
    pub last_version: u64,
    pub tags: BTreeMap<String, String>,
    pub reserved_concurrency: Option<u32>,
    /// By the version or alias that is kept initialised.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned: BTreeMap<String, ProvisionedRecord>,
    pub recursion_allowed: bool,
    pub runtime_management: RuntimeManagement,
    /// Id of the code signing configuration.
    pub code_signing: Option<String>,
}

impl FunctionRecord {
    /// What runs; none while the function is being created.
    pub fn serving(&self) -> Option<&Arc<Definition>> {
        match &self.update {
            Update::Creating => None,
            Update::Successful => Some(&self.intent),
            Update::InProgress { serving } => Some(serving),
            Update::Failed { serving, .. } => serving.as_ref(),
        }
    }

    pub fn is_unfinished(&self) -> bool {
        matches!(self.update, Update::Creating | Update::InProgress { .. })
    }

    /// Of `$LATEST` and of what serves in its place.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let serving = self.serving().filter(|serving| !Arc::ptr_eq(serving, &self.intent));
        std::iter::once(&self.intent).chain(serving)
    }
}

/// Provisioned concurrency of a version or alias.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProvisionedRecord {
    pub requested: u32,
    /// As AWS prints it.
    pub last_modified: String,
    /// Another with every request, also for the same number.
    pub decision: String,
}

/// How far the intent has been brought about, and what runs meanwhile.
#[derive(Clone, Serialize, Deserialize)]
pub enum Update {
    Creating,
    InProgress { serving: Arc<Definition> },
    Successful,
    Failed { reason: String, code: String, serving: Option<Arc<Definition>> },
}

/// How a version stands that nobody called for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// As it is, or because it could not be woken.
    Inactive { reason: String, code: String },
    /// It is made ready again.
    Waking,
}

/// Everything of a function that publishing fixes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Grows with every update, and from one function to the next of the same name.
    pub generation: u64,
    #[serde(flatten)]
    pub content: Content,
    pub role: String,
    pub description: String,
    pub timeout_s: u32,
    pub memory: Memory,
    pub ephemeral_storage: Memory,
    pub architecture: Architecture,
    /// By key. Not the same as no variables: those are none.
    pub environment: Option<Vec<(String, Secret)>>,
    pub logging: Logging,
    /// Absent when no such member was given: most functions have none.
    pub kept: Option<Box<Kept>>,
}

/// What is to run. The two have no member in common, by which they are told apart on disk.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Zip(ZipContent),
    Image(ImageContent),
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ZipContent {
    pub runtime: Runtime,
    /// The one version of it that this runs on: of what is published, and where `UpdateRuntimeOn` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<CodeHash>,
    pub handler: String,
    pub code: CodeHash,
    /// Bytes of the zip.
    pub code_size: u64,
    /// Bytes of its files.
    pub unzipped: u64,
    /// The object that it was told to refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Box<StoredAt>>,
    /// The key that the package was to be encrypted with; without effect, as Hearth's own encrypt it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_kms_key_arn: Option<String>,
    pub layers: Vec<LayerUse>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageContent {
    pub image: Arc<Image>,
    pub image_overrides: ImageOverrides,
}

impl Content {
    pub fn layers(&self) -> &[LayerUse] {
        match self {
            Content::Zip(zip) => &zip.layers,
            Content::Image(_) => &[],
        }
    }

    /// Bytes of the zip; none of an image.
    pub fn code_size(&self) -> u64 {
        match self {
            Content::Zip(zip) => zip.code_size,
            Content::Image(_) => 0,
        }
    }

    /// Bytes that count in the account's storage: neither images nor packages that are referred to in a bucket do.
    pub fn stored_size(&self) -> u64 {
        match self {
            Content::Zip(zip) if zip.reference.is_none() => zip.code_size,
            Content::Zip(_) | Content::Image(_) => 0,
        }
    }

    fn program(&self) -> Program {
        match self {
            Content::Zip(zip) => Program::Zip(ZipProgram {
                runtime: zip.runtime,
                runtime_version: zip.runtime_version,
                handler: zip.handler.clone(),
                code: zip.code,
                layers: zip.layers.iter().map(|layer| layer.code).collect(),
            }),
            Content::Image(content) => {
                let (image, overrides) = (content.image.clone(), content.image_overrides.clone());
                Program::Image(ImageProgram { image, overrides })
            }
        }
    }
}

impl Definition {
    /// Whether publishing one after the other makes no second version.
    pub fn is_same(&self, other: &Self) -> bool {
        let mut other = Definition { generation: self.generation, ..other.clone() };
        // What it runs on is no part of what was written.
        if let (Content::Zip(own), Content::Zip(others)) = (&self.content, &mut other.content) {
            others.runtime_version = own.runtime_version;
        }
        *self == other
    }

    /// On this version of its runtime. Environments of another are not shared.
    pub fn on(&self, version: Option<CodeHash>) -> Definition {
        let mut definition = self.clone();
        match &mut definition.content {
            Content::Zip(zip) if zip.runtime_version != version => {
                zip.runtime_version = version;
                definition.generation += 1;
            }
            Content::Zip(_) | Content::Image(_) => {}
        }
        definition
    }

    /// What the data plane runs.
    pub fn version(&self, owner: &Owner, name: &FunctionName, version: Version, uses: &Uses) -> FunctionVersion {
        let (account, region) = (owner.account.clone(), owner.region.clone());
        let log_group = self.logging.group.clone().unwrap_or_else(|| default_log_group(name));
        FunctionVersion {
            key: VersionKey {
                account: account.clone(),
                region: region.clone(),
                name: name.clone(),
                version,
                generation: self.generation,
            },
            program: self.content.program(),
            architecture: self.architecture,
            memory: self.memory,
            timeout: Duration::from_secs(u64::from(self.timeout_s)),
            ephemeral_storage: self.ephemeral_storage,
            environment: self.environment.clone().unwrap_or_default(),
            log_group: LogGroup { account, region, name: log_group.into() },
            custom_log_group: self.logging.group.is_some(),
            json_logs: self.logging.json.as_ref().map(JsonLogging::levels),
            role: self.role.clone(),
            dead_letters: self.dead_letters().map(str::to_owned),
            last_used: self.idles().map(|_| uses.last.clone()),
            per_tenant: self.is_per_tenant(),
        }
    }

    /// Environments serve one tenant each (spec 2.6).
    pub fn is_per_tenant(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.tenancy_config.is_some())
    }

    pub fn dead_letters(&self) -> Option<&str> {
        self.kept.as_ref()?.dead_letter_config.as_ref()?.target_arn.as_deref()
    }

    /// Names of members that ask for something that does not come about.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let source_key = match &self.content {
            Content::Zip(zip) => zip.source_kms_key_arn.as_ref().map(|_| "Code.SourceKMSKeyArn"),
            Content::Image(_) => None,
        };
        self.kept.iter().flat_map(|kept| kept.without_effect()).chain(source_key).collect()
    }

    /// Packages that it needs.
    pub fn codes(&self) -> impl Iterator<Item = CodeHash> {
        let own = match &self.content {
            Content::Zip(zip) => Some(zip.code),
            Content::Image(_) => None,
        };
        own.into_iter().chain(self.content.layers().iter().map(|layer| layer.code))
    }
}

/// An object that a package came from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAt {
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

impl StoredAt {
    pub fn shown(&self) -> types::ResolvedS3Object {
        types::ResolvedS3Object {
            s3_bucket: Some(self.bucket.clone()),
            s3_key: Some(self.key.clone()),
            s3_object_version: self.version.clone(),
        }
    }
}

/// A layer version as a function uses it, also after its deletion.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerUse {
    pub arn: String,
    pub code: CodeHash,
    pub code_size: u64,
    pub unzipped: u64,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// When another than the default.
    pub group: Option<String>,
    pub json: Option<JsonLogging>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonLogging {
    pub application_level: String,
    pub system_level: String,
}

impl JsonLogging {
    fn levels(&self) -> JsonLogs {
        // The service's model lets nothing else be stored.
        let level = |text: &str| LogLevel::parse(text).unwrap_or(LogLevel::Info);
        JsonLogs { application: level(&self.application_level), system: level(&self.system_level) }
    }
}

/// Members that are stored and answered as they were given. All but the dead letters have no effect yet.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    pub vpc_config: Option<types::VpcConfig>,
    pub dead_letter_config: Option<types::DeadLetterConfig>,
    pub kms_key_arn: Option<String>,
    pub tracing_config: Option<types::TracingConfig>,
    pub file_system_configs: Option<Vec<types::FileSystemConfig>>,
    pub snap_start: Option<types::SnapStart>,
    pub tenancy_config: Option<types::TenancyConfig>,
}

impl Kept {
    pub fn is_snapped(&self) -> bool {
        let apply_on = self.snap_start.as_ref().and_then(|snap| snap.apply_on.as_deref());
        apply_on.is_some_and(|apply_on| apply_on != "None")
    }

    /// Names of those that ask for something that does not come about.
    fn without_effect(&self) -> Vec<&'static str> {
        let is_there = |list: Option<&Vec<String>>| list.is_some_and(|list| !list.is_empty());
        let vpc = self.vpc_config.as_ref().is_some_and(|vpc| is_there(vpc.subnet_ids.as_ref()));
        let traced = self.tracing_config.as_ref().is_some_and(|tracing| tracing.mode.as_deref() == Some("Active"));
        let mounts = self.file_system_configs.as_ref().is_some_and(|mounts| !mounts.is_empty());
        let asked = [
            (vpc, "VpcConfig"),
            (self.kms_key_arn.is_some(), "KMSKeyArn"),
            (traced, "TracingConfig"),
            (mounts, "FileSystemConfigs"),
            (self.is_snapped(), "SnapStart"),
        ];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect()
    }
}

/// The shapes of the service are compared as they are stored.
impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeManagement {
    #[default]
    Auto,
    FunctionUpdate,
    Manual {
        runtime_version_arn: String,
    },
}

/// A published version. Only its runtime management ever changes.
#[derive(Clone, Serialize, Deserialize)]
pub struct VersionRecord {
    /// As `$LATEST` was.
    pub definition: Arc<Definition>,
    /// When another than `$LATEST`'s was given with the publication.
    pub description: Option<String>,
    pub revision_id: String,
    pub last_modified: String,
    pub readiness: Readiness,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    pub runtime_management: RuntimeManagement,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// Published together with an update that is not finished.
    Pending,
    Ready,
    Failed {
        reason: String,
        code: String,
    },
}

#[derive(Clone, Serialize, Deserialize)]
pub struct AliasRecord {
    /// `None` is `$LATEST`.
    pub version: Option<u64>,
    /// Another version and its weight.
    pub additional: Option<(u64, f64)>,
    pub description: String,
    pub revision_id: String,
}

impl AliasRecord {
    pub fn points_at(&self, number: u64) -> bool {
        self.version == Some(number) || self.additional.is_some_and(|(additional, _)| additional == number)
    }
}

/// A resource policy: the whole document, and the revision that changes must name.
#[derive(Clone, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub document: serde_json::Value,
    pub revision_id: String,
}

/// What makes a function, or an alias of it, answer HTTP.
#[derive(Clone, Serialize, Deserialize)]
pub struct UrlRecord {
    /// The first label of its host.
    pub id: String,
    pub auth: UrlAuth,
    pub cors: Option<types::Cors>,
    pub mode: InvokeMode,
    /// As AWS prints it.
    pub created: String,
    pub last_modified: String,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuth {
    /// Anybody whom the policy of the function lets.
    None,
    /// Who signs, and is let by policies.
    Iam,
}

impl UrlAuth {
    /// As AWS names it; the service's model lets nothing else be asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            UrlAuth::None => "NONE",
            UrlAuth::Iam => "AWS_IAM",
        }
    }

    pub fn of(name: &str) -> Self {
        if name == UrlAuth::None.as_str() { UrlAuth::None } else { UrlAuth::Iam }
    }
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    /// Whole, and understood as the description of an answer.
    Buffered,
    /// As it is written.
    Streamed,
}

impl InvokeMode {
    /// As [`UrlAuth::as_str`].
    pub fn as_str(self) -> &'static str {
        match self {
            InvokeMode::Buffered => "BUFFERED",
            InvokeMode::Streamed => "RESPONSE_STREAM",
        }
    }

    pub fn of(name: &str) -> Self {
        if name == InvokeMode::Streamed.as_str() { InvokeMode::Streamed } else { InvokeMode::Buffered }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct LayerRecord {
    pub last_version: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct LayerVersionRecord {
    pub description: String,
    pub license_info: Option<String>,
    pub compatible_runtimes: Option<Vec<String>>,
    pub compatible_architectures: Option<Vec<String>>,
    pub created: String,
    pub code: CodeHash,
    pub code_size: u64,
    pub unzipped: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Box<StoredAt>>,
    pub policy: Option<PolicyRecord>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct CodeSigningRecord {
    pub description: String,
    pub allowed_publishers: Vec<String>,
    pub enforce: bool,
    pub last_modified: String,
    pub tags: BTreeMap<String, String>,
}

pub fn default_log_group(name: &FunctionName) -> String {
    format!("/aws/lambda/{name}")
}
