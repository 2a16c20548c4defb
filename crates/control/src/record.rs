//! What is stored of a function: one JSON document, keyed by account, region and name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{
    AccountId, Architecture, CodeHash, FunctionName, FunctionVersion, LogGroup, Memory, Region, Runtime, Secret,
    Version, VersionKey,
};
use hearth_store::Key;
use hearth_wire_lambda::types;
use serde::{Deserialize, Serialize};

/// The kind under which functions are stored.
pub const KIND: &str = "function";

/// Whose function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    pub account: AccountId,
    pub region: Region,
}

impl Owner {
    pub fn partition(&self) -> String {
        format!("{}/{}", self.account, self.region)
    }

    pub fn key(&self, name: &FunctionName) -> Key {
        Key { partition: self.partition(), kind: KIND, id: name.as_str().to_owned() }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct FunctionRecord {
    pub owner: Owner,
    pub name: FunctionName,
    /// What was asked for last.
    pub intent: Definition,
    /// What runs; none while the function is being created.
    pub serving: Option<Definition>,
    pub update: Update,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub revision_id: String,
    /// As AWS prints it.
    pub last_modified: String,
    pub kept: Kept,
}

/// Everything about a function that its environments can see.
#[derive(Clone, Serialize, Deserialize)]
pub struct Definition {
    /// Grows with every update, and from one function to the next of the same name.
    pub generation: u64,
    pub runtime: Runtime,
    pub handler: String,
    pub role: String,
    pub timeout_s: u32,
    pub memory: Memory,
    pub ephemeral_storage: Memory,
    pub architecture: Architecture,
    pub environment: Option<BTreeMap<String, Secret>>,
    /// When another than the default.
    pub log_group: Option<String>,
    pub code: CodeHash,
    /// Bytes of the zip.
    pub code_size: u64,
}

/// How far the intent has been brought about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    InProgress,
    Successful,
    Failed { reason: String, code: String },
}

/// Members that are stored and answered, without effect yet.
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

impl FunctionRecord {
    /// What the data plane runs, if anything does yet.
    pub fn version(&self) -> Option<Arc<FunctionVersion>> {
        let serving = self.serving.as_ref()?;
        let log_group = serving.log_group.clone().unwrap_or_else(|| default_log_group(&self.name));
        Some(Arc::new(FunctionVersion {
            key: VersionKey {
                account: self.owner.account.clone(),
                region: self.owner.region.clone(),
                name: self.name.clone(),
                version: Version::Latest,
                generation: serving.generation,
            },
            runtime: serving.runtime,
            handler: serving.handler.clone(),
            code: serving.code,
            architecture: serving.architecture,
            memory: serving.memory,
            timeout: Duration::from_secs(u64::from(serving.timeout_s)),
            ephemeral_storage: serving.ephemeral_storage,
            environment: serving.environment.clone().unwrap_or_default().into_iter().collect(),
            log_group: LogGroup {
                account: self.owner.account.clone(),
                region: self.owner.region.clone(),
                name: log_group.into(),
            },
            custom_log_group: serving.log_group.is_some(),
            role: serving.role.clone(),
        }))
    }

    /// Packages that this record needs.
    pub fn codes(&self) -> impl Iterator<Item = CodeHash> {
        [Some(self.intent.code), self.serving.as_ref().map(|serving| serving.code)].into_iter().flatten()
    }
}

pub fn default_log_group(name: &FunctionName) -> String {
    format!("/aws/lambda/{name}")
}
