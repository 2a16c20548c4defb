//! A function with its versions, aliases and policies, as they were at one change: immutable, replaced whole.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hearth_model::{CodeHash, FunctionArn, FunctionName, FunctionVersion, LookupError, Qualifier, Target, Version};
use hearth_store::{Expect, Write};
use serde::Serialize;

use super::account::Totals;
use crate::record::{
    ALIAS, AliasRecord, Definition, FUNCTION, FunctionRecord, Owner, POLICY, PolicyRecord, Readiness, URL, UrlRecord,
    VERSION, VersionRecord, numbered,
};

#[derive(Clone)]
pub struct Function {
    pub owner: Owner,
    pub name: FunctionName,
    /// That wrote the root last.
    pub change: u64,
    pub record: Arc<FunctionRecord>,
    pub versions: BTreeMap<u64, Arc<Published>>,
    pub aliases: BTreeMap<String, Arc<AliasRecord>>,
    /// By qualifier; the function's own by the empty text.
    pub policies: BTreeMap<String, Arc<PolicyRecord>>,
    /// By alias; the function's own by the empty text.
    pub urls: BTreeMap<String, Arc<UrlRecord>>,
    pub totals: Arc<Totals>,
    /// Made when it is first invoked: most versions never are.
    latest: OnceLock<Arc<FunctionVersion>>,
}

pub struct Published {
    pub record: VersionRecord,
    version: OnceLock<Arc<FunctionVersion>>,
}

impl Published {
    pub fn new(record: VersionRecord) -> Self {
        Published { record, version: OnceLock::new() }
    }
}

/// What a family is to become: its root, and what is put (or with `None` removed) below it.
#[derive(Clone)]
pub struct Changes {
    /// `None` removes the function with everything below it.
    pub root: Option<FunctionRecord>,
    pub versions: BTreeMap<u64, Option<VersionRecord>>,
    pub aliases: BTreeMap<String, Option<AliasRecord>>,
    pub policies: BTreeMap<String, Option<PolicyRecord>>,
    pub urls: BTreeMap<String, Option<UrlRecord>>,
    /// Other rooms' records that go with what is removed.
    pub beside: Vec<Write>,
}

impl Changes {
    pub fn to(root: FunctionRecord) -> Self {
        Changes {
            root: Some(root),
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            policies: BTreeMap::new(),
            urls: BTreeMap::new(),
            beside: Vec::new(),
        }
    }
}

impl Function {
    pub fn new(owner: Owner, name: FunctionName, change: u64, record: FunctionRecord, totals: Arc<Totals>) -> Self {
        Function {
            owner,
            name,
            change,
            record: Arc::new(record),
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            policies: BTreeMap::new(),
            urls: BTreeMap::new(),
            totals,
            latest: OnceLock::new(),
        }
    }

    /// Unqualified.
    pub fn arn(&self) -> FunctionArn {
        self.owner.function(&self.name)
    }

    pub fn qualified(&self, qualifier: &str) -> FunctionArn {
        self.arn().qualified(Qualifier::new(qualifier))
    }

    /// Changes that leave everything as it is.
    pub fn changes(&self) -> Changes {
        Changes::to((*self.record).clone())
    }

    /// What removes the function and everything below it.
    pub fn removal(&self) -> Changes {
        Changes {
            root: None,
            versions: self.versions.keys().map(|number| (*number, None)).collect(),
            aliases: self.aliases.keys().map(|name| (name.clone(), None)).collect(),
            policies: self.policies.keys().map(|qualifier| (qualifier.clone(), None)).collect(),
            urls: self.urls.keys().map(|alias| (alias.clone(), None)).collect(),
            beside: Vec::new(),
        }
    }

    /// As it is after `changes`, written as `change`.
    pub fn after(&self, changes: &Changes, root: FunctionRecord, change: u64) -> Self {
        let mut next = Function {
            change,
            record: Arc::new(root),
            latest: OnceLock::new(),
            totals: self.totals.clone(),
            ..self.clone()
        };
        for (number, version) in &changes.versions {
            put(&mut next.versions, number, version.clone().map(Published::new));
        }
        for (name, alias) in &changes.aliases {
            put(&mut next.aliases, name, alias.clone());
        }
        for (qualifier, policy) in &changes.policies {
            put(&mut next.policies, qualifier, policy.clone());
        }
        for (alias, url) in &changes.urls {
            put(&mut next.urls, alias, url.clone());
        }
        next
    }

