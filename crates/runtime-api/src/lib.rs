//! The HTTP that code in a sandbox sees: the Runtime API (spec 4).
//!
//! [`Session`] is the protocol: who may say what when. `serve` is the thin HTTP server in front of it. What speaks here
//! is hostile: bodies, heads and connections are bounded, and a wrong call changes nothing.
//!
//! Absent until later: Extensions, Logs and Telemetry APIs. Their routes refuse by name.

mod serve;
mod session;

pub use serve::serve;
pub use session::{Answer, Event, Said, Session};
