//! Runtimes that an operator added from images: which image each is, pinned by digest, on disk. A runtime that was
//! added takes the place of the host's own.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_model::{Family, Image, Runtime};
use hearth_store::{Expect, Key, Record, Records, RecordsError, Write};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// Of all hosts that share the records, whoever's functions run there.
const PARTITION: &str = "host";
const KIND: &str = "runtime";
/// More runtimes than there are names of.
const MOST: usize = 1000;

#[derive(Clone, Serialize, Deserialize)]
pub struct Added {
    pub image: Arc<Image>,
}

pub struct AddedRuntimes {
    records: Arc<dyn Records>,
    by_name: RwLock<BTreeMap<&'static str, (Runtime, Added)>>,
    /// One change at a time.
    turn: Mutex<()>,
}

impl AddedRuntimes {
    pub async fn open(records: Arc<dyn Records>) -> Result<Self, RecordsError> {
        let mut by_name = BTreeMap::new();
        for Record { id, value, .. } in records.list(PARTITION.to_owned(), KIND, None, MOST).await? {
            let damaged = |e: &dyn std::fmt::Display| RecordsError::Engine(format!("the runtime {id}: {e}").into());
            let runtime = Runtime::parse(&id).map_err(|e| damaged(&e))?;
            let added = serde_json::from_slice(&value).map_err(|e| damaged(&e))?;
            by_name.insert(runtime.as_str(), (runtime, added));
        }
        Ok(AddedRuntimes { records, by_name: RwLock::new(by_name), turn: Mutex::default() })
    }

    pub fn get(&self, runtime: Runtime) -> Option<Added> {
        self.read(|all| all.get(runtime.as_str()).map(|(_, added)| added.clone()))
    }

    pub fn all(&self) -> Vec<(Runtime, Added)> {
        self.read(|all| all.values().cloned().collect())
    }

    pub fn of_family(&self, family: Family) -> Vec<Runtime> {
        self.read(|all| {
            all.values().map(|(runtime, _)| *runtime).filter(|runtime| runtime.family() == family).collect()
        })
    }

    /// On disk, then in memory.
    pub async fn put(&self, runtime: Runtime, added: Option<Added>) -> Result<(), RecordsError> {
        let _turn = self.turn.lock().await;
        let key = Key { partition: PARTITION.to_owned(), kind: KIND, id: runtime.as_str().to_owned() };
        let write = match &added {
            Some(added) => {
                let value = serde_json::to_vec(added).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
                Write::Put { key, expect: Expect::Anything, value: value.into() }
            }
            None => Write::Delete { key, expect: Expect::Anything },
        };
        self.records.commit(vec![write]).await?;
        let mut all = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        match added {
            Some(added) => drop(all.insert(runtime.as_str(), (runtime, added))),
            None => drop(all.remove(runtime.as_str())),
        }
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<&'static str, (Runtime, Added)>) -> T) -> T {
        read(&self.by_name.read().unwrap_or_else(PoisonError::into_inner))
    }
}
