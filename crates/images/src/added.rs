//! Runtimes that an operator added: of which image or packages each is, pinned by digest, on disk. A runtime that was
//! added takes the place of the host's own. What took its place is kept as long as functions need it, and the last one
//! before the newest in any case: so that a function can go back to it, or be published on it at that moment.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_model::{CodeHash, Family, Image, Runtime};
use hearth_store::{Expect, Key, Record, Records, RecordsError, Write};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::debian::PackageSet;

/// Of all hosts that share the records, whoever's functions run there.
const PARTITION: &str = "host";
const KIND: &str = "runtime";
/// What was a runtime before: `RUNTIME/DIGEST`.
const EDITION: &str = "runtime-version";
/// More runtimes than there are names of.
const MOST: usize = 1000;

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Added {
    Image(Arc<Image>),
    Packages(Arc<PackageSet>),
}

impl Added {
    /// The name that it was added by.
    pub fn from(&self) -> &str {
        match self {
            Added::Image(image) => &image.uri,
            Added::Packages(set) => &set.from,
        }
    }

    pub fn digest(&self) -> CodeHash {
        match self {
            Added::Image(image) => image.digest,
            Added::Packages(set) => set.digest(),
        }
    }
}

pub struct AddedRuntimes {
    records: Arc<dyn Records>,
    known: RwLock<Known>,
    /// One change at a time.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Known {
    by_name: BTreeMap<&'static str, (Runtime, Added)>,
    before: Vec<(Runtime, Added)>,
}

impl Known {
    async fn read(records: &dyn Records) -> Result<Self, RecordsError> {
        let damaged =
            |id: &str, e: &dyn std::fmt::Display| RecordsError::Engine(format!("the runtime {id}: {e}").into());
        let parse = |Record { id, value, .. }: Record| {
            let runtime = Runtime::parse(id.split('/').next().unwrap_or_default()).map_err(|e| damaged(&id, &e))?;
            let added: Added = serde_json::from_slice(&value).map_err(|e| damaged(&id, &e))?;
            Ok::<_, RecordsError>((runtime, added))
        };
        let mut known = Known::default();
        for record in records.list(PARTITION.to_owned(), KIND, None, MOST).await? {
            let (runtime, added) = parse(record)?;
            known.by_name.insert(runtime.as_str(), (runtime, added));
        }
        for record in records.list(PARTITION.to_owned(), EDITION, None, MOST).await? {
            known.before.push(parse(record)?);
        }
        Ok(known)
    }
}

impl AddedRuntimes {
    pub async fn open(records: Arc<dyn Records>) -> Result<Self, RecordsError> {
        let known = RwLock::new(Known::read(&*records).await?);
        Ok(AddedRuntimes { records, known, turn: Mutex::default() })
    }

    /// Another server may have added what is not known here.
    pub async fn read_again(&self) -> Result<(), RecordsError> {
        let _turn = self.turn.lock().await;
        let known = Known::read(&*self.records).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// What a version of a runtime was made of, or of another of its family.
    pub fn edition(&self, asked: Runtime, version: CodeHash) -> Option<(Runtime, Added)> {
        let is_it =
            |(runtime, added): &&(Runtime, Added)| added.digest() == version && runtime.family() == asked.family();
        self.known(|known| {
            let all = || known.by_name.values().chain(&known.before).filter(is_it);
            all().find(|(runtime, _)| *runtime == asked).or_else(|| all().next()).cloned()
        })
    }

    /// What was a runtime before.
    pub fn before(&self, runtime: Runtime) -> Vec<Added> {
        let of = |known: &Known| {
            let before = known.before.iter().filter(|(of, _)| *of == runtime);
            before.map(|(_, added)| added.clone()).collect()
        };
        self.known(of)
    }

    pub fn all_before(&self) -> Vec<(Runtime, Added)> {
        self.known(|known| known.before.clone())
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

    /// On disk, then in memory. What it was before is kept.
    pub async fn put(&self, runtime: Runtime, added: Option<Added>) -> Result<(), RecordsError> {
        let _turn = self.turn.lock().await;
        // Another server may have put another one meanwhile, which is what is replaced then.
        let fresh = Known::read(&*self.records).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        let digest = added.as_ref().map(Added::digest);
        let replaced = self.get(runtime).filter(|before| Some(before.digest()) != digest);
        let mut writes = vec![write(KIND, runtime.as_str().to_owned(), added.as_ref())?];
        writes.extend(
            replaced
                .as_ref()
                .map(|before| write(EDITION, edition(runtime, before.digest()), Some(before)))
                .transpose()?,
        );
        writes.extend(digest.map(|digest| write(EDITION, edition(runtime, digest), None)).transpose()?);
        self.records.commit(writes).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.before.retain(|(of, before)| *of != runtime || Some(before.digest()) != digest);
        known.before.extend(replaced.map(|before| (runtime, before)));
        match added {
            Some(added) => drop(known.by_name.insert(runtime.as_str(), (runtime, added))),
            None => drop(known.by_name.remove(runtime.as_str())),
        }
        Ok(())
    }

    /// Forgets what a runtime was before.
    pub async fn drop(&self, runtime: Runtime, version: CodeHash) -> Result<(), RecordsError> {
        let _turn = self.turn.lock().await;
        self.records.commit(vec![write(EDITION, edition(runtime, version), None)?]).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.before.retain(|(of, before)| *of != runtime || before.digest() != version);
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<&'static str, (Runtime, Added)>) -> T) -> T {
        self.known(|known| read(&known.by_name))
    }

    fn known<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn edition(runtime: Runtime, version: CodeHash) -> String {
    format!("{runtime}/{}", version.to_hex())
}

fn write(kind: &'static str, id: String, added: Option<&Added>) -> Result<Write, RecordsError> {
    let key = Key { partition: PARTITION.to_owned(), kind, id };
    Ok(match added {
        Some(added) => {
            let value = serde_json::to_vec(added).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
            Write::Put { key, expect: Expect::Anything, value: value.into() }
        }
        None => Write::Delete { key, expect: Expect::Anything },
    })
}
