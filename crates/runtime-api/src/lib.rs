//! The HTTP that code in a sandbox sees: the Runtime API (spec 4).
//!
//! [`Protocol`] decides who may say what when, without HTTP, locks or tasks. [`serve`] is the thin HTTP/1.1 server that
//! turns requests into calls of a [`Runtime`], which the owner of the environment implements around a `Protocol`.
//!
//! ```text
//!   runtime process ──HTTP──► serve ──► Runtime (the environment's owner) ──► Protocol
//! ```
//!
//! What speaks here is hostile: bodies, heads and connections are bounded, and a wrong call changes nothing. A request
//! that never ends costs one connection of the bounded number that its own environment has; the invocation's deadline
//! ends it.
//!
//! Absent until later: the Extensions, Logs and Telemetry APIs. Their routes refuse by name.

mod posted;
mod protocol;
mod reply;
mod route;
mod serve;

pub use protocol::{Answer, Asked, Event, Protocol, Refusal};
pub use serve::{Next, Runtime, Server, serve};
