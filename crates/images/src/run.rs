//! Runs programs of the host to their end: within a time, with bounded output, and with no standard input but what is
//! given.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

/// Kept of each output; the rest is read and dropped.
const OUTPUT_MAX: usize = 64 * 1024;

/// How a program ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What it printed, or its failure with the last line that it wrote about it.
    pub fn success(self) -> io::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let last = self.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(io::Error::other(format!("{}: {last}", self.status)))
    }
}

/// Runs a program and what it starts in a process group of its own, which is killed when the time is over. The program
/// does not outlive this process.
pub fn run(command: &mut Command, within: Duration) -> io::Result<Ended> {
    end(command.stdin(Stdio::null()), within)
}

/// The same with something to read.
pub fn run_with(command: &mut Command, input: &[u8], within: Duration) -> io::Result<Ended> {
    end(command.stdin(in_memory(input)?), within)
}

/// A file of these bytes that is nowhere on disk, for another process to read.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn end(command: &mut Command, within: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + within;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    hearth_sandbox::end_with_starter(command);
    let mut child = command.spawn()?;
    let outputs = [child.stdout.take().map(collect), child.stderr.take().map(collect)];
    let mut texts = Vec::new();
    for output in outputs.into_iter().flatten() {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Ok(text) = output.recv_timeout(rest) else {
            let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it took longer than {within:?}")));
        };
        texts.push(text);
    }
    let status = child.wait()?;
    let mut texts = texts.into_iter();
    Ok(Ended { status, stdout: texts.next().unwrap_or_default(), stderr: texts.next().unwrap_or_default() })
}

/// Reads to the end in a thread of its own.
fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = from.by_ref().take(OUTPUT_MAX as u64).read_to_end(&mut kept);
        let _ = io::copy(&mut from, &mut io::sink());
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration) -> io::Result<Ended> {
        run(Command::new("/bin/sh").args(["-c", script]), within)
    }

    #[test]
    fn output_and_failure_are_told() {
        let ended = shell("echo out; echo first >&2; echo last >&2; exit 3", Duration::from_secs(10)).unwrap();
        assert_eq!(ended.stdout, "out\n");
        assert_eq!(ended.success().unwrap_err().to_string(), "exit status: 3: last");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_what_it_started() {
        let error = shell("sleep 60 & sleep 60", Duration::from_millis(50)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_is_given_is_read() {
        let ended = run_with(Command::new("/bin/cat").arg("-"), b"given", Duration::from_secs(10)).unwrap();
        assert_eq!(ended.stdout, "given");
    }

    #[test]
    fn output_is_bounded() {
        let ended = shell("yes | head -c 1000000", Duration::from_secs(10)).unwrap();
        assert_eq!(ended.stdout.len(), OUTPUT_MAX);
    }
}
