//! The AWS protocols, as a server speaks them. Knows nothing of Hearth, nor of any one service: services' shapes are
//! tables ([`Shape`]) that `wire-SERVICE` crates are generated with.

pub mod aws_json;
mod context;
pub mod coverage;
mod document;
mod error;
pub mod event_stream;
mod hex;
pub mod json;
pub mod query;
mod reply;
pub mod rest_json;
pub mod route;
pub mod shape;
pub mod sigv4;
mod timestamp;
mod validate;

pub use context::{Context, RoleSession};
pub use coverage::{Coverage, Parameter, ParameterStatus};
pub use error::{Error, Fault, MessageKey};
pub use event_stream::EventStream;
pub use hex::hex;
pub use reply::{Reply, ReplyBody};
pub use shape::{Blob, Kind, Location, Member, Shape};
pub use timestamp::Timestamp;
