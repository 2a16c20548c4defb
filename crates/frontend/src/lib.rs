//! The door: finds the operation of a request, asks `identity` who calls, calls the owner, renders the answer. No
//! handlers: they live in the crates that own the records.
//!
//! - `door`: sockets, connections, limits, shutdown; also the door inside environments
//! - `framing`: requests whose end could be read in two ways are refused
//! - `stalled`: clients that do not read
//! - `dispatch`: which service and operation a request means
//! - `url`: function URLs: HTTP in, an invocation, HTTP out
//! - `guard`: which hosts and origins may ask
//! - `operator`: Hearth's own documents under `/_hearth`

mod absent;
mod body;
mod dispatch;
mod door;
mod framing;
mod guard;
mod operator;
mod stalled;
mod url;

pub use door::{Config, Frontend, Services};
pub use operator::{
    Code, EventsAsked, EventsFilter, EventsRequest, Lines, LogsRequest, NetworkRequest, Operator, OperatorError,
    RuntimeChange,
};
