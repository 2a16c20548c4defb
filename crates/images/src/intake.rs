//! Bytes of a known size on their way to disk: counted, and hashed as they come, so that a download that broke
//! off goes on where it stopped.

use std::fs::File;
use std::io::{self, Seek, Write};

use hearth_model::CodeHash;
use sha2::{Digest, Sha256};

use crate::fault::Fault;

pub struct Intake<'a> {
    file: &'a File,
    hash: Sha256,
    taken: u64,
    /// As who names them says it.
    size: u64,
    came: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Intake<'a> {
    /// `came` is told how many bytes more there are.
    pub fn new(file: &'a File, size: u64, came: &'a (dyn Fn(u64) + Sync)) -> Self {
        Intake { file, hash: Sha256::new(), taken: 0, size, came }
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn is_whole(&self) -> bool {
        self.taken == self.size
    }

    pub fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if self.taken + piece.len() as u64 > self.size {
            return Err(Fault::Damaged("what came is longer than it should be".to_owned()));
        }
        (&mut &*self.file).write_all(piece)?;
        self.hash.update(piece);
        self.taken += piece.len() as u64;
        (self.came)(piece.len() as u64);
        Ok(())
    }

    /// From the beginning again, for who cannot go on in the middle.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&mut &*self.file).rewind()?;
        self.hash = Sha256::new();
        self.taken = 0;
        Ok(())
    }

    pub fn finish(self) -> Result<CodeHash, Fault> {
        if !self.is_whole() {
            return Err(Fault::Damaged("what came is shorter than it should be".to_owned()));
        }
        (&mut &*self.file).rewind()?;
        Ok(CodeHash(self.hash.finalize().into()))
    }
}
