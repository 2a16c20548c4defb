//! The HTTP that code in a sandbox sees: the Runtime, Extensions, Telemetry and Logs APIs (spec 4).
//!
//! [`Protocol`], [`Extensions`] and [`Subscriptions`] decide who may say what when, without HTTP, locks or tasks. [`serve`] is the thin
//! HTTP/1.1 server that turns requests into calls of a [`Runtime`], which the owner of the environment implements around
//! them.
//!
//! ```text
//!   processes inside ──HTTP──► serve ──► Runtime (the environment's owner) ──► Protocol, Extensions, Subscriptions
//! ```
//!
//! What speaks here is hostile: bodies, heads and connections are bounded, and a wrong call changes nothing. A request
//! that never ends costs one connection of the bounded number that its own environment has; the invocation's deadline
//! ends it.
//!
//! Responses to callers that take them as they come are streams ([`stream()`]); all others are read whole.
//!
//! Events of the Telemetry API go the other way: a [`Courier`] brings them to the subscriber, over sockets that the owner
//! makes inside the sandbox.

mod courier;
mod extensions;
mod posted;
mod protocol;
mod reply;
mod route;
mod serve;
mod stream;
mod subscriptions;
mod telemetry;

pub use courier::Courier;
pub use extensions::{
    EXTENSIONS_MAX, Events, Extensions, Failing, Notice, Refused, Registered, ShutdownReason, Standing, Wants,
};
pub use protocol::{Answer, Asked, Event, Protocol, Refusal};
#[cfg(feature = "fuzzing")]
pub use serve::fuzzing;
pub use serve::{Next, NextNotice, Runtime, Server, Streamed, Welcome, serve};
pub use stream::{StreamEnd, StreamWriter, stream};
pub use subscriptions::{Subscribed, Subscriptions, Unsubscribed};
pub use telemetry::{Api, Subscription};
