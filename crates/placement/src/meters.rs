//! What calls have come to, for who watches (spec 10.1): a meter for every ARN by which something was called.

use std::sync::Arc;

use dashmap::DashMap;
use hearth_model::{AccountId, FunctionArn, LookupError, Qualifier, Region};
use hearth_worker::{Meter, Metered};

use crate::lock;
use crate::placement::{Inner, Placement};

/// By the ARN as it was invoked.
#[derive(Default)]
pub(crate) struct Meters(DashMap<String, Arc<Meter>>);

impl Meters {
    /// Most calls find theirs under a shared lock, with nothing copied.
    pub fn of(&self, invoked_arn: &str) -> Arc<Meter> {
        if let Some(meter) = self.0.get(invoked_arn) {
            return meter.clone();
        }
        self.0.entry(invoked_arn.to_owned()).or_default().clone()
    }
}

/// What is counted of one account in one region, at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub account: AccountId,
    pub region: Region,
    /// Calls of functions without a reservation.
    pub unreserved: u32,
    /// Those, and what is set aside, used or not.
    pub claimed: u32,
}

/// What is kept initialised of one version, at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// With the version as its qualifier.
    pub arn: FunctionArn,
    pub running: u32,
    /// Environments that are ready, these included.
    pub ready: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub calls: Vec<(FunctionArn, Metered)>,
    pub accounts: Vec<Concurrency>,
    pub provisioned: Vec<InUse>,
}

impl Placement {
    pub fn counted(&self) -> Counted {
        let inner = &self.inner;
        let calls = inner.meters.0.iter();
        let mut calls: Vec<_> =
            calls.filter_map(|entry| Some((FunctionArn::parse(entry.key())?, entry.value().read()))).collect();
        calls.sort_by_cached_key(|(arn, _)| arn.to_string());
        Counted { calls, accounts: inner.concurrency(), provisioned: inner.in_use() }
    }
}

impl Inner {
    fn concurrency(&self) -> Vec<Concurrency> {
        let all = self.accounts.iter().map(|entry| {
            let ((account, region), unreserved) = (entry.key().clone(), entry.value().unreserved());
            let claimed = self.functions.set_aside(&account, &region) + unreserved;
            Concurrency { account, region, unreserved, claimed }
        });
        all.collect()
    }

    fn in_use(&self) -> Vec<InUse> {
        let all = self.kept.iter().map(|entry| {
            let mut arn = entry.value().arn();
            arn.qualifier = Some(Qualifier::new(&entry.key().version.to_string()));
            let ready = entry.value().ready();
            let idle = lock(&entry.value().pool).idle_count();
            InUse { arn, running: ready.saturating_sub(idle as u32), ready }
        });
        all.collect()
    }

    /// Forgets what was counted of functions, aliases and versions that are there no more.
    pub fn forget_meters(&self) {
        self.meters.0.retain(|arn, _| {
            FunctionArn::parse(arn)
                .is_some_and(|arn| !matches!(self.functions.known(&arn), Err(LookupError::NotFound(_))))
        });
    }
}
