//! Which environment serves a call, and how many there are.
//!
//! - `account`: concurrency permits
//! - `pool`: the environments of one function version, and the calls that wait for one (decisions only)
//! - `room`: the host's memory budget (decisions only)
//! - `placement`: the driver of these three; implements the port `Invoke`
//! - `api`: the operation Invoke
//!
//! Knows nothing of how an environment is made: that is the worker's.

mod account;
mod api;
mod placement;
mod pool;
mod room;

pub use api::COVERAGE;
pub use placement::{Config, Placement};
