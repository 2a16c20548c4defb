//! S3, embedded: buckets and objects on `store`'s records and blobs. The protocol is `s3s`'s; what the operations do is
//! here.
//!
//! - `door`: a request with its caller, as `s3s` takes it: signatures are put aside, hosts that name buckets are read
//! - `handlers`: the operations, a module a group: `buckets`, `objects`, `deletes`,
//!   `copy`, `multipart`, `lists`, `tags`
//! - `conditions`, `refuse`, `error`: what requests ask for first, what is refused by name, AWS's texts
//! - `record`: what is stored; `state`: reading and writing it, in turns; `versions`: what a write makes of a key
//! - `intake`: a body on its way to a blob; `chunked`: bodies in `aws-chunked`; `checksum`
//! - `content`: ranges of objects on their way out; `leases`: what is read stays; `sweep`: blobs that a crash left behind
//! - `code`: packages of functions, for `control`
//!
//! An object is never in memory: it comes and goes in pieces. Contents have a store of blobs of their own, in which each
//! has one owner (docs/decisions/0014).

mod checksum;
mod chunked;
mod code;
mod conditions;
mod content;
mod coverage;
mod door;
mod error;
mod handlers;
mod intake;
mod leases;
mod record;
mod refuse;
mod state;
mod sweep;
mod versions;

pub use coverage::{COVERAGE, OPERATIONS};
pub use door::{Body, Caller, Objects, Ports};
