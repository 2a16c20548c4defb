//! What is foreign and packed is read in a process of its own (see `hearth_sandbox::errand`), which gets the bytes and a
//! folder.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use hearth_model::Packing;
use hearth_sandbox::errand::{self, Errand, Given};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::debian::INDEX;
use crate::debian::deb::Packed;
use crate::oci::layer;
use crate::package;

/// What is read at once of the input, bytes.
const BUFFER: usize = 64 * 1024;
/// Name under which the re-executed binary knows its role.
const ROLE: &str = "hearth-unpacker";
/// CPU time of one package. The largest takes some seconds.
const TIME_MAX: Duration = Duration::from_secs(60);
/// CPU time of one layer, which may be forty times as large.
const LAYER_TIME_MAX: Duration = Duration::from_secs(600);

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

/// What is to be done with the input.
#[derive(Clone, Copy)]
pub enum What {
    /// Look into a zip.
    Check,
    /// Unpack a zip.
    Unpack,
    /// Unpack a layer of an image.
    Layer(Packing),
    /// Unpack the files of one of Debian's packages.
    Debian,
    /// Unpack a file by itself.
    Index(Packed),
}

impl What {
    const ALL: [What; 10] = [
        What::Check,
        What::Unpack,
        What::Layer(Packing::Plain),
        What::Layer(Packing::Gzip),
        What::Layer(Packing::Zstd),
        What::Debian,
        What::Index(Packed::Plain),
        What::Index(Packed::Gzip),
        What::Index(Packed::Xz),
        What::Index(Packed::Zstd),
    ];

    fn verb(self) -> &'static str {
        match self {
            What::Check => "check",
            What::Unpack => "unpack",
            What::Layer(Packing::Plain) => "layer",
            What::Layer(Packing::Gzip) => "layer-gzip",
            What::Layer(Packing::Zstd) => "layer-zstd",
            What::Debian => "debian",
            What::Index(Packed::Plain) => "index",
            What::Index(Packed::Gzip) => "index-gzip",
            What::Index(Packed::Xz) => "index-xz",
            What::Index(Packed::Zstd) => "index-zstd",
        }
    }

    fn time_max(self) -> Duration {
        match self {
            What::Check | What::Unpack => TIME_MAX,
            What::Layer(_) | What::Debian | What::Index(_) => LAYER_TIME_MAX,
        }
    }
}

/// Called early in `main`, while the process has one thread: when it was started to read a package, it does that and
/// ends.
pub fn main_if_asked() {
    errand::main_if_asked(ROLE, |given| reply(given).into_bytes());
}

/// Reads a package to its end; answers the sum of its files' sizes. The folder is empty, and stays so when it is only
/// checked. What fails leaves a part behind, for the caller to remove. Blocking.
pub fn read(what: What, packed: &File, folder: &File, limit: u64) -> Result<u64, Error> {
    let argument = format!("{} {limit}", what.verb());
    let (input, folder, time_max) = (packed.as_fd(), folder.as_fd(), what.time_max());
    let errand = Errand { role: ROLE, argument: &argument, input, folder, file_max: limit + 1, time_max };
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
    let Some(what) = What::ALL.into_iter().find(|what| what.verb() == verb) else { return String::new() };
    let packed = io::BufReader::with_capacity(BUFFER, input);
    match what {
        What::Check => said(package::check(packed, limit)),
        What::Unpack => said(package::unpack(packed, folder.as_fd(), limit)),
        What::Layer(packing) => said(layer::unpack(packed, packing, folder.as_fd(), limit)),
        What::Debian => said(layer::unpack_package(packed, folder.as_fd(), limit)),
        What::Index(packed_as) => said(unpack_file(packed, packed_as, folder.as_fd(), limit)),
    }
}

fn unpack_file(packed: impl Read, packed_as: Packed, folder: BorrowedFd<'_>, limit: u64) -> Result<u64, layer::Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(folder, INDEX, flags, Mode::RUSR | Mode::WUSR, ResolveFlags::BENEATH);
    let mut file = File::from(file.map_err(io::Error::from)?);
    let mut plain = layer::plain(packed, packed_as)?;
    let (mut total, mut buffer) = (0, vec![0; BUFFER]);
    loop {
        let read = plain.read(&mut buffer).map_err(layer::Error::Damaged)?;
        if read == 0 {
            return Ok(total);
        }
        total += read as u64;
        if total > limit {
            return Err(layer::Error::TooLarge { limit });
        }
        io::Write::write_all(&mut file, &buffer[..read])?;
    }
}

fn said<E: Into<Error>>(done: Result<u64, E>) -> String {
    match done.map_err(Into::into) {
        Ok(total) => format!("whole {total}"),
        Err(Error::TooLarge { .. }) => "large ".to_owned(),
        Err(Error::Io(error)) => format!("failed {error}"),
        Err(Error::Refused(reason)) => format!("refused {reason}"),
    }
}

impl From<package::Error> for Error {
    fn from(error: package::Error) -> Self {
        match error {
            package::Error::TooLarge { limit } => Error::TooLarge { limit },
            package::Error::Io(error) => error.into(),
            refused => Error::Refused(refused.to_string()),
        }
    }
}

impl From<layer::Error> for Error {
    fn from(error: layer::Error) -> Self {
        match error {
            layer::Error::TooLarge { limit } => Error::TooLarge { limit },
            layer::Error::Io(error) => error.into(),
            refused => Error::Refused(refused.to_string()),
        }
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
