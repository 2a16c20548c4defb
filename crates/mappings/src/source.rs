//! The port that sources of records stand behind. A source knows how its records look to functions and to filters, and
//! how one is settled; when it is asked, and what becomes of a record, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use hearth_model::BoxFuture;
use hearth_patterns::Pattern;
use hearth_store::queue::Ms;
use tokio_util::sync::CancellationToken;

/// A record on its way to a function.
#[derive(Clone)]
pub struct Taken {
    /// By which a function names it in a partial response.
    pub id: String,
    /// How its source knows this taking of it.
    pub handle: String,
    /// As functions see it.
    pub json: String,
    /// When its source gives it to somebody else.
    pub expires: Ms,
    /// `X-Amzn-Trace-Id` that it came with.
    pub trace: Option<String>,
}

/// On whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    pub account: String,
    /// ARN of the function's role.
    pub role: String,
}

/// What one poll is to bring.
pub struct Want {
    pub limit: usize,
    /// What records hold, together, but for the first. What does not fit is not taken.
    pub bytes_max: u64,
    /// What a batch may take, from the first record to the end of its run.
    pub hold: Duration,
    /// Longest wait for the first record.
    pub wait: Duration,
    /// Ends the wait.
    pub quit: CancellationToken,
}

/// What a poll brought.
#[derive(Default)]
pub struct Polled {
    pub wanted: Vec<Taken>,
    /// Handles of what no filter wants.
    pub unwanted: Vec<String>,
}

/// Why a source gave nothing, in its own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

pub trait Source: Send + Sync + 'static {
    fn poll(&self, reader: Reader, want: Want, filters: Arc<[Pattern]>) -> BoxFuture<'_, Result<Polled, SourceError>>;

    /// These are done with. Those that others have by now stay.
    fn settle(&self, reader: Reader, handles: Vec<String>) -> BoxFuture<'_, Result<(), SourceError>>;

    /// These go back as if they were just due.
    fn give_back(&self, reader: Reader, handles: Vec<String>) -> BoxFuture<'_, Result<(), SourceError>>;
}
