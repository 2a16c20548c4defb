//! Uids for sandboxes: a pair each, unique on the host. Instances share the range by blocks, each block by a lock on a
//! file in `/run/hearth/uids`. The range's first uid may be the server's: nobody gets it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Uids of one block; a sandbox takes two. A range that is shorter has none.
pub const BLOCK: u32 = 1024;

pub struct Uids {
    range: RangeInclusive<u32>,
    locks: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Kept open: closing one would free its block.
    blocks: Vec<File>,
    free: Vec<[u32; 2]>,
}

/// Two uids, the init's and the user's; given back when dropped.
pub struct Pair {
    pub uids: [u32; 2],
    owner: Arc<Uids>,
}

impl Uids {
    pub fn open(range: RangeInclusive<u32>, run: &Path) -> io::Result<Arc<Self>> {
        let locks = run.join("uids");
        fs::create_dir_all(&locks)?;
        Ok(Arc::new(Uids { range, locks, state: Mutex::default() }))
    }

    pub fn range(&self) -> RangeInclusive<u32> {
        self.range.clone()
    }

    pub fn take(self: &Arc<Self>) -> io::Result<Pair> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.free.is_empty() {
            self.take_block(&mut state)?;
        }
        let uids = state.free.pop().ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(Pair { uids, owner: self.clone() })
    }

    fn take_block(&self, state: &mut State) -> io::Result<()> {
        let starts = self.range.clone().step_by(BLOCK as usize);
        for start in starts.filter(|start| start.checked_add(BLOCK - 1).is_some_and(|end| self.range.contains(&end))) {
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).open(self.locks.join(start.to_string()))?;
            if file.try_lock().is_ok() {
                state.blocks.push(file);
                let pairs = (start..start + BLOCK).step_by(2).filter(|uid| uid != self.range.start());
                state.free.extend(pairs.map(|uid| [uid, uid + 1]).rev());
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, "every uid of `sandbox.uids` is in use"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.owner.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.uids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_never_share_a_uid_and_a_full_range_is_an_error() {
        let run = tempfile::tempdir().unwrap();
        let range = 100_000..=100_000 + 2 * BLOCK - 1;
        let (one, two, three) = {
            let open = || Uids::open(range.clone(), run.path()).unwrap();
            (open(), open(), open())
        };
        let (a, b) = (one.take().unwrap(), two.take().unwrap());
        assert_ne!(a.uids[0] / BLOCK, b.uids[0] / BLOCK);
        assert!(three.take().is_err());
        drop((a, one));
        assert!(three.take().is_ok());
    }

    #[test]
    fn a_pair_comes_back_when_dropped() {
        let run = tempfile::tempdir().unwrap();
        let uids = Uids::open(5000..=5000 + BLOCK - 1, run.path()).unwrap();
        let all: Vec<Pair> = (1..BLOCK / 2).map(|_| uids.take().unwrap()).collect();
        assert!(all.iter().all(|pair| !pair.uids.contains(&5000)), "it is the server's");
        assert!(uids.take().is_err());
        drop(all);
        assert!(uids.take().is_ok());
    }
}
