//! What belongs to one account in one region, in the order in which lists show it, and the sums over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hearth_model::FunctionName;

use crate::record::{CodeSigningRecord, LayerRecord, LayerVersionRecord};

#[derive(Default)]
pub struct Account {
    pub totals: Arc<Totals>,
    pub functions: BTreeSet<FunctionName>,
    pub layers: BTreeMap<String, Arc<Layer>>,
    pub code_signing: BTreeMap<String, Arc<CodeSigning>>,
    /// Functions by the code signing configuration that they have.
    pub signed: BTreeMap<String, BTreeSet<FunctionName>>,
}

/// A layer with its versions, as they were at one change.
#[derive(Clone)]
pub struct Layer {
    /// That wrote the root last.
    pub change: u64,
    pub record: LayerRecord,
    pub versions: BTreeMap<u64, Arc<LayerVersionRecord>>,
}

pub struct CodeSigning {
    pub change: u64,
    pub record: CodeSigningRecord,
}

/// Sums that are read without looking through the account.
#[derive(Default)]
pub struct Totals {
    storage: Mutex<Storage>,
    /// Concurrency set aside for functions; read by every invocation.
    reserved: AtomicU32,
}

/// Bytes of packages.
#[derive(Default)]
struct Storage {
    used: u64,
    /// On their way in.
    promised: u64,
}

/// Room for a package that is on its way in. Dropping it gives the room back.
pub struct Promise {
    totals: Arc<Totals>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.totals.storage().promised -= self.bytes;
    }
}

impl Totals {
    fn storage(&self) -> std::sync::MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn code_size(&self) -> u64 {
        self.storage().used
    }

    /// Room for `bytes` more, if they are within `limit` together with all that is there or on its way.
    pub fn promise(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Promise> {
        let mut storage = self.storage();
        let all = storage.used.saturating_add(storage.promised).saturating_add(bytes);
        if all > limit {
            return None;
        }
        storage.promised += bytes;
        Some(Promise { totals: self.clone(), bytes })
    }

    pub fn reserved(&self) -> u32 {
        self.reserved.load(Ordering::Acquire)
    }

    /// What was counted as `old` is now `new`.
    pub fn replace(&self, old: Counted, new: Counted) {
        let mut storage = self.storage();
        storage.used = storage.used.saturating_add(new.code_size).saturating_sub(old.code_size);
        // Wraps where a sum goes down.
        self.reserved.fetch_add(new.reserved.wrapping_sub(old.reserved), Ordering::AcqRel);
    }
}

/// What one family adds to the sums.
#[derive(Clone, Copy, Default)]
pub struct Counted {
    pub code_size: u64,
    pub reserved: u32,
}

impl Layer {
    pub fn counted(&self) -> Counted {
        let kept = self.versions.values().filter(|version| version.reference.is_none());
        Counted { code_size: kept.map(|version| version.code_size).sum(), reserved: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_promised_up_to_the_limit_and_no_byte_further() {
        let totals = Arc::new(Totals::default());
        totals.replace(Counted::default(), Counted { code_size: 40, reserved: 0 });
        assert!(totals.promise(61, 100).is_none());
        let promise = totals.promise(60, 100);
        assert!(promise.is_some() && totals.promise(1, 100).is_none());
        drop(promise);
        assert!(totals.promise(60, 100).is_some());
    }

    #[test]
    fn sums_follow_what_replaces_what() {
        let totals = Totals::default();
        totals.replace(Counted::default(), Counted { code_size: 5, reserved: 7 });
        totals.replace(Counted { code_size: 5, reserved: 7 }, Counted { code_size: 2, reserved: 3 });
        assert_eq!((totals.code_size(), totals.reserved()), (2, 3));
    }
}
