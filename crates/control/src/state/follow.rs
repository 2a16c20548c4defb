//! From the feed into memory: what other servers that share the records have written.
//!
//! The feed tells a batch whole, and every batch of a family has its root in it: so a family in memory and what is told of
//! it make the family as it is now. The numbers of the root's changes say which of the two is later, as this server writes
//! to the same families, and hears of its own changes like of any other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};

use hearth_store::{Change, Inventory};
use serde::de::DeserializeOwned;

use super::load::{Loaded, Stray, below, damaged, owner_of, parse};
use super::*;
use crate::record::{AliasRecord, FunctionRecord, PolicyRecord, URL, UrlRecord, VersionRecord};

const PACKAGES: [&str; 2] = SharedBlobs::KINDS;
/// Kinds of records that are in memory.
pub const KINDS: &[&str] =
    &[FUNCTION, VERSION, ALIAS, POLICY, URL, LAYER, LAYER_VERSION, CODE_SIGNING, PACKAGES[0], PACKAGES[1]];

/// Kind and name of a family's root.
pub(super) type Family = (Owner, &'static str, String);

impl State {
    /// Takes in what was written, a family at a time, in its turn.
    pub async fn take_in(&self, changes: Vec<Change>) -> Result<(), OpenError> {
        let (of_packages, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| PACKAGES.contains(&change.key.kind));
        let mut families: BTreeMap<Family, Vec<Change>> = BTreeMap::new();
        for change in changes {
            families.entry(family_of(&change)?).or_default().push(change);
        }
        for ((owner, kind, name), told) in families {
            let _turn = self.turn(&owner, kind, &name).await;
            let root =
                told.iter().find(|change| change.key.kind == kind).ok_or_else(|| damaged(kind, &owner, &name))?;
            if !self.is_news(&owner, kind, &name, root.number) {
                continue;
            }
            match kind {
                FUNCTION => self.take_in_function(&owner, &name, root, &told)?,
                LAYER => self.take_in_layer(&owner, &name, root, &told)?,
                _ => {
                    let read = read::<CodeSigningRecord>(root)?;
                    let code_signing = read.map(|record| CodeSigning { change: root.number, record });
                    self.install_code_signing(&owner, &name, code_signing);
                }
            }
        }
        // Once memory has what needs them.
        if let Some(packages) = &self.packages {
            packages.told(&of_packages);
        }
        Ok(())
    }

    /// Reads everything again, and takes in what is other than in memory.
    pub async fn read_again(&self) -> Result<(), OpenError> {
        let packages = self.inventory().await?;
        let Loaded { functions, layers, code_signing } = Loaded::read(self, Stray::News).await?;
        let all = self.functions.iter().map(|entry| entry.key().clone());
        let gone: Vec<_> = all.filter(|key| !functions.contains_key(key)).collect();
        for ((owner, name), function) in functions {
            let _turn = self.turn(&owner, FUNCTION, name.as_str()).await;
            if self.is_news(&owner, FUNCTION, name.as_str(), function.change) {
                self.install(&owner, &name, self.function(&owner, &name).as_ref(), Some(&Arc::new(function)));
            }
        }
        for ((owner, name), layer) in layers {
            let _turn = self.turn(&owner, LAYER, &name).await;
            if self.is_news(&owner, LAYER, &name, layer.change) {
                self.install_layer(&owner, &name, layer);
            }
        }
        let mut unknown = Vec::new();
        for (owner, account) in self.accounts().iter() {
            unknown.extend(account.code_signing.keys().map(|id| (owner.clone(), id.clone())));
        }
        unknown.retain(|key| !code_signing.contains_key(key));
        for ((owner, id), code_signing) in code_signing {
            let _turn = self.turn(&owner, CODE_SIGNING, &id).await;
            if self.is_news(&owner, CODE_SIGNING, &id, code_signing.change) {
                self.install_code_signing(&owner, &id, Some(code_signing));
            }
        }
        // What was made since is there; the rest was removed.
        for (owner, name) in gone {
            let _turn = self.turn(&owner, FUNCTION, name.as_str()).await;
            if self.records.get(owner.key(FUNCTION, name.to_string())).await?.is_none() {
                self.install(&owner, &name, self.function(&owner, &name).as_ref(), None);
            }
        }
        for (owner, id) in unknown {
            let _turn = self.turn(&owner, CODE_SIGNING, &id).await;
            if self.records.get(owner.key(CODE_SIGNING, id.clone())).await?.is_none() {
                self.install_code_signing(&owner, &id, None);
            }
        }
        self.take_stock(packages);
        Ok(())
    }

    /// Before anything is read that needs packages.
    pub(super) async fn inventory(&self) -> Result<Option<Inventory>, OpenError> {
        match &self.packages {
            Some(packages) => Ok(Some(packages.inventory().await?)),
            None => Ok(None),
        }
    }

    /// Once that is in memory.
    pub(super) fn take_stock(&self, inventory: Option<Inventory>) {
        if let (Some(packages), Some(inventory)) = (&self.packages, inventory) {
            packages.take_stock(inventory);
        }
    }

    /// Remembers what this server removed until the feed tells of it: what it tells before that is older.
    pub(super) fn note_removal(&self, owner: &Owner, kind: &'static str, name: &str, change: u64) {
        if let Some(mut removed) = self.removed() {
            removed.insert((owner.clone(), kind, name.to_owned()), change);
        }
    }

    fn removed(&self) -> Option<MutexGuard<'_, HashMap<Family, u64>>> {
        Some(self.removed.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a change of a root is later than what is in memory. The caller holds the turn.
    fn is_news(&self, owner: &Owner, kind: &'static str, name: &str, number: u64) -> bool {
        let known = match kind {
            FUNCTION => FunctionName::parse(name).and_then(|name| Some(self.function(owner, &name)?.change)),
            LAYER => self.layer(owner, name).map(|layer| layer.change),
            _ => self.code_signing(owner, name).map(|code_signing| code_signing.change),
        };
        let mut removed = self.removed();
        let family = (owner.clone(), kind, name.to_owned());
        let gone = removed.as_ref().and_then(|removed| removed.get(&family).copied());
        if let (Some(removed), Some(gone)) = (&mut removed, gone)
            && number >= gone
        {
            removed.remove(&family);
        }
        known.max(gone).is_none_or(|known| number > known)
    }

    fn take_in_function(&self, owner: &Owner, name: &str, root: &Change, told: &[Change]) -> Result<(), OpenError> {
        let name = FunctionName::parse(name).ok_or_else(|| damaged(FUNCTION, owner, name))?;
        let before = self.function(owner, &name);
        let Some(record) = read::<FunctionRecord>(root)? else {
            self.install(owner, &name, before.as_ref(), None);
            return Ok(());
        };
        let mut changes = Changes::to(record.clone());
        for change in told {
            let rest = || below(change.key.kind, owner, &change.key.id).map(|(_, rest)| rest.to_owned());
            match change.key.kind {
                VERSION => {
                    let number = rest()?.parse().map_err(|_| damaged(VERSION, owner, &change.key.id))?;
                    changes.versions.insert(number, read::<VersionRecord>(change)?);
                }
                ALIAS => drop(changes.aliases.insert(rest()?, read::<AliasRecord>(change)?)),
                POLICY => drop(changes.policies.insert(rest()?, read::<PolicyRecord>(change)?)),
                URL => drop(changes.urls.insert(rest()?, read::<UrlRecord>(change)?)),
                _ => {}
            }
        }
        let fresh = || Function::new(owner.clone(), name.clone(), root.number, record.clone(), self.totals(owner));
        let base = before.as_ref().map_or_else(fresh, |before| (**before).clone());
        self.install(owner, &name, before.as_ref(), Some(&Arc::new(base.after(&changes, record, root.number))));
        Ok(())
    }

    fn take_in_layer(&self, owner: &Owner, name: &str, root: &Change, told: &[Change]) -> Result<(), OpenError> {
        // The root of a layer stays when its last version goes: numbers are never given twice.
        let record = read::<LayerRecord>(root)?.ok_or_else(|| damaged(LAYER, owner, name))?;
        let mut versions = self.layer(owner, name).map(|before| before.versions.clone()).unwrap_or_default();
        for change in told.iter().filter(|change| change.key.kind == LAYER_VERSION) {
            let (_, number) = below(LAYER_VERSION, owner, &change.key.id)?;
            let number = number.parse().map_err(|_| damaged(LAYER_VERSION, owner, &change.key.id))?;
            match read::<LayerVersionRecord>(change)? {
                Some(version) => drop(versions.insert(number, Arc::new(version))),
                None => drop(versions.remove(&number)),
            }
        }
        self.install_layer(owner, name, Layer { change: root.number, record, versions });
        Ok(())
    }
}

/// The root of the family that a key belongs to.
fn family_of(change: &Change) -> Result<Family, OpenError> {
    let key = &change.key;
    let owner = owner_of(key.kind, &key.partition, &key.id)?;
    let root = match key.kind {
        FUNCTION | LAYER | CODE_SIGNING => return Ok((owner, key.kind, key.id.clone())),
        LAYER_VERSION => LAYER,
        _ => FUNCTION,
    };
    let name = below(key.kind, &owner, &key.id)?.0.to_owned();
    Ok((owner, root, name))
}

/// What is there since a change; `None` where it was removed.
fn read<T: DeserializeOwned>(change: &Change) -> Result<Option<T>, OpenError> {
    let record = change.record.clone();
    record.map(|record| Ok(parse(change.key.kind, record)?.value)).transpose()
}
