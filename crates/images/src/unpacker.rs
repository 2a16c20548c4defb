//! Packages are read in a process of their own (see `hearth_sandbox::errand`), which gets the zip and a folder.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hearth_sandbox::errand::{self, Errand, Given};

use crate::package;

/// Name under which the re-executed binary knows its role.
const ROLE: &str = "hearth-unpacker";
/// CPU time of one package. The largest takes some seconds.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What became of a package.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("its files are larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// What is wrong with it.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error.to_string())
    }
}

/// What is to be done with a zip.
#[derive(Clone, Copy)]
pub enum What {
    Check,
    Unpack,
}

/// Called early in `main`, while the process has one thread: when it was started to read a package, it does that and
/// ends.
pub fn main_if_asked() {
    errand::main_if_asked(ROLE, |given| reply(given).into_bytes());
}

/// Reads a zip to its end; answers the sum of its files' sizes. The folder is empty, and stays so when it is only
/// checked. What fails leaves a part behind, for the caller to remove. Blocking.
pub fn read(what: What, zip: &File, folder: &File, limit: u64) -> Result<u64, Error> {
    let verb = match what {
        What::Check => "check",
        What::Unpack => "unpack",
    };
    let argument = format!("{verb} {limit}");
    let (input, folder) = (zip.as_fd(), folder.as_fd());
    let errand = Errand { role: ROLE, argument: &argument, input, folder, file_max: limit + 1, time_max: TIME_MAX };
    match errand.run() {
        Ok(said) => understand(&String::from_utf8_lossy(&said), limit),
        Err(error) if error.is_of_the_input() => {
            tracing::warn!(%error, "a package made its reader fail");
            Err(Error::Refused(format!("reading it: {error}")))
        }
        Err(error) => Err(Error::Io(format!("reading a package: {error}"))),
    }
}

/// In the process of its own.
fn reply(Given { argument, input, folder }: Given) -> String {
    let Some((verb, limit)) = argument.split_once(' ') else { return String::new() };
    let limit = limit.parse().unwrap_or(0);
    let zip = io::BufReader::new(input);
    let done = match verb {
        "check" => package::check(zip, limit),
        _ => package::unpack(zip, folder.as_fd(), limit),
    };
    match done {
        Ok(total) => format!("whole {total}"),
        Err(package::Error::TooLarge { .. }) => "large ".to_owned(),
        Err(package::Error::Io(error)) => format!("failed {error}"),
        Err(refused) => format!("refused {refused}"),
    }
}

fn understand(said: &str, limit: u64) -> Result<u64, Error> {
    match said.split_once(' ') {
        Some(("whole", total)) => total.parse().map_err(|_| Error::Io("a package's reader said nonsense".to_owned())),
        Some(("large", _)) => Err(Error::TooLarge { limit }),
        Some(("refused", reason)) => Err(Error::Refused(reason.to_owned())),
        Some(("failed", reason)) => Err(Error::Io(reason.to_owned())),
        _ => Err(Error::Io("a package's reader said nothing".to_owned())),
    }
}
