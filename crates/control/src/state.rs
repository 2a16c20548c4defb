//! The room's memory: every record as it is on disk, written through.
//!
//! Readers take an immutable snapshot of a family and hold no lock. Writers of one family take turns, so that each decides
//! on what the one before has written; the store refuses what another process has changed meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::DashMap;
use hearth_model::{CodeHash, FunctionName};
use hearth_store::{BlobId, Expect, Records, RecordsError, SharedBlobs, Write};
use tokio::sync::Mutex as Turn;

use crate::record::{
    ALIAS, CODE_SIGNING, CodeSigningRecord, FUNCTION, LAYER, LAYER_VERSION, LayerRecord, LayerVersionRecord, Owner,
    POLICY, UrlRecord, VERSION, numbered,
};

pub mod account;
mod follow;
pub mod function;
mod load;

use account::{Account, CodeSigning, Counted, Layer};
pub use follow::KINDS;
use function::{Changes, Function, Published, codes, needs, write, writes};
pub use load::OpenError;

/// Families whose writers may take each other's turn: a number large enough that they rarely do.
const TURNS: usize = 256;

pub struct State {
    records: Arc<dyn Records>,
    /// Packages, where servers share them.
    packages: Option<SharedBlobs>,
    functions: DashMap<(Owner, FunctionName), Arc<Function>>,
    /// Those of which versions are kept initialised.
    provisioned: Mutex<HashSet<(Owner, FunctionName)>>,
    /// Whose a URL is, by its id: the function, and the alias or the empty text.
    urls: DashMap<String, (Owner, FunctionName, String)>,
    accounts: RwLock<HashMap<Owner, Account>>,
    /// How many records need a package.
    codes: Mutex<HashMap<CodeHash, u32>>,
    turns: Vec<Turn<()>>,
    hasher: RandomState,
    /// What this server has removed and the feed has not told of yet, with the change that removed it. Only where there is
    /// a feed.
    removed: Option<Mutex<HashMap<follow::Family, u64>>>,
}

/// Why records were not written.
#[derive(Debug)]
pub enum WriteError {
    /// Another process changed them meanwhile.
    Conflict,
    Store(RecordsError),
}

impl From<RecordsError> for WriteError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Conflict(_) => WriteError::Conflict,
            other => WriteError::Store(other),
        }
    }
}

impl From<serde_json::Error> for WriteError {
    fn from(error: serde_json::Error) -> Self {
        WriteError::Store(RecordsError::Engine(error.to_string().into()))
    }
}

impl State {
    fn empty(records: Arc<dyn Records>, packages: Option<SharedBlobs>) -> Self {
        let is_shared = packages.is_some();
        State {
            records,
            packages,
            functions: DashMap::new(),
            provisioned: Mutex::default(),
            urls: DashMap::new(),
            accounts: RwLock::default(),
            codes: Mutex::default(),
            turns: (0..TURNS).map(|_| Turn::new(())).collect(),
            hasher: RandomState::new(),
            removed: is_shared.then(Mutex::default),
        }
    }

    /// The turn to write a family: `kind` and `name` of its root. Who takes two takes `""` of an account first.
    pub async fn turn(&self, owner: &Owner, kind: &'static str, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let place = self.hasher.hash_one((owner, kind, name)) as usize;
        // The first place is for accounts, so that nobody who holds one waits for it.
        let place = if name.is_empty() { 0 } else { 1 + place % (TURNS - 1) };
        self.turns[place].lock().await
    }

    pub fn function(&self, owner: &Owner, name: &FunctionName) -> Option<Arc<Function>> {
        self.functions.get(&(owner.clone(), name.clone())).map(|found| found.clone())
    }

    /// The function whose URL has this id, and its alias or the empty text.
    pub fn of_url(&self, id: &str) -> Option<(Arc<Function>, String)> {
        let (owner, name, alias) = self.urls.get(id)?.clone();
        let function = self.function(&owner, &name)?;
        // It may have lost the URL meanwhile.
        function.urls.get(&alias).is_some_and(|url| url.id == id).then_some((function, alias))
    }

    /// Functions of one owner, ascending by name, from `from` on (itself included).
    pub fn list(&self, owner: &Owner, from: Option<&FunctionName>, limit: usize) -> Vec<Arc<Function>> {
        let accounts = self.accounts();
        let Some(account) = accounts.get(owner) else { return Vec::new() };
        let names: Vec<FunctionName> = match from {
            Some(from) => account.functions.range(from.clone()..).take(limit).cloned().collect(),
            None => account.functions.iter().take(limit).cloned().collect(),
        };
        drop(accounts);
        names.iter().filter_map(|name| self.function(owner, name)).collect()
    }

    pub fn names(&self) -> Vec<(Owner, FunctionName)> {
        self.functions.iter().map(|entry| entry.key().clone()).collect()
    }

