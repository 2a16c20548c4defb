//! TLS for connections that come in and that go out.
//!
//! - [`Certificate`]: what this server proves itself with; renewed when its files are
//! - [`connect`]: a connection out, to one whose certificate the host's authorities vouch for
//!
//! One library does the cryptography of both ([`rustls`] on `aws-lc-rs`); versions 1.2 and 1.3.

mod incoming;
mod outgoing;

pub use incoming::{Accepted, Certificate, Unusable};
pub use outgoing::{Outgoing, Untrusting, client, connect};
