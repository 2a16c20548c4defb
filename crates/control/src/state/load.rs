//! From the records into memory: at the start, and when a server has lost sight of what others write.

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
}

/// Records that are read at one time.
const PAGE: usize = 1000;

/// A record and where it belongs.
pub(super) struct Read<T> {
    pub owner: Owner,
    pub id: String,
    pub change: u64,
    pub value: T,
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

pub(super) fn parse<T: DeserializeOwned>(kind: &'static str, record: Record) -> Result<Read<T>, OpenError> {
    let Record { key_partition: partition, id, change, value } = record;
    let damaged = |reason: String| OpenError::Damaged { kind, partition: partition.clone(), id: id.clone(), reason };
    let owner = owner_of(kind, &partition, &id)?;
    let value = serde_json::from_slice(&value).map_err(|e| damaged(e.to_string()))?;
    Ok(Read { owner, id, change, value })
}

pub(super) fn owner_of(kind: &'static str, partition: &str, id: &str) -> Result<Owner, OpenError> {
    let reason = || "its partition is no owner".to_owned();
    let damaged = || OpenError::Damaged { kind, partition: partition.to_owned(), id: id.to_owned(), reason: reason() };
    Owner::from_partition(partition).ok_or_else(damaged)
}

/// Everything that is stored, family by family.
pub(super) struct Loaded {
    pub functions: HashMap<(Owner, FunctionName), Function>,
    pub layers: HashMap<(Owner, String), Layer>,
    pub code_signing: HashMap<(Owner, String), CodeSigning>,
}

/// What a record below no root is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    Damage,
    /// Another server made its root after the roots were read: the feed tells of both.
    News,
}

impl Loaded {
    pub async fn read(state: &State, stray: Stray) -> Result<Self, OpenError> {
        let records = &*state.records;
        let mut functions = HashMap::new();
        each::<FunctionRecord>(records, FUNCTION, |Read { owner, id, change, value }| {
            let name = FunctionName::parse(&id).ok_or_else(|| damaged(FUNCTION, &owner, &id))?;
            let totals = state.totals(&owner);
            functions.insert((owner.clone(), name.clone()), Function::new(owner, name, change, value, totals));
            Ok(())
        })
        .await?;
        let mut layers = HashMap::new();
        each::<LayerRecord>(records, LAYER, |Read { owner, id, change, value }| {
            layers.insert((owner, id), Layer { change, record: value, versions: Default::default() });
            Ok(())
        })
        .await?;
        let mut loaded = Loaded { functions, layers, code_signing: HashMap::new() };
        each::<VersionRecord>(records, VERSION, |Read { owner, id, value, .. }| {
            let Some((function, number)) = loaded.family(VERSION, &owner, &id, stray)? else { return Ok(()) };
            let number = number.parse().map_err(|_| damaged(VERSION, &owner, &id))?;
            function.versions.insert(number, Arc::new(Published::new(value, Default::default())));
            Ok(())
        })
        .await?;
        each::<AliasRecord>(records, ALIAS, |Read { owner, id, value, .. }| {
            let Some((function, alias)) = loaded.family(ALIAS, &owner, &id, stray)? else { return Ok(()) };
            function.aliases.insert(alias.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        each::<PolicyRecord>(records, POLICY, |Read { owner, id, value, .. }| {
            let Some((function, qualifier)) = loaded.family(POLICY, &owner, &id, stray)? else { return Ok(()) };
            function.policies.insert(qualifier.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        each::<UrlRecord>(records, URL, |Read { owner, id, value, .. }| {
            let Some((function, alias)) = loaded.family(URL, &owner, &id, stray)? else { return Ok(()) };
            function.urls.insert(alias.to_owned(), Arc::new(value));
            Ok(())
        })
        .await?;
        each::<LayerVersionRecord>(records, LAYER_VERSION, |Read { owner, id, value, .. }| {
            let (name, number) = below(LAYER_VERSION, &owner, &id)?;
            let number = number.parse().map_err(|_| damaged(LAYER_VERSION, &owner, &id))?;
            match (loaded.layers.get_mut(&(owner.clone(), name.to_owned())), stray) {
                (Some(layer), _) => drop(layer.versions.insert(number, Arc::new(value))),
                (None, Stray::News) => {}
                (None, Stray::Damage) => return Err(damaged(LAYER_VERSION, &owner, &id)),
            }
            Ok(())
        })
        .await?;
        each::<CodeSigningRecord>(records, CODE_SIGNING, |Read { owner, id, change, value }| {
            loaded.code_signing.insert((owner, id), CodeSigning { change, record: value });
            Ok(())
        })
        .await?;
        Ok(loaded)
    }

    /// The family of a record below a root, and the record's own part of the id.
    fn family<'a>(
        &mut self,
        kind: &'static str,
        owner: &Owner,
        id: &'a str,
        stray: Stray,
    ) -> Result<Option<(&mut Function, &'a str)>, OpenError> {
        let (name, rest) = below(kind, owner, id)?;
        let name = FunctionName::parse(name).ok_or_else(|| damaged(kind, owner, id))?;
        match (self.functions.get_mut(&(owner.clone(), name)), stray) {
            (Some(family), _) => Ok(Some((family, rest))),
            (None, Stray::News) => Ok(None),
            (None, Stray::Damage) => Err(damaged(kind, owner, id)),
        }
    }
}

impl State {
    /// Reads every record. Where others write them too, and share the packages, the feed is followed from before that.
    pub async fn open(records: Arc<dyn Records>, packages: Option<SharedBlobs>) -> Result<Self, OpenError> {
        let stray = if packages.is_some() { Stray::News } else { Stray::Damage };
        let state = State::empty(records, packages);
        let inventory = state.inventory().await?;
        let loaded = Loaded::read(&state, stray).await?;
        for ((owner, name), function) in loaded.functions {
            state.install(&owner, &name, None, Some(&Arc::new(function)));
        }
        for ((owner, name), layer) in loaded.layers {
            state.install_layer(&owner, &name, layer);
        }
        for ((owner, id), code_signing) in loaded.code_signing {
            state.install_code_signing(&owner, &id, Some(code_signing));
        }
        state.take_stock(inventory);
        if let Some(packages) = &state.packages {
            packages.adopt(state.needed().into_iter().map(BlobId::from)).await?;
        }
        Ok(state)
    }
}

/// Whose a record below a root is, and its own part of the id.
pub(super) fn below<'a>(kind: &'static str, owner: &Owner, id: &'a str) -> Result<(&'a str, &'a str), OpenError> {
    id.split_once('/').ok_or_else(|| damaged(kind, owner, id))
}

pub(super) fn damaged(kind: &'static str, owner: &Owner, id: &str) -> OpenError {
    let reason = "it belongs to nothing".to_owned();
    OpenError::Damaged { kind, partition: owner.partition(), id: id.to_owned(), reason }
}
