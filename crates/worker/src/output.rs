//! What a function writes to its descriptors 1 and 2, and the environment's log stream that it goes to.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{Clock, LogEvent, LogGroup, LogStreamName, PlatformRecord};
use hearth_observe::{LineSplitter, LogTail, Logs, platform};
use tokio::net::unix::pipe;

/// Read in one go before other events of the environment are looked at, bytes.
const CHUNK: usize = 64 * 1024;
/// Read while waiting for all that was written before an answer. A function that goes on writing does not hold its own
/// report back for ever.
const BARRIER_MAX: usize = 8 * 1024 * 1024;
/// Size asked of the kernel for the pipe, so that a burst of lines does not wait for the reader.
const PIPE_SIZE: usize = 1024 * 1024;

/// The environment's log stream, and the tail of the invocation that runs.
pub(crate) struct Log {
    logs: Logs,
    group: LogGroup,
    stream: LogStreamName,
    clock: Arc<dyn Clock>,
    tail: Option<LogTail>,
}

impl Log {
    pub fn new(logs: Logs, group: LogGroup, stream: LogStreamName, clock: Arc<dyn Clock>) -> Self {
        Log { logs, group, stream, clock, tail: None }
    }

    pub fn stream(&self) -> &LogStreamName {
        &self.stream
    }

    pub fn platform(&mut self, record: &PlatformRecord) {
        self.lines(vec![platform::render(record).into()]);
    }

    pub fn begin_tail(&mut self) {
        self.tail = Some(LogTail::default());
    }

    pub fn end_tail(&mut self) -> Option<Bytes> {
        self.tail.take().map(LogTail::finish)
    }

    fn lines(&mut self, lines: Vec<Bytes>) {
        if let Some(tail) = &mut self.tail {
            lines.iter().for_each(|line| tail.push(line));
        }
        let at = self.clock.wall();
        let events = lines.into_iter().map(|message| LogEvent { at, message }).collect();
        self.logs.append(&self.group, &self.stream, events);
    }
}

/// The reading end of one process's output.
pub(crate) struct Output {
    pipe: pipe::Receiver,
    splitter: LineSplitter,
    buffer: Box<[u8]>,
    open: bool,
}

impl Output {
    /// The reading end, and the writing end for the process.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        // An unprivileged server may be near its share of pipe memory; the default size then does.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_SIZE);
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        let output = Output { pipe, splitter: LineSplitter::default(), buffer: vec![0; CHUNK].into(), open: true };
        Ok((output, writer.into()))
    }

    /// Ready when there is something to read. Never again once every writer is gone.
    pub async fn readable(&self) {
        if !self.open || self.pipe.readable().await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes one chunk of what is there.
    pub fn take(&mut self, log: &mut Log) -> usize {
        match self.pipe.try_read(&mut self.buffer) {
            Ok(0) => {
                self.open = false;
                0
            }
            Ok(read) => {
                let mut lines = Vec::new();
                self.splitter.push(&self.buffer[..read], |line| lines.push(line));
                if !lines.is_empty() {
                    log.lines(lines);
                }
                read
            }
            Err(e) => {
                self.open &= e.kind() == io::ErrorKind::WouldBlock;
                0
            }
        }
    }

    /// The log barrier (decision 17): takes all that was written before this call, and an unfinished line with it.
    pub fn drain(&mut self, log: &mut Log) {
        let mut total = 0;
        while total < BARRIER_MAX {
            match self.take(log) {
                0 => break,
                read => total += read,
            }
        }
        let mut lines = Vec::new();
        self.splitter.flush(|line| lines.push(line));
        if !lines.is_empty() {
            log.lines(lines);
        }
    }
}
