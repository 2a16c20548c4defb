//! Who calls, and what for: accounts, roles, managed policies, sessions and their credentials.
//!
//! - `caller`: what the signature of a request says of its caller. Every signature is accepted so far; verifying it belongs
//!   here
//! - `sessions`: temporary credentials, issued and recognised without a record of them
//! - `identity`: the handle, and what is done with records; `record`: what is stored
//! - `arn`: names of roles and policies
//! - `iam`, `sts`: the operations of the services
//! - `coverage`: what works of them

mod arn;
mod caller;
mod coverage;
mod iam;
mod identity;
mod record;
mod sessions;
mod sts;

pub use arn::RoleArn;
pub use caller::{Caller, Identified, IdentifyError, Presented, identify};
pub use coverage::COVERAGE;
pub use identity::{Identity, Ports};
pub use sessions::{Credentials, Session, Sessions};
