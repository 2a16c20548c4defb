//! Amazon SQS on the store's durable queues: standard and FIFO queues for clients, and a port for rooms that send or poll
//! on behalf of a service.
//!
//! - one module a group of operations: `making`, `sending`, `receiving`, `holding` (of what was received), `permissions`,
//!   `tags`, `moves`
//! - `attributes`: what a queue can be told, and what it means; `names`: names, URLs and ARNs
//! - `message`: a message as it is kept, its digests and limits; `handle`: receipt handles
//! - `access`: what a queue's policy lets whom do
//! - `live`: the queues there are; `record`: what is stored of them; `sweep`: what is over is removed
//! - `port`: for other rooms; `queues`: the handle; `coverage`: what works
//!
//! Nothing here decides when a message is due: that is the store's ([decision 22]), and this room's words for it are in
//! decision 26.

mod access;
mod attributes;
mod coverage;
mod handle;
mod holding;
mod live;
mod making;
mod message;
mod moves;
mod names;
mod permissions;
mod port;
mod queues;
mod receiving;
mod record;
mod refusals;
mod sending;
mod sweep;
mod tags;

pub use coverage::COVERAGE;
pub use port::{Attribute, Delivery, Facts, Poll, PortError, Received, Sender};
pub use queues::{Ports, Queues};
