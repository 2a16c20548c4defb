//! Functions as their owners describe them: validates, writes intent, and brings it about. The data plane reads it.
//!
//! - `record`: what is stored of a function
//! - `check`: AWS's rules beyond the model's constraints
//! - `present`: a record as AWS answers it
//! - `operations`: the handlers
//! - `control`: the room's state: records in memory as they are on disk, and the reconciler
//! - `download`: signed URLs of packages
//!
//! Nothing here is on the way of an invocation but a lookup in memory.

mod check;
mod control;
mod download;
mod operations;
mod present;
mod record;

pub use control::{Config, Control, OpenError, Ports};
pub use download::DownloadError;
pub use operations::COVERAGE;