    /// Definitions of `$LATEST` and of what serves in its place.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let serving = self.record.serving().filter(|serving| !Arc::ptr_eq(serving, &self.record.intent));
        std::iter::once(&self.record.intent).chain(serving)
    }

    pub fn newest(&self) -> Option<(u64, &Arc<Published>)> {
        self.versions.get(&self.record.last_version).map(|published| (self.record.last_version, published))
    }

    /// What a qualifier means to an invocation.
    pub fn find(&self, qualifier: Option<&Qualifier>) -> Result<Target, LookupError> {
        let alone = |primary| Target { primary, additional: None };
        let Some(qualifier) = qualifier.filter(|qualifier| !qualifier.is_latest()) else {
            return self.run_latest().map(alone);
        };
        let not_found = || LookupError::NotFound(self.arn().qualified(qualifier.clone()).to_string());
        if let Some(number) = number(qualifier.as_str()) {
            return self.run(number).unwrap_or_else(|| Err(not_found())).map(alone);
        }
        let alias = self.aliases.get(qualifier.as_str()).ok_or_else(not_found)?;
        let primary = match alias.version {
            None => self.run_latest()?,
            Some(number) => self.run(number).unwrap_or_else(|| Err(not_found()))?,
        };
        let additional = alias.additional.and_then(|(number, weight)| Some((self.run(number)?.ok()?, weight)));
        Ok(Target { primary, additional })
    }

    fn run_latest(&self) -> Result<Arc<FunctionVersion>, LookupError> {
        let serving = self.record.serving().ok_or(LookupError::NotReady("Pending"))?;
        Ok(self.latest.get_or_init(|| Arc::new(serving.version(&self.owner, &self.name, Version::Latest))).clone())
    }

    fn run(&self, number: u64) -> Option<Result<Arc<FunctionVersion>, LookupError>> {
        let published = self.versions.get(&number)?;
        Some(match published.record.readiness {
            Readiness::Pending => Err(LookupError::NotReady("Pending")),
            Readiness::Failed { .. } => Err(LookupError::NotReady("Failed")),
            Readiness::Ready => {
                let make = || published.record.definition.version(&self.owner, &self.name, Version::Number(number));
                Ok(published.version.get_or_init(|| Arc::new(make())).clone())
            }
        })
    }

    /// Whether environments of this generation of a version may be asked for.
    pub fn runs(&self, version: Version, generation: u64) -> bool {
        let definition = match version {
            Version::Latest => self.record.serving(),
            Version::Number(number) => self.versions.get(&number).map(|published| &published.record.definition),
        };
        definition.is_some_and(|definition| definition.generation == generation)
    }
}

/// The writes that bring changes about, the root first. `before` is the change that wrote the root they replace.
pub fn writes(
    owner: &Owner,
    name: &FunctionName,
    before: Option<u64>,
    changes: &Changes,
) -> serde_json::Result<Vec<Write>> {
    let expect = before.map_or(Expect::Absent, Expect::Change);
    let mut writes = vec![write(owner, FUNCTION, name.to_string(), expect, changes.root.as_ref())?];
    for (number, version) in &changes.versions {
        writes.push(write(owner, VERSION, numbered(name.as_str(), *number), Expect::Anything, version.as_ref())?);
    }
    for (alias, record) in &changes.aliases {
        writes.push(write(owner, ALIAS, format!("{name}/{alias}"), Expect::Anything, record.as_ref())?);
    }
    for (qualifier, policy) in &changes.policies {
        writes.push(write(owner, POLICY, format!("{name}/{qualifier}"), Expect::Anything, policy.as_ref())?);
    }
    for (alias, url) in &changes.urls {
        writes.push(write(owner, URL, format!("{name}/{alias}"), Expect::Anything, url.as_ref())?);
    }
    writes.extend(changes.beside.iter().cloned());
    Ok(writes)
}

/// One record put, or with `None` removed.
pub fn write<T: Serialize>(
    owner: &Owner,
    kind: &'static str,
    id: String,
    expect: Expect,
    record: Option<&T>,
) -> serde_json::Result<Write> {
    let key = owner.key(kind, id);
    Ok(match record {
        Some(record) => Write::Put { key, expect, value: serde_json::to_vec(record)?.into() },
        None => Write::Delete { key, expect },
    })
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, Arc<V>>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), Arc::new(value)),
        None => map.remove(key),
    };
}

/// A qualifier that is a version's number.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too long is nobody's.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Every package that the family needs, once for each record that needs it.
pub fn codes(function: &Function) -> impl Iterator<Item = CodeHash> {
    let published = function.versions.values().map(|published| &published.record.definition);
    function.definitions().chain(published).flat_map(|definition| definition.codes())
}
