//! Amazon CloudWatch Logs over the log store: what clients see of the groups, streams and events that `observe` keeps.
//!
//! - one module a group of operations: `groups`, `streams`, `events`, `filters`, `metric_filters`, `queries`, `tags`, `tail`
//! - `pattern`: the language of filter patterns; `insights`: that of queries. Both are pure: text in, a program out;
//!   `comparison` is theirs together
//! - `watch`: groups with filters are followed; `subscriptions`: functions that are sent what others log; `metrics`: what
//!   metric filters make of it
//! - `names`: which group a request means; `page`: pages of lists and their tokens
//! - `cloudwatch`: the handle; `coverage`: what works
//!
//! Nothing here is on the way of an invocation: functions write to `observe`.

mod cloudwatch;
mod comparison;
mod coverage;
mod events;
mod filters;
mod groups;
mod insights;
mod metric_filters;
mod metrics;
mod names;
mod page;
mod pattern;
mod queries;
mod streams;
mod subscriptions;
mod tags;
mod tail;
mod watch;

pub use cloudwatch::CloudWatch;
pub use coverage::COVERAGE;
pub use metrics::{Counted, Series, Total};
pub use subscriptions::Destinations;
