//! Runs functions with no caller waiting: the asynchronous queue, its retries, and where its outcomes go.
//!
//! ```text
//!   accept ──► queue of the function ──► pump ──► attempt ──► retry decides ──► back to the queue, later
//!   (on disk)        (store)                        │               └─────────► settled: outcome, destinations
//!                                                   └──► Invoke
//! ```
//!
//! - `events`: the handle; accepting, starting and stopping
//! - `note`: what is kept beside a payload: attempts, and what became of it
//! - `pump`: the driver of one function's queue; `pace`: how many of its events may be under way (decisions only)
//! - `attempt`: one run of one event; `retry`: what follows (decisions only)
//! - `settle`: the end of an event, with its deliveries; `record`: what destinations are told;
//!   `destination`: where to, and the port that takes it there
//! - `config`: event-invoke configurations, and the handlers of the group
//! - `outcomes`: events as they are looked at, tried again, purged and audited
//! - `counts`: numbers for metrics
//!
//! An event is on disk before it is accepted, and leaves its queue in the transaction that writes its outcome: there is
//! exactly one. Knows nothing of how a function runs, nor of what stands behind a destination.

mod attempt;
mod config;
mod counts;
mod destination;
mod events;
mod note;
mod outcomes;
mod pace;
mod pump;
mod record;
mod retry;
mod settle;

pub use config::COVERAGE;
pub use counts::{AGE_BUCKETS_MS, Counted};
pub use destination::{Couriers, Delivery, Parcel, Service, Target};
pub use events::{Config, Events, OpenError, Ports};
pub use outcomes::{Audit, Event, Filter, OutcomeError};
