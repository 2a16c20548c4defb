//! What a function writes to its descriptors 1 and 2, and as framed records to its log pipe; and the log stream that both
//! go to.
//!
//! The pipe is read past the async runtime's notion of readiness: when a runtime has answered, everything that it wrote
//! before is in the pipe already, and the barrier (decision 17) takes it from there whether or not anybody was woken.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hearth_model::{Bucket, Clock, JsonLogs, LogEvent, LogGroup, LogLevel, LogStreamName, PlatformRecord, Source};
use hearth_observe::{FrameSplitter, LineSplitter, LogTail, Logs, platform, telemetry};
use tokio::net::unix::pipe;

use crate::telemetry::Telemetry;

/// Read in one go, bytes.
const CHUNK: usize = 64 * 1024;
/// Size asked of the kernel for the pipe, so that a burst of lines does not wait for its reader.
const PIPE_SIZE: usize = 1024 * 1024;
/// What an environment may write for long, and in a burst, in bytes of lines with their overhead. Who writes more waits
/// at the pipe.
const RATE: f64 = 8.0 * 1024.0 * 1024.0;
const BURST: f64 = 8.0 * 1024.0 * 1024.0;
/// How old a record may say it is: no invocation lasts longer.
const RECORD_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// Overhead of a line, bytes.
const LINE_COST: usize = 128;

/// The environment's log stream, and the tail of the invocation that runs. Events are kept back until `flush`, so that
/// an invocation's lines travel together.
pub(crate) struct Log {
    logs: Logs,
    group: LogGroup,
    stream: LogStreamName,
    clock: Arc<dyn Clock>,
    pending: Vec<LogEvent>,
    tail: Option<LogTail>,
    /// Its lines are JSON.
    json: Option<JsonLogs>,
    pub telemetry: Telemetry,
}

impl Log {
    pub fn new(
        logs: Logs,
        group: LogGroup,
        stream: LogStreamName,
        json: Option<JsonLogs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let telemetry = Telemetry::new(json.is_some());
        Log { logs, group, stream, clock, json, pending: Vec::new(), tail: None, telemetry }
    }

    /// A line of the log, an event of telemetry, or both.
    pub fn platform(&mut self, record: &PlatformRecord) {
        self.send(record);
        self.write(record);
    }

    /// Whether times are of use that no line of a text log has.
    pub fn wants_times(&self) -> bool {
        self.json.is_some() || self.telemetry.is_on()
    }

    /// What no line of a text log says.
    pub fn tell(&mut self, record: &PlatformRecord) {
        self.send(record);
        if self.json.is_some() {
            self.write(record);
        }
    }

    fn send(&mut self, record: &PlatformRecord) {
        if self.telemetry.is_on() {
            self.telemetry.record(self.clock.wall(), record);
        }
    }

    /// To the log alone.
    pub fn write(&mut self, record: &PlatformRecord) {
        let at = self.clock.wall();
        let line = match (self.json, record) {
            // Hearth's own, which AWS has no event for.
            (None, _) | (_, PlatformRecord::Substituted { .. } | PlatformRecord::Blocked(_)) => {
                platform::render(record).map(Bytes::from)
            }
            (Some(json), _) => telemetry::json_line(json.system, at, record),
        };
        if let Some(line) = line {
            self.line(at, line);
        }
    }

    /// What a process wrote. A level that it did not say apart is in the line.
    fn output(&mut self, source: Source, at: SystemTime, level: Option<LogLevel>, line: Bytes) {
        self.telemetry.line(at, source, &line);
        let least = self.json.filter(|_| source == Source::Function).map(|json| json.application);
        if least.is_none_or(|least| level.unwrap_or_else(|| telemetry::level(&line)) >= least) {
            self.line(at, line);
        }
    }

    pub fn begin_tail(&mut self) {
        self.tail = Some(LogTail::default());
    }

    pub fn end_tail(&mut self) -> Option<Bytes> {
        self.tail.take().map(LogTail::finish)
    }

    pub fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.logs.append(&self.group, &self.stream, std::mem::take(&mut self.pending));
        }
    }

    fn line(&mut self, at: SystemTime, message: Bytes) {
        if let Some(tail) = &mut self.tail {
            tail.push(&message);
        }
        self.pending.push(LogEvent { at, message });
    }
}

/// The reading end of one process's output.
pub(crate) struct Pipe {
    reader: pipe::Receiver,
}

