//! Who calls, and what for: accounts, roles, managed policies, sessions and their credentials.
//!
//! - `caller`: what the signature of a request says of its caller; every signature is accepted there
//! - `verifier`: who has signed a request, proven; asked for function URLs so far
//! - `names`: a caller as policies and answers name it; `grants`: what its own policies say
//! - `sessions`: temporary credentials, issued and recognised without a record of them
//! - `identity`: the handle, and what is done with records; `record`: what is stored
//! - `arn`: names of roles and policies
//! - `iam`, `sts`: the operations of the services
//! - `coverage`: what works of them

mod arn;
mod caller;
mod coverage;
mod grants;
mod iam;
mod identity;
mod names;
mod record;
mod sessions;
mod sts;
mod verifier;

pub use arn::RoleArn;
pub use caller::{Caller, Identified, IdentifyError, Presented, identify};
pub use coverage::COVERAGE;
pub use grants::Granted;
pub use identity::{Identity, Ports};
pub use names::Names;
pub use sessions::{Credentials, Session, Sessions};
pub use verifier::{Unproven, Verifier, Wanted};
