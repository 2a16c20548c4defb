//! Answers on stdout: documents and tables; and progress on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::Failure;

/// Work that ends sooner shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes bytes to stdout. A reader that went away ends the program quietly, as it does every pipe's writer.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::No(String::new())),
        other => Ok(other?),
    }
}

pub fn line(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// One JSON document.
pub fn document(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::No(e.to_string()))?;
    line(&text)
}

/// Rows under a header; on a terminal no wider than it.
pub fn table<R>(header: impl Into<Row>, rows: impl IntoIterator<Item = R>) -> Result<(), Failure>
where
    R: Into<Row>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    if let Some(width) = terminal_width() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    line(&table.trim_fmt())
}

fn terminal_width() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col).filter(|width| *width >= 40)
}

/// Whether stdout is a terminal that may be coloured.
pub fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// `text` in bold where stdout is a terminal that may be coloured.
pub fn strong(text: &str) -> String {
    if is_coloured() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Shows on a terminal that something is being done, once it takes longer than a second.
pub struct Progress {
    ticking: tokio::task::JoinHandle<()>,
    bar: indicatif::ProgressBar,
}

impl Progress {
    /// Needs a running async runtime.
    pub fn begin(what: &'static str) -> Self {
        let bar = indicatif::ProgressBar::new_spinner();
        let shown = bar.clone();
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        bar.set_message(what);
        let ticking = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            shown.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(100));
        });
        Progress { ticking, bar }
    }
}

impl Progress {
    pub fn say(&self, how_far: String) {
        self.bar.set_message(how_far);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticking.abort();
        self.bar.finish_and_clear();
    }
}
