//! A function with its versions, aliases and policies, as they were at one change: immutable, replaced whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use hearth_model::{
    CodeHash, Found, FunctionArn, FunctionName, FunctionVersion, Idle, LookupError, Qualifier, Target, Version,
};
use hearth_store::{BlobId, Expect, Write};
use serde::Serialize;

use super::account::Totals;
use crate::idle::Uses;
use crate::record::{
    ALIAS, AliasRecord, FUNCTION, FunctionRecord, Owner, POLICY, PolicyRecord, Readiness, Rest, URL, USE, UrlRecord,
    VERSION, VersionRecord, numbered,
};

/// A version's place in its family: its number, or 0 for `$LATEST`.
pub type Place = u64;

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
    /// Of `$LATEST`.
    pub uses: Uses,
    /// Made when it is first invoked: most versions never are.
    latest: OnceLock<Arc<FunctionVersion>>,
}

pub struct Published {
    pub record: VersionRecord,
    pub uses: Uses,
    version: OnceLock<Arc<FunctionVersion>>,
}

impl Published {
    pub fn new(record: VersionRecord, uses: Uses) -> Self {
        Published { record, uses, version: OnceLock::new() }
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
            uses: Uses::default(),
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
            let uses = || self.versions.get(number).map(|before| before.uses.clone()).unwrap_or_default();
            put(&mut next.versions, number, version.clone().map(|record| Published::new(record, uses())));
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

    pub fn newest(&self) -> Option<(u64, &Arc<Published>)> {
        self.versions.get(&self.record.last_version).map(|published| (self.record.last_version, published))
    }

    /// Places that a qualifier means: one, or as often as a weight says another. `None` of what is not there.
    pub fn meant(&self, qualifier: Option<&str>) -> Option<(Place, Option<(Place, f64)>)> {
        let Some(text) = qualifier.filter(|text| *text != Qualifier::LATEST) else { return Some((0, None)) };
        match number(text) {
            Some(number) => self.versions.contains_key(&number).then_some((number, None)),
            None => self.aliases.get(text).map(|alias| (alias.version.unwrap_or(0), alias.additional)),
        }
    }

    /// What a qualifier means to an invocation.
    pub fn find(&self, qualifier: Option<&Qualifier>) -> Result<Target, LookupError> {
        self.target(qualifier, |place| self.awake(place))
    }

    /// The version that it means, also when nobody called it for long.
    pub fn known(&self, qualifier: Option<&Qualifier>) -> Found {
        self.target(qualifier, |place| self.run(place))?.primary
    }

    fn target(
        &self,
        qualifier: Option<&Qualifier>,
        found: impl Fn(Place) -> Option<Found>,
    ) -> Result<Target, LookupError> {
        let not_found = || {
            let arn = self.arn();
            let arn = qualifier.map_or(arn.clone(), |qualifier| arn.qualified(qualifier.clone()));
            LookupError::NotFound(arn.to_string())
        };
        let (primary, additional) = self.meant(qualifier.map(Qualifier::as_str)).ok_or_else(not_found)?;
        let primary = found(primary).ok_or_else(not_found)?;
        let additional = additional.and_then(|(place, weight)| Some((found(place)?, weight)));
        Ok(Target { primary, additional })
    }

    /// The version at a place, when it can be called now.
    fn awake(&self, place: Place) -> Option<Found> {
        let found = self.run(place)?;
        let Some((definition, rest, _)) = self.resting(place) else { return Some(found) };
        Some(match (rest, definition.idles()) {
            (_, None) => found,
            (Rest::Waking, Some(Idle::Vpc)) => found.and(Err(LookupError::NotReady("Pending"))),
            (_, Some(idle)) => found.and(Err(LookupError::Idle(idle))),
        })
    }

    fn run(&self, place: Place) -> Option<Found> {
        if place == 0 {
            return Some(self.run_latest());
        }
        let published = self.versions.get(&place)?;
        let record = &published.record;
        Some(match record.readiness {
            Readiness::Pending => Err(LookupError::NotReady("Pending")),
            Readiness::Failed { .. } => Err(LookupError::NotReady("Failed")),
            Readiness::Ready => {
                let version = Version::Number(place);
                let make = || Arc::new(record.definition.version(&self.owner, &self.name, version, &published.uses));
                Ok(published.version.get_or_init(make).clone())
            }
        })
    }

    fn run_latest(&self) -> Found {
        let serving = self.record.serving().ok_or(LookupError::NotReady("Pending"))?;
        let make = || Arc::new(serving.version(&self.owner, &self.name, Version::Latest, &self.uses));
        Ok(self.latest.get_or_init(make).clone())
    }

    /// Whether anything of it is inactive, or being made ready again.
    pub fn rests(&self) -> bool {
        self.record.rest.is_some() || self.versions.values().any(|published| published.record.rest.is_some())
    }

    /// Whether environments of this generation of a version may be asked for.
    pub fn runs(&self, version: Version, generation: u64) -> bool {
        let definition = match version {
            Version::Latest => self.record.serving().filter(|_| self.record.rest.is_none()),
            Version::Number(number) => {
                let published = self.versions.get(&number).filter(|published| published.record.rest.is_none());
                published.map(|published| &published.record.definition)
            }
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
        if version.is_none() {
            writes.push(no_use(owner, name, *number)?);
        }
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
    if changes.root.is_none() {
        writes.push(no_use(owner, name, 0)?);
    }
    writes.extend(changes.beside.iter().cloned());
    Ok(writes)
}

/// Forgets when a version was called.
fn no_use(owner: &Owner, name: &FunctionName, number: u64) -> serde_json::Result<Write> {
    write::<()>(owner, USE, numbered(name.as_str(), number), Expect::Anything, None)
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
    function.record.definitions().chain(published).flat_map(|definition| definition.codes())
}

/// Packages that records are to need which did not before.
pub fn needs(before: Option<&Function>, changes: &Changes) -> BTreeSet<BlobId> {
    let of_root = |record: &FunctionRecord| record.definitions().flat_map(|d| d.codes()).collect::<BTreeSet<_>>();
    let old = before.map(|before| of_root(&before.record)).unwrap_or_default();
    let new = changes.root.as_ref().map(of_root).unwrap_or_default();
    let is_new = |number: &u64| !before.is_some_and(|before| before.versions.contains_key(number));
    let published = changes.versions.iter().filter(|(number, _)| is_new(number));
    let published = published.filter_map(|(_, version)| version.as_ref()).flat_map(|v| v.definition.codes());
    new.difference(&old).copied().chain(published).map(BlobId::from).collect()
}
