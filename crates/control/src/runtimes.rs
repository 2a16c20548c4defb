//! Which version of its runtime a definition runs on (spec 1.4, `RuntimeManagementConfig`): one that was published, on the
//! one that it was published on; `$LATEST` on the newest, or as its owner said.

use std::sync::Arc;

use hearth_model::{CodeHash, Region, Runtime, RuntimeUsers, RuntimeVersions};
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::record::{Content, Definition, FunctionRecord, RuntimeManagement, ZipContent};

impl Control {
    pub(crate) fn runtimes(&self) -> &dyn RuntimeVersions {
        &*self.inner.ports.runtimes
    }

    /// What an update makes of it.
    pub(crate) fn renew_runtime(&self, record: &mut FunctionRecord, definition: &mut Definition) {
        let Content::Zip(zip) = &mut definition.content else { return };
        let is_another = !matches!(&record.intent.content, Content::Zip(before) if before.runtime == zip.runtime);
        if is_another && matches!(record.runtime_management, RuntimeManagement::Manual { .. }) {
            // A version of another runtime says nothing about this one.
            record.runtime_management = RuntimeManagement::Auto;
        }
        match &record.runtime_management {
            RuntimeManagement::Auto => zip.runtime_version = None,
            RuntimeManagement::FunctionUpdate => zip.runtime_version = self.runtimes().current(zip.runtime),
            RuntimeManagement::Manual { .. } => {}
        }
    }

    /// The definition as a change of its runtime management makes it.
    pub(crate) fn managed(
        &self,
        region: &Region,
        definition: &Definition,
        management: &RuntimeManagement,
    ) -> Result<Definition, Error> {
        let Content::Zip(zip) = &definition.content else { return Ok(definition.clone()) };
        let version = match management {
            RuntimeManagement::Auto => None,
            RuntimeManagement::FunctionUpdate => zip.runtime_version.or_else(|| self.runtimes().current(zip.runtime)),
            RuntimeManagement::Manual { runtime_version_arn } => {
                Some(self.kept_version(region, zip.runtime, runtime_version_arn)?)
            }
        };
        Ok(definition.on(version))
    }

    fn kept_version(&self, region: &Region, runtime: Runtime, arn: &str) -> Result<CodeHash, Error> {
        let version = arn.strip_prefix(&prefix(region)).and_then(CodeHash::from_hex);
        version.filter(|version| self.runtimes().is_kept(runtime, *version)).ok_or_else(|| {
            invalid(format!("{arn} is no version of {runtime} that is kept on this host; see hearth runtimes."))
        })
    }
}

impl RuntimeUsers for Control {
    fn users(&self, version: CodeHash) -> Vec<String> {
        let needs = |definition: &Definition| matches!(&definition.content, Content::Zip(zip) if zip.runtime_version == Some(version));
        let mut users = Vec::new();
        for (owner, name) in self.inner.state.names() {
            let Some(function) = self.inner.state.function(&owner, &name) else { continue };
            if function.record.definitions().any(|definition| needs(definition)) {
                users.push(function.arn().to_string());
            }
            let published = function.versions.iter().filter(|(_, published)| needs(&published.record.definition));
            users.extend(published.map(|(number, _)| function.qualified(&number.to_string()).to_string()));
        }
        users.sort();
        users
    }
}

/// As it is published: what it runs on now is what it runs on from then on.
pub fn fixed(runtimes: &dyn RuntimeVersions, definition: &Arc<Definition>) -> Arc<Definition> {
    match &definition.content {
        Content::Zip(zip) if zip.runtime_version.is_none() => {
            let mut fixed = Definition::clone(definition);
            if let Content::Zip(zip) = &mut fixed.content {
                zip.runtime_version = runtimes.current(zip.runtime);
            }
            Arc::new(fixed)
        }
        Content::Zip(_) | Content::Image(_) => definition.clone(),
    }
}

/// As INIT_START names it. A runtime that is not there has the name that the host's own would have.
pub fn runtime_version_arn(runtimes: &dyn RuntimeVersions, region: &Region, zip: &ZipContent) -> String {
    let hosts = || CodeHash(Sha256::digest(zip.runtime.as_str()).into());
    let version = zip.runtime_version.or_else(|| runtimes.current(zip.runtime)).unwrap_or_else(hosts);
    format!("{}{}", prefix(region), version.to_hex())
}

fn prefix(region: &Region) -> String {
    format!("arn:{}:lambda:{region}::runtime:", region.partition())
}
