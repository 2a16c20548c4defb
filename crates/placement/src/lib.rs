//! Which environment serves a call, and how many there are.
//!
//! - `concurrency`: permits of accounts and functions
//! - `pool`: the environments of one function version, and the calls that wait for one (decisions only); `pools`: where
//!   each call finds its own
//! - `rate`: how fast environments of a function may be started (decisions only)
//! - `room`: the host's memory budget (decisions only); `host` is the lock around it
//! - `placement`: the driver of these; implements the port `Invoke`: a call that finds an idle environment
//! - `cold`: a call that finds none
//! - `provisioned`: environments that are kept initialised; `ledger` decides how many to start and end
//! - `events`: what environments report; `meters`: what calls come to
//! - `api`: the operations Invoke and InvokeWithResponseStream; what they take in is checked in `input`; what the latter
//!   answers is made in `streaming`; `accept`: Invoke of type Event, and InvokeAsync
//!
//! Knows nothing of how an environment is made: that is the worker's.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod accept;
mod api;
mod cold;
mod concurrency;
mod events;
mod host;
mod input;
mod ledger;
mod meters;
mod placement;
mod pool;
mod pools;
mod provisioned;
mod rate;
mod room;
mod streaming;
#[cfg(test)]
mod tests;

pub use api::COVERAGE;
pub use meters::{Concurrency, Counted, InUse};
pub use placement::{Config, Placement, Ports};

/// What the locks here guard is whole between any two statements, so a panic of another holder harms nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
