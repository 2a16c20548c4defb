//! Event source mappings: takes records from a source and runs a function with batches of them.
//!
//! ```text
//!   source ──poll──► filter ──► gathered ──batch──► guard ──► Invoke ──► verdict ──► settled at the source
//!                      │            (machine decides when, how much, how many at once)
//!                      └─► settled without a run
//! ```
//!
//! - `mappings`: the handle; starting and stopping; one worker for each mapping
//! - `operations`: the handlers of the group `event source mappings`; `parameters`: what may be asked for; `present`: what
//!   is answered; `tags`: tags of mappings
//! - `record`: what is stored; `life`: states and what leads from one to the next (decisions only)
//! - `worker`: the driver of one mapping; `machine`: when it polls, what makes a batch, when it is tried again (decisions
//!   only); `scale`: how many batches may be under way (decisions only)
//! - `batch`: one run of one batch; `verdict`: what an answer says of its records (decisions only)
//! - `filter`: which records are wanted
//! - `source`: the port that sources stand behind; `sqs`: queues
//! - `stream`: the port that streams stand behind, and how their records look; `shard`: when a shard is read, what makes a
//!   batch, what becomes of one that failed (decisions only); `shards`: the driver of a mapping of a stream; `shard_run`: one
//!   run, and what is told of records that are given up; `kept`: checkpoints on disk
//! - `counts`: numbers for metrics; `coverage`: what works
//!
//! A record of a queue leaves its source only after a run that went well, or because nobody wants it: what is cut off comes again.
//! Of a stream it is kept how far each shard has come. Why so: decisions 30 and 33.

mod batch;
mod buffers;
mod counts;
mod coverage;
mod filter;
mod kept;
mod life;
mod machine;
mod mappings;
mod operations;
mod parameters;
mod present;
mod record;
mod scale;
mod shard;
mod shard_run;
mod shards;
mod source;
mod sqs;
mod stream;
mod tags;
mod verdict;
mod worker;

pub use counts::{AGE_BUCKETS_MS, Ages, Counted, Events};
pub use coverage::COVERAGE;
pub use mappings::{Mappings, OpenError, Ports};
pub use shard::{Position, Sequence};
pub use stream::{Batch, Given, ShardFacts, StreamError, StreamFacts, Streams};
pub use tags::Tags;