    /// Functions that were left before their update was finished.
    pub fn unfinished(&self) -> Vec<(Owner, FunctionName)> {
        let all = self.functions.iter().filter(|entry| entry.record.is_unfinished());
        all.map(|entry| entry.key().clone()).collect()
    }

    pub fn provisioned(&self) -> Vec<Arc<Function>> {
        let names = self.provisioned_names().clone();
        names.iter().filter_map(|(owner, name)| self.function(owner, name)).collect()
    }

    fn provisioned_names(&self) -> MutexGuard<'_, HashSet<(Owner, FunctionName)>> {
        self.provisioned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an account, read under a short lock.
    pub fn account<T>(&self, owner: &Owner, read: impl FnOnce(&Account) -> T) -> T {
        match self.accounts().get(owner) {
            Some(account) => read(account),
            None => read(&Account::default()),
        }
    }

    pub fn totals(&self, owner: &Owner) -> Arc<account::Totals> {
        if let Some(account) = self.accounts().get(owner) {
            return account.totals.clone();
        }
        self.accounts_mut().entry(owner.clone()).or_default().totals.clone()
    }

    pub fn layer(&self, owner: &Owner, name: &str) -> Option<Arc<Layer>> {
        self.accounts().get(owner)?.layers.get(name).cloned()
    }

    pub fn code_signing(&self, owner: &Owner, id: &str) -> Option<Arc<CodeSigning>> {
        self.accounts().get(owner)?.code_signing.get(id).cloned()
    }

    pub fn is_needed(&self, code: CodeHash) -> bool {
        self.codes().contains_key(&code)
    }

    /// Every package that a record needs.
    pub fn needed(&self) -> Vec<CodeHash> {
        self.codes().keys().copied().collect()
    }

    /// Writes a family: on disk first, then in memory. `before` is what it replaces; the caller holds the turn.
    pub async fn commit(
        &self,
        owner: &Owner,
        name: &FunctionName,
        before: Option<&Arc<Function>>,
        changes: Changes,
    ) -> Result<Option<Arc<Function>>, WriteError> {
        self.commit_while(owner, name, before, changes, None).await
    }

    /// As [`State::commit`], if `fence` holds.
    pub async fn commit_while(
        &self,
        owner: &Owner,
        name: &FunctionName,
        before: Option<&Arc<Function>>,
        changes: Changes,
        fence: Option<Write>,
    ) -> Result<Option<Arc<Function>>, WriteError> {
        let mut writes = writes(owner, name, before.map(|before| before.change), &changes)?;
        writes.extend(fence);
        let change = self.write(writes, &needs(before.map(|before| &**before), &changes)).await?;
        let after = changes.root.clone().map(|root| {
            let fresh = || Function::new(owner.clone(), name.clone(), change, root.clone(), self.totals(owner));
            Arc::new(before.map_or_else(fresh, |before| (**before).clone()).after(&changes, root.clone(), change))
        });
        self.install(owner, name, before, after.as_ref());
        if after.is_none() {
            self.note_removal(owner, FUNCTION, name.as_str(), change);
        }
        Ok(after)
    }

    /// Applies a batch whose records need these packages, and did not before.
    async fn write(&self, writes: Vec<Write>, needs: &BTreeSet<BlobId>) -> Result<u64, RecordsError> {
        match &self.packages {
            Some(packages) => packages.commit(writes, needs).await,
            None => self.records.commit(writes).await,
        }
    }

    fn install(
        &self,
        owner: &Owner,
        name: &FunctionName,
        before: Option<&Arc<Function>>,
        after: Option<&Arc<Function>>,
    ) {
        let key = (owner.clone(), name.clone());
        let provisioned = |function: Option<&Arc<Function>>| function.is_some_and(|f| !f.record.provisioned.is_empty());
        match (provisioned(before), provisioned(after)) {
            (false, true) => drop(self.provisioned_names().insert(key.clone())),
            (true, false) => drop(self.provisioned_names().remove(&key)),
            _ => {}
        }
        match after {
            Some(after) => drop(self.functions.insert(key, after.clone())),
            None => drop(self.functions.remove(&key)),
        }
        for (alias, url) in after.iter().flat_map(|after| &after.urls) {
            self.urls.insert(url.id.clone(), (owner.clone(), name.clone(), alias.clone()));
        }
        let is_gone =
            |url: &&Arc<UrlRecord>| !after.is_some_and(|after| after.urls.values().any(|kept| kept.id == url.id));
        for url in before.iter().flat_map(|before| before.urls.values()).filter(is_gone) {
            self.urls.remove(&url.id);
        }
        self.need(
            after.map(|f| codes(f).collect()).unwrap_or_default(),
            before.map(|f| codes(f).collect()).unwrap_or_default(),
        );
        let counted = |function: Option<&Arc<Function>>| function.map(|f| f.counted()).unwrap_or_default();
        let signing = |function: Option<&Arc<Function>>| function.and_then(|f| f.record.code_signing.clone());
        let mut accounts = self.accounts_mut();
        let account = accounts.entry(owner.clone()).or_default();
        account.totals.replace(counted(before), counted(after));
        match (before, after) {
            (None, Some(_)) => drop(account.functions.insert(name.clone())),
            (_, None) => drop(account.functions.remove(name)),
            _ => {}
        }
        let (old, new) = (signing(before), signing(after));
        if old != new {
            if let Some(set) = old.and_then(|old| account.signed.get_mut(&old)) {
                set.remove(name);
            }
            if let Some(new) = new {
                account.signed.entry(new).or_default().insert(name.clone());
            }
        }
    }