impl Pipe {
    /// The reading end, and the writing end for the process.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        // An unprivileged server may be near its share of pipe memory; the usual size then does.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_SIZE);
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok((Pipe { reader }, writer.into()))
    }

    /// Ready when there may be something to read.
    pub async fn readable(&self) {
        if self.reader.readable().await.is_err() {
            std::future::pending().await
        }
    }

    /// Reads what fits, whether or not the async runtime has seen any. `Ok(0)` when every writer is gone.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.reader, buffer)?)
    }

    /// Likewise, after `readable`; when there is nothing the next `readable` waits.
    fn read_ready(&self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        buffer.reserve_exact(limit);
        self.reader.try_read_buf(buffer)
    }

    /// Bytes that are in it.
    fn filled(&self) -> usize {
        rustix::io::ioctl_fionread(&self.reader).map_or(0, |filled| usize::try_from(filled).unwrap_or(0))
    }
}

/// What became of reading some output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    Some,
    /// Nothing there.
    Empty,
    /// Every writer is gone: there will be no more.
    Closed,
    /// The environment has written more than its share; not before then.
    NotBefore(Instant),
}

/// One process's output on its way to the log.
pub(crate) struct Output {
    pipe: Arc<Pipe>,
    /// Whose it is.
    source: Source,
    splitter: Splitter,
    /// What may be written.
    share: Bucket,
}

enum Splitter {
    Lines(LineSplitter),
    Frames(FrameSplitter),
}

impl Output {
    /// Text: a record a line.
    pub fn lines(pipe: Arc<Pipe>, source: Source, now: Instant) -> Self {
        Output {
            pipe,
            source,
            splitter: Splitter::Lines(LineSplitter::default()),
            share: Bucket::new(RATE, BURST, now),
        }
    }

    /// Framed records of a runtime.
    pub fn frames(pipe: Arc<Pipe>, now: Instant) -> Self {
        let splitter = Splitter::Frames(FrameSplitter::default());
        Output { pipe, source: Source::Function, splitter, share: Bucket::new(RATE, BURST, now) }
    }

    /// Takes one chunk, within the environment's share.
    pub fn pump(&mut self, log: &mut Log, now: Instant) -> Pumped {
        if self.share.level(now) <= 0.0 {
            // Half the burst may come at once then.
            return Pumped::NotBefore(now + self.share.until(BURST / 2.0));
        }
        let mut buffer = Vec::new();
        match self.pipe.read_ready(&mut buffer, CHUNK) {
            Ok(0) => Pumped::Closed,
            Ok(_) => {
                self.split(log, &buffer);
                Pumped::Some
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Pumped::Empty,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Pumped::Some,
            Err(_) => Pumped::Closed,
        }
    }

    /// The log barrier: takes all that was written before this call, and an unfinished line with it; of a frame that is
    /// not whole the rest follows. A function that goes on writing meanwhile does not hold it up.
    pub fn drain(&mut self, log: &mut Log) {
        let mut left = self.pipe.filled();
        let mut buffer = vec![0; left.min(CHUNK)];
        while left > 0 {
            // Not a byte more: the next line may be half there, and the flush below would cut it.
            let most = left.min(CHUNK);
            match self.pipe.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(read) => {
                    left -= read;
                    self.split(log, &buffer[..read]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if let Splitter::Lines(splitter) = &mut self.splitter {
            let at = log.clock.wall();
            splitter.flush(|line| log.output(self.source, at, None, line));
        }
    }

    /// Takes what is left when every writer is gone.
    pub fn end(&mut self, log: &mut Log) {
        self.drain(log);
        if let Splitter::Frames(splitter) = &mut self.splitter {
            let now = log.clock.wall();
            splitter.finish(|record| log.output(self.source, credible(record.at, now), record.level, record.message));
        }
    }

    fn split(&mut self, log: &mut Log, bytes: &[u8]) {
        let before = log.pending.len();
        let now = log.clock.wall();
        match &mut self.splitter {
            Splitter::Lines(splitter) => splitter.push(bytes, |line| log.output(self.source, now, None, line)),
            Splitter::Frames(splitter) => splitter.push(bytes, |record| {
                log.output(self.source, credible(record.at, now), record.level, record.message);
            }),
        }
        self.share.take((bytes.len() + (log.pending.len() - before) * LINE_COST) as f64);
    }
}

/// The time that a record says, unless it cannot be true: the function may say anything.
fn credible(at: Option<SystemTime>, now: SystemTime) -> SystemTime {
    at.filter(|at| *at <= now && now - RECORD_AGE_MAX <= *at).unwrap_or(now)
}
