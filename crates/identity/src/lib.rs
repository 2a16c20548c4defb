//! Who calls. In this first mode every signature is accepted: the scope of a signature only says which region and
//! service are meant, and a key id of twelve digits which account.

mod caller;
pub mod sts;

pub use caller::{Caller, IdentifyError, identify};