    /// Writes versions of a layer (`None` removes one) and its root; the caller holds the turn.
    pub async fn commit_layer(
        &self,
        owner: &Owner,
        name: &str,
        root: LayerRecord,
        number: u64,
        version: Option<LayerVersionRecord>,
    ) -> Result<(), WriteError> {
        let before = self.layer(owner, name);
        let expect = before.as_ref().map_or(Expect::Absent, |before| Expect::Change(before.change));
        let writes = vec![
            write(owner, LAYER, name.to_owned(), expect, Some(&root))?,
            write(owner, LAYER_VERSION, numbered(name, number), Expect::Anything, version.as_ref())?,
        ];
        let is_new = before.as_ref().is_none_or(|before| !before.versions.contains_key(&number));
        let new = version.iter().filter(|_| is_new);
        let change = self.write(writes, &new.map(|version| version.code.into()).collect()).await?;
        let mut versions = before.as_ref().map(|before| before.versions.clone()).unwrap_or_default();
        match version {
            Some(version) => drop(versions.insert(number, Arc::new(version))),
            None => drop(versions.remove(&number)),
        }
        self.install_layer(owner, name, Layer { change, record: root, versions });
        Ok(())
    }

    fn install_layer(&self, owner: &Owner, name: &str, layer: Layer) {
        let before = self.layer(owner, name);
        let codes = |layer: &Layer| layer.versions.values().map(|version| version.code).collect::<Vec<_>>();
        self.need(codes(&layer), before.as_deref().map(codes).unwrap_or_default());
        let mut accounts = self.accounts_mut();
        let account = accounts.entry(owner.clone()).or_default();
        let counted = layer.counted();
        account.layers.insert(name.to_owned(), Arc::new(layer));
        account.totals.replace(before.map(|before| before.counted()).unwrap_or_default(), counted);
    }

    /// Writes a code signing configuration, or with `None` removes it; the caller holds the turn.
    pub async fn commit_code_signing(
        &self,
        owner: &Owner,
        id: &str,
        record: Option<CodeSigningRecord>,
    ) -> Result<(), WriteError> {
        let before = self.code_signing(owner, id);
        let expect = before.as_ref().map_or(Expect::Absent, |before| Expect::Change(before.change));
        let write: Write = write(owner, CODE_SIGNING, id.to_owned(), expect, record.as_ref())?;
        let change = self.records.commit(vec![write]).await?;
        if record.is_none() {
            self.note_removal(owner, CODE_SIGNING, id, change);
        }
        self.install_code_signing(owner, id, record.map(|record| CodeSigning { change, record }));
        Ok(())
    }

    fn install_code_signing(&self, owner: &Owner, id: &str, code_signing: Option<CodeSigning>) {
        let mut accounts = self.accounts_mut();
        let account = accounts.entry(owner.clone()).or_default();
        match code_signing {
            Some(code_signing) => drop(account.code_signing.insert(id.to_owned(), Arc::new(code_signing))),
            None => drop(account.code_signing.remove(id)),
        }
    }

    /// Counts needs of packages: first those that are new, so that none is free in between.
    fn need(&self, new: Vec<CodeHash>, old: Vec<CodeHash>) {
        let mut codes = self.codes();
        for code in new {
            *codes.entry(code).or_default() += 1;
        }
        for code in old {
            if let Some(count) = codes.get_mut(&code) {
                *count -= 1;
                if *count == 0 {
                    codes.remove(&code);
                }
            }
        }
    }

    fn accounts(&self) -> RwLockReadGuard<'_, HashMap<Owner, Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts_mut(&self) -> RwLockWriteGuard<'_, HashMap<Owner, Account>> {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn codes(&self) -> MutexGuard<'_, HashMap<CodeHash, u32>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Function {
    /// What the account's sums hold of it. Each version is counted (spec 1.4).
    pub fn counted(&self) -> Counted {
        let published = self.versions.values().map(|published| published.record.definition.content.stored_size());
        Counted {
            code_size: self.record.intent.content.stored_size() + published.sum::<u64>(),
            reserved: self.record.set_aside(),
        }
    }
}
