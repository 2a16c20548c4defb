//! The execution environments of this host. Each is one sandbox, one runtime process with its
//! extensions, and one driver task.
//!
//! ```text
//!   start ──► init ──ready──► idle (frozen) ──invoke──► invoking ──► idle …        shutdown ──► gone
//!               └─failed─► down, to be initialised inside the next invocation ◄─ timeout, exit
//! ```
//!
//! - what may happen in which phase, and what follows: `machine`, which only decides
//! - who carries that out: `state` does what can be done at once, under a short lock, in the task where it happened (an
//!   invocation is delivered by its caller and answered by the runtime's connection); `drive` is the environment's
//!   own task for what takes time: making, starting, ending, deadlines, output
//! - extensions: `state/attached.rs` tells them, `ending` says how long they have to end
//! - what happens when init fails: `machine`, from `Init` on; the texts are in `failure`
//! - who is sent telemetry, and how: `telemetry`; the timings in it: `state/timeline.rs`
//! - bytes that the function writes, and the log barrier: `output`
//! - what is counted of calls: `meter`
//! - why an invocation was cold, and where its time went: `explain`
//! - sandboxes and runtimes kept ahead of need: `pools`; which and how many: `stock`; what must be the same for a runtime
//!   to be started ahead: `ahead`; how it waits, and is told whose it is: `parked`
//!
//! Knows nothing of how many environments there should be (that is placement's), and nothing of HTTP.

mod ahead;
mod drive;
mod ending;
mod entry;
mod environment;
mod explain;
mod extension;
mod failure;
mod machine;
mod make;
mod meter;
mod network;
mod output;
mod parked;
mod pools;
mod ports;
mod state;
mod stock;
mod telemetry;
mod variables;

pub use ahead::{Outside, Recipe};
pub use environment::{Environment, Refused, Start, Worker};
pub use explain::{ColdCounts, Explanation, Phase, StartKind};
pub use meter::{DURATION_BUCKETS_MS, Durations, Meter, Metered, Running};
pub use pools::{Bound, HostMemory, Meminfo, Origin, Pools, Taken};
pub use ports::{Config, Endpoint, EndpointIdentity, EnvironmentEvents, Ports};
