//! From disk into memory, once, at the start.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_model::FunctionName;
use hearth_store::{Record, Records, RecordsError};
use serde::de::DeserializeOwned;

use super::*;
use crate::record::{AliasRecord, FunctionRecord, PolicyRecord, URL, UrlRecord, VersionRecord};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the {kind} {id} in {partition} does not read: {reason}")]
    Damaged { kind: &'static str, partition: String, id: String, reason: String },
    #[error("no random bytes: {0}")]
    Random(std::io::Error),
}

/// Records that are read at one time.
const PAGE: usize = 1000;

/// A record and where it belongs.
struct Read<T> {
    owner: Owner,
    id: String,
    change: u64,
    value: T,
}

/// Every record of a kind, a page at a time: the bytes of all are never in memory together.
async fn each<T: DeserializeOwned>(
    records: &dyn Records,
    kind: &'static str,
    mut take: impl FnMut(Read<T>) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let mut after = None;
    loop {
        let page = records.all(kind, after, PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|last| (last.key_partition.clone(), last.id.clone()));
        page.into_iter().try_for_each(|record| take(parse(kind, record)?))?;
        if is_last {
            return Ok(());
        }
    }
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
        each::<FunctionRecord>(&*records, FUNCTION, |Read { owner, id, change, value }| {
            let name = FunctionName::parse(&id).ok_or_else(|| damaged(FUNCTION, &owner, &id))?;
            let totals = state.totals(&owner);
            families.0.insert((owner.clone(), id), Function::new(owner, name, change, value, totals));
            Ok(())
        })
        .await?;
        each::<VersionRecord>(&*records, VERSION, |Read { owner, id, value, .. }| {
            let (function, number) = families.of(VERSION, &owner, &id)?;
            let number = number.parse().map_err(|_| damaged(VERSION, &owner, &id))?;
            function.versions.insert(number, Arc::new(Published::new(value)));
            Ok(())
        })
        .await?;
        each::<AliasRecord>(&*records, ALIAS, |Read { owner, id, value, .. }| {
            let (function, alias) = families.of(ALIAS, &owner, &id)?;
            function.aliases.insert(alias.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        each::<PolicyRecord>(&*records, POLICY, |Read { owner, id, value, .. }| {
            let (function, qualifier) = families.of(POLICY, &owner, &id)?;
            function.policies.insert(qualifier.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        each::<UrlRecord>(&*records, URL, |Read { owner, id, value, .. }| {
            let (function, alias) = families.of(URL, &owner, &id)?;
            function.urls.insert(alias.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        for ((owner, _), function) in families.0 {
            let name = function.name.clone();
            state.install(&owner, &name, None, Some(&Arc::new(function)));
        }
        state.open_layers(&*records).await?;
        each::<CodeSigningRecord>(&*records, CODE_SIGNING, |Read { owner, id, change, value }| {
            let mut accounts = state.accounts_mut();
            let account = accounts.entry(owner).or_default();
            account.code_signing.insert(id, Arc::new(CodeSigning { change, record: value }));
            Ok(())
        })
        .await?;
        Ok(state)
    }

    async fn open_layers(&self, records: &dyn Records) -> Result<(), OpenError> {
        let mut layers = HashMap::new();
        each::<LayerRecord>(records, LAYER, |Read { owner, id, change, value }| {
            layers.insert((owner, id), Layer { change, record: value, versions: Default::default() });
            Ok(())
        })
        .await?;
        each::<LayerVersionRecord>(records, LAYER_VERSION, |Read { owner, id, value, .. }| {
            let lost = || damaged(LAYER_VERSION, &owner, &id);
            let (name, number) = id.split_once('/').ok_or_else(lost)?;
            let layer = layers.get_mut(&(owner.clone(), name.to_owned())).ok_or_else(lost)?;
            self.need(vec![value.code], Vec::new());
            layer.versions.insert(number.parse().map_err(|_| lost())?, Arc::new(value));
            Ok(())
        })
        .await?;
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
