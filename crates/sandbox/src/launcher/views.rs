//! User namespaces that nothing runs in: through them, files of the server show as files of a sandbox's root.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::create::map_users;
use super::serve::{Failure, at};
use crate::sys::{self, Fork};

/// Kept for later sandboxes with the same uids; each is a descriptor.
const KEPT_MAX: usize = 256;

/// By the uid of a sandbox's root on the host.
#[derive(Default)]
pub struct Views {
    kept: HashMap<u32, OwnedFd>,
}

impl Views {
    /// One in which the server's uid is `root`'s.
    pub fn of(&mut self, root: u32, server: u32) -> Result<&OwnedFd, Failure> {
        if self.kept.len() >= KEPT_MAX && !self.kept.contains_key(&root) {
            self.kept.clear();
        }
        Ok(match self.kept.entry(root) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(make(root, server)?),
        })
    }
}

/// A child is in it until somebody holds it by a descriptor.
fn make(root: u32, server: u32) -> Result<OwnedFd, Failure> {
    let (stays, ends) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(at("make a pipe"))?;
    match sys::fork_into_users().map_err(at("fork into a user namespace"))? {
        Fork::Child => {
            drop(ends);
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&stays, &mut [0]));
            sys::exit_now(0)
        }
        Fork::Parent(pid) => {
            map_users(pid, &format!("{server} {root} 1\n"))?;
            rustix::fs::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(at("open the user namespace"))
        }
    }
}
