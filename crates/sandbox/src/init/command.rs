//! A command as it comes from the server: in a memory file, because it may be long.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use crate::sys::Program;
use crate::walls::Walls;

/// Longest command with its environment, bytes.
const COMMAND_MAX: u64 = 1 << 20;

pub struct Command {
    pub directory: String,
    pub program: Program,
    pub walls: Option<Walls>,
}

impl Command {
    /// Directory, program, arguments, environment and walls, as `process` wrote them.
    pub fn read(file: OwnedFd) -> io::Result<Self> {
        let mut file = fs::File::from(file);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(COMMAND_MAX).read_to_end(&mut bytes)?;
        let mut texts = Texts { bytes: &bytes };
        let directory = texts.next()?.into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        let program = texts.next()?;
        let (arguments, environment) = (texts.list()?, texts.list()?);
        let walls = texts.walls()?;
        Ok(Command { directory, program: Program::new(program, arguments, environment), walls })
    }
}

struct Texts<'a> {
    bytes: &'a [u8],
}

impl Texts<'_> {
    fn count(&mut self) -> io::Result<usize> {
        let (count, rest) = self.bytes.split_first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
        self.bytes = rest;
        Ok(u32::from_le_bytes(*count) as usize)
    }

    fn next(&mut self) -> io::Result<CString> {
        let length = self.count()?;
        let (text, rest) = self.bytes.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
        self.bytes = rest;
        CString::new(text).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn walls(&mut self) -> io::Result<Option<Walls>> {
        let kind = self.count()?;
        if kind == 0 {
            return Ok(None);
        }
        let (readable, writable) = (self.paths()?, self.paths()?);
        let ports = match kind {
            1 => None,
            _ => Some((0..self.count()?).map(|_| Ok(self.count()? as u16)).collect::<io::Result<_>>()?),
        };
        Ok(Some(Walls { readable, writable, ports }))
    }

    fn paths(&mut self) -> io::Result<Vec<String>> {
        self.list()?.into_iter().map(|text| text.into_string().map_err(io::Error::other)).collect()
    }

    fn list(&mut self) -> io::Result<Vec<CString>> {
        (0..self.count()?).map(|_| self.next()).collect()
    }
}
