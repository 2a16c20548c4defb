//! Functions, versions, aliases, layers and what goes with them, as their owners describe them: validates, writes intent,
//! and brings it about. The data plane reads it.
//!
//! - one module a group of operations: `functions`, `code`, `versions`, `aliases`, `concurrency`, `provisioned`, `settings`,
//!   `tags`, `policies`, `urls`, `layers`, `code_signing`, `account`
//! - `names`: who a request means, the one parser for all of them
//! - `parameters`, `check`: from members of a request to a definition, by AWS's rules beyond the model's constraints
//! - `statements`: resource policies as documents
//! - `present`: functions and versions as AWS answers them
//! - `access`: what every handler begins and ends with; `arrival`: code on its way in
//! - `record`: what is stored; `state`: the same in memory, and the turns of its writers
//! - `control`: the handle, and the reconciler; `idle`: who is called, and what becomes of those who are not; `download`: signed URLs of packages
//! - `runtimes`: which version of its runtime a definition runs on
//! - `coverage`: what works
//!
//! Nothing here is on the way of an invocation but a lookup in memory.

mod access;
mod account;
mod aliases;
mod arrival;
mod check;
mod code;
mod code_signing;
mod concurrency;
mod control;
mod coverage;
mod download;
mod functions;
mod idle;
mod layers;
mod names;
mod parameters;
mod policies;
mod present;
mod provisioned;
mod record;
mod runtimes;
mod settings;
mod state;
mod statements;
mod tags;
mod urls;
mod versions;

pub use check::tags as check_tags;
pub use control::{Config, Control, Dependents, Ports, Shared};
pub use coverage::COVERAGE;
pub use download::DownloadError;
pub use record::{InvokeMode, UrlAuth};
pub use state::OpenError;
pub use urls::{FunctionUrl, NotLet, was_given as url_id_was_given};
