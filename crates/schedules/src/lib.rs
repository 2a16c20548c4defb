//! EventBridge Scheduler: schedules, their groups, and what they fire at.
//!
//! ```text
//!   agenda ──due──► machine ──► queue of the store ──► attempt ──► target: a function's events, or a queue
//!     ▲                │           (on disk first)         ├─► again, later (retry decides)
//!     └── next ────────┘                                   └─► dead-letter queue
//! ```
//!
//! - `schedules`: the handle; starting and stopping; who may write when
//! - `operations`, `groups`, `tags`: the handlers; `check`: what may be asked for; `present`: what is answered; `page`: lists
//! - `expression`, `cron`: schedule expressions; `timetable`: when they occur, in a time zone (decisions only)
//! - `machine`: what fires now, and what is next (decisions only); `agenda`: which schedule is due when
//! - `engine`: the driver of both: writes what fires
//! - `delivery`: the driver of what has fired; `retry`: when it is tried again (decisions only); `input`: what targets are
//!   given; `targets`: the port to them; `universal`: those that are requests
//! - `record`: what is stored; `ids`: by which ids what is done again is known
//! - `counts`: numbers for metrics; `coverage`: what works
//!
//! What fires is a message of the store before the schedule goes on to what is next, by an id that only this occurrence
//! has: a crash between the two sends it again, and the store knows it. Why so: decision 34.

mod agenda;
mod check;
mod counts;
mod coverage;
mod cron;
mod delivery;
mod engine;
mod expression;
mod groups;
mod ids;
mod input;
mod machine;
mod operations;
mod page;
mod present;
mod record;
mod retry;
mod schedules;
mod tags;
mod targets;
mod timetable;
mod universal;

pub use counts::{Counted, Numbers};
pub use coverage::COVERAGE;
pub use input::Attempt;
pub use record::{Firing, Late};
pub use retry::Condition;
pub use schedules::{Config, OpenError, Ports, Schedules};
pub use targets::{DeadLetter, Failure, Local, Targets};
