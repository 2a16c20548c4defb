//! Confines processes.
//!
//! [`driver`] is the port that the worker uses. [`process`] is its engine on namespaces, cgroups and seccomp:
//!
//! ```text
//!   server (threads, async)            launcher (one thread, privileged)
//!     ProcessDriver ── prepare, kill ──► creates, reaps ──clone3──► init (PID 1 of a sandbox, no exec)
//!          └──────────── listen, dial, attach, spawn, kill ─────────► └─ fork, confine, exec ─► the function
//! ```
//!
//! Descriptors cross these sockets, paths of the host never do. This is the only crate with `unsafe` code, all of it
//! in `sys`. Knows nothing of runtimes, invocations or HTTP.

mod bare;
mod cgroup;
mod conversation;
mod descendants;
mod driver;
pub mod errand;
mod filter;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod init;
mod isolation;
pub mod launcher;
mod layers;
mod narrow;
mod packet;
pub mod privilege;
mod probe;
pub mod process;
pub mod promises;
mod scratch;
mod sys;
mod tunnel;
mod uids;
mod unavailable;
mod walls;

#[cfg(feature = "weaken")]
pub use layers::{Layer, weaken};

pub use driver::{
    Class, Command, Driver, Error, Exit, Identity, LOG_FD, Prepared, Process, Promise, Sandbox, Signal, TOLD_FD, Usage,
};
pub use isolation::Isolation;
pub use sys::end_with_starter;
pub use tunnel::Tunnel;
pub use uids::BLOCK as UIDS_MIN;
pub use unavailable::Unavailable;
