//! The execution environments of one host: each is one sandbox, one runtime process, and one driver task.
//!
//! ```text
//!   start ──► init ──ready──► idle (frozen) ──invoke──► invoking ──► idle …        shutdown ──► gone
//!               └─failed─► idle, to be initialised inside the next invocation ◄─ timeout, exit
//! ```
//!
//! - what an environment is made of, and its life: `drive`
//! - what happens when init fails: `init`
//! - one invocation, its timeout, its report: `invocation`
//! - bytes that the function writes: `output`
//!
//! Knows nothing of how many environments there should be (that is placement's), and nothing of HTTP.

mod drive;
mod environment;
mod init;
mod invocation;
mod live;
mod output;
mod variables;

pub use environment::{Config, Endpoint, EndpointIdentity, Environment, EnvironmentEvents, Ports, Worker};
