//! From disk into memory, once, at the start.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_model::FunctionName;
use hearth_store::{Record, Records, RecordsError};
use serde::de::DeserializeOwned;

use super::*;
use crate::record::{AliasRecord, FunctionRecord, PolicyRecord, VersionRecord};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the {kind} {id} in {partition} does not read: {reason}")]
    Damaged { kind: &'static str, partition: String, id: String, reason: String },
    #[error("no random bytes: {0}")]
    Random(std::io::Error),
}

/// A record and where it belongs.
struct Read<T> {
    owner: Owner,
    id: String,
    change: u64,
    value: T,
}

async fn read<T: DeserializeOwned>(records: &dyn Records, kind: &'static str) -> Result<Vec<Read<T>>, OpenError> {
    records.all(kind).await?.into_iter().map(|record| parse(kind, record)).collect()
}

fn parse<T: DeserializeOwned>(kind: &'static str, record: Record) -> Result<Read<T>, OpenError> {
    let Record { key_partition: partition, id, change, value } = record;
    let damaged = |reason: String| OpenError::Damaged { kind, partition: partition.clone(), id: id.clone(), reason };
    let owner = Owner::from_partition(&partition).ok_or_else(|| damaged("its partition is no owner".to_owned()))?;
    let value = serde_json::from_slice(&value).map_err(|e| damaged(e.to_string()))?;
    Ok(Read { owner, id, change, value })
}

impl State {
    /// Reads every record.
    pub async fn open(records: Arc<dyn Records>) -> Result<Self, OpenError> {
        let state = State::empty(records.clone());
        let mut families = Families::default();
        for Read { owner, id, change, value } in read::<FunctionRecord>(&*records, FUNCTION).await? {
            let name = FunctionName::parse(&id).ok_or_else(|| damaged(FUNCTION, &owner, &id))?;
            let totals = state.totals(&owner);
            families.0.insert((owner.clone(), id), Function::new(owner, name, change, value, totals));
        }
        for Read { owner, id, value, .. } in read::<VersionRecord>(&*records, VERSION).await? {
            let (function, number) = families.of(VERSION, &owner, &id)?;
            let number = number.parse().map_err(|_| damaged(VERSION, &owner, &id))?;
            function.versions.insert(number, Arc::new(Published::new(value)));
        }
        for Read { owner, id, value, .. } in read::<AliasRecord>(&*records, ALIAS).await? {
            let (function, alias) = families.of(ALIAS, &owner, &id)?;
            function.aliases.insert(alias.to_owned(), Arc::new(value));
        }
        for Read { owner, id, value, .. } in read::<PolicyRecord>(&*records, POLICY).await? {
            let (function, qualifier) = families.of(POLICY, &owner, &id)?;
            function.policies.insert(qualifier.to_owned(), Arc::new(value));
        }
        for ((owner, _), function) in families.0 {
            let name = function.name.clone();
            state.install(&owner, &name, None, Some(&Arc::new(function)));
        }
        state.open_layers(&*records).await?;
        for Read { owner, id, change, value } in read::<CodeSigningRecord>(&*records, CODE_SIGNING).await? {
            let mut accounts = state.accounts_mut();
            let account = accounts.entry(owner).or_default();
            account.code_signing.insert(id, Arc::new(CodeSigning { change, record: value }));
        }
        Ok(state)
    }

    async fn open_layers(&self, records: &dyn Records) -> Result<(), OpenError> {
        let mut layers = HashMap::new();
        for Read { owner, id, change, value } in read::<LayerRecord>(records, LAYER).await? {
            layers.insert((owner, id), Layer { change, record: value, versions: Default::default() });
        }
        for Read { owner, id, value, .. } in read::<LayerVersionRecord>(records, LAYER_VERSION).await? {
            let lost = || damaged(LAYER_VERSION, &owner, &id);
            let (name, number) = id.split_once('/').ok_or_else(lost)?;
            let layer = layers.get_mut(&(owner.clone(), name.to_owned())).ok_or_else(lost)?;
            self.need(vec![value.code], Vec::new());
            layer.versions.insert(number.parse().map_err(|_| lost())?, Arc::new(value));
        }
        for ((owner, name), layer) in layers {
            self.install_layer(&owner, &name, layer);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Families(HashMap<(Owner, String), Function>);

impl Families {
    /// The family of a record below a root, and the record's own part of the id.
    fn of<'a>(
        &mut self,
        kind: &'static str,
        owner: &Owner,
        id: &'a str,
    ) -> Result<(&mut Function, &'a str), OpenError> {
        let (name, rest) = id.split_once('/').ok_or_else(|| damaged(kind, owner, id))?;
        let family = self.0.get_mut(&(owner.clone(), name.to_owned())).ok_or_else(|| damaged(kind, owner, id))?;
        Ok((family, rest))
    }
}

fn damaged(kind: &'static str, owner: &Owner, id: &str) -> OpenError {
    let reason = "it belongs to nothing".to_owned();
    OpenError::Damaged { kind, partition: owner.partition(), id: id.to_owned(), reason }
}
