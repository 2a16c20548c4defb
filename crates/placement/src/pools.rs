//! The environments of every version: one pool each, and one a tenant where a function serves tenants apart (spec 2.6).

use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use hearth_model::{TenantId, VersionKey};

use crate::lock;
use crate::placement::{VersionPool, WAITING_MAX};
use crate::pool::Pool;

type Shared = Arc<Mutex<VersionPool>>;

/// Environments never go from one pool to another, so who is served by one has it to himself.
#[derive(Default)]
pub(crate) struct Pools {
    common: DashMap<VersionKey, Shared>,
    of_tenants: DashMap<(VersionKey, TenantId), Shared>,
}

impl Pools {
    /// Most calls find their pool under a shared lock, with nothing copied.
    pub fn get(&self, version: &VersionKey, tenant: Option<&TenantId>) -> Shared {
        let new = || Arc::new(Mutex::new(Pool::new(WAITING_MAX)));
        match tenant {
            None => {
                if let Some(pool) = self.common.get(version) {
                    return pool.clone();
                }
                self.common.entry(version.clone()).or_insert_with(new).clone()
            }
            Some(tenant) => self.of_tenants.entry((version.clone(), tenant.clone())).or_insert_with(new).clone(),
        }
    }

    /// What comes of each pool, in no order.
    pub fn map<T>(&self, mut what: impl FnMut(&VersionKey, &Shared) -> T) -> Vec<T> {
        let mut all: Vec<T> = self.common.iter().map(|entry| what(entry.key(), entry.value())).collect();
        all.extend(self.of_tenants.iter().map(|entry| what(&entry.key().0, entry.value())));
        all
    }

    /// Forgets pools in which nothing is. One with an `Arc` more than ours belongs to a call that has just looked it up.
    pub fn forget_empty(&self) {
        let is_used = |pool: &Shared| Arc::strong_count(pool) > 1 || !lock(pool).is_empty();
        self.common.retain(|_, pool| is_used(pool));
        self.of_tenants.retain(|_, pool| is_used(pool));
    }
}
