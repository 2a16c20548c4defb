//! What leaves a sandbox by its network.
//!
//! A sandbox's network namespace has one way out, a tunnel whose other end is the server's. Nothing is routed or translated:
//! each connection ends here, and another one is made by the server as the ordinary process that it is, if the rules say
//! so ([decision 21](../../../docs/decisions/0021-connections-of-functions-are-made-by-the-server.md)).
//!
//! ```text
//!   function ── kernel of its namespace ──► tunnel ──► gateway ──► rules ──► a socket of the server ──► the network
//!                                                        └─ what is refused: an error at once, and a line in the log
//! ```
//!
//! [`rules`] decides and knows no IO; [`Egress`] finds out what it needs to know; [`gateway`] acts. What comes through the
//! tunnel is hostile.

mod dns;
mod egress;
mod flows;
mod gateway;
mod packet;
pub mod rules;
mod stack;

pub use dns::Resolvers;
pub use egress::{Config, Egress, Explanation};
pub use gateway::{Gateway, Link, Refused, Witness};

/// What reads packets and questions of functions.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub fn dns_failure(question: &[u8]) -> Option<Vec<u8>> {
        crate::dns::failure(question)
    }
    pub use crate::packet::{Refusal, Seen, datagram, refuse, see};
}
