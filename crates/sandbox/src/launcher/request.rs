//! Requests to the launcher, by the first byte of a packet; a tag follows. Reading them is all that is done with what the
//! server says before it is known to be well-formed: exact length, exact number and kind of descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::net::SocketType;

use crate::packet::{DESCRIPTORS_MAX, Packet};

/// Make ready for an instance: its id. Once, before all others. Answer: the launcher's standing.
pub const SETTLE: u8 = 1;
/// Compose a root: descriptors skeleton, sources; a target for each source. Answer: its number.
pub const COMPOSE: u8 = 2;
/// Create a sandbox: root number, whether there is a control group of version 2; descriptors control, scratch, that
/// group, groups of version 1. Answer: pid.
pub const CREATE: u8 = 3;
/// A read-only, detached mount of a directory for the sandbox with this pid. Answer: its descriptor.
pub const MOUNT: u8 = 4;
/// Kill a sandbox by the pid of its init.
pub const KILL: u8 = 5;
/// Empty a folder of `/tmp`. Answer: the pid of who does it; its end is an event.
pub const CLEAR: u8 = 6;

/// Longest name of an instance.
const INSTANCE_MAX: usize = 32;
/// Longest target of a bind, bytes.
const TARGET_MAX: usize = 255;
/// Hierarchies of version 1 that a sandbox can be in.
const GROUPS_MAX: usize = 4;
/// Largest image of `/tmp`: 10,240 MB and its metadata.
const IMAGE_MAX: i64 = 12 << 30;
const CGROUP_V1: i64 = 0x0027_e0eb;
const CGROUP_V2: i64 = 0x6367_7270;

pub enum Request {
    Settle(String),
    Compose { skeleton: OwnedFd, binds: Vec<(OwnedFd, Vec<u8>)> },
    Create(Create),
    Mount { pid: i32, directory: OwnedFd },
    Kill(i32),
    Clear(OwnedFd),
}

pub struct Create {
    pub root: u32,
    pub control: OwnedFd,
    pub scratch: Scratch,
    pub unified: Option<OwnedFd>,
    pub groups: Vec<OwnedFd>,
}

impl Create {
    /// What must be the server's own: it is written to, or joined, with the launcher's privileges.
    pub fn owned(&self) -> impl Iterator<Item = &OwnedFd> {
        let (Scratch::Image(scratch) | Scratch::Folder(scratch)) = &self.scratch;
        self.groups.iter().chain(&self.unified).chain([scratch])
    }
}

/// What becomes `/tmp`.
pub enum Scratch {
    Image(OwnedFd),
    Folder(OwnedFd),
}

fn bad() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Request {
    pub fn read(mut packet: Packet) -> io::Result<Self> {
        let request = match packet.kind {
            SETTLE => Request::Settle(instance(&packet.bytes()?)?),
            COMPOSE => compose(&mut packet)?,
            CREATE => Request::Create(create(&mut packet)?),
            MOUNT => Request::Mount { pid: pid(&mut packet)?, directory: directory(packet.descriptor()?)? },
            KILL => Request::Kill(pid(&mut packet)?),
            CLEAR => Request::Clear(directory(packet.descriptor()?)?),
            _ => return Err(bad()),
        };
        packet.end()?;
        Ok(request)
    }
}

fn instance(bytes: &[u8]) -> io::Result<String> {
    let known = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if bytes.is_empty() || bytes.len() > INSTANCE_MAX || !bytes.iter().all(known) {
        return Err(bad());
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| bad())
}

fn compose(packet: &mut Packet) -> io::Result<Request> {
    let skeleton = directory(packet.descriptor()?)?;
    let mut binds = Vec::new();
    while packet.descriptors_left() > 0 && binds.len() < DESCRIPTORS_MAX {
        let (source, target) = (packet.descriptor()?, packet.bytes()?);
        if !matches!(file_type(&source)?, FileType::Directory | FileType::RegularFile)
            || target.is_empty()
            || target.len() > TARGET_MAX
            || target.contains(&0)
        {
            return Err(bad());
        }
        binds.push((source, target));
    }
    Ok(Request::Compose { skeleton, binds })
}

fn create(packet: &mut Packet) -> io::Result<Create> {
    let (root, is_unified) = (packet.u32()?, packet.u32()?);
    let control = control(packet.descriptor()?)?;
    let scratch = scratch(packet.descriptor()?)?;
    let unified = match is_unified {
        0 => None,
        1 => Some(group(packet.descriptor()?, CGROUP_V2)?),
        _ => return Err(bad()),
    };
    let mut groups = Vec::new();
    while packet.descriptors_left() > 0 {
        if groups.len() == GROUPS_MAX {
            return Err(bad());
        }
        groups.push(group(packet.descriptor()?, CGROUP_V1)?);
    }
    Ok(Create { root, control, scratch, unified, groups })
}

fn pid(packet: &mut Packet) -> io::Result<i32> {
    let pid = packet.u32()?.cast_signed();
    if pid > 1 { Ok(pid) } else { Err(bad()) }
}

fn file_type(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

fn directory(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if file_type(&descriptor)? == FileType::Directory { Ok(descriptor) } else { Err(bad()) }
}

fn control(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if file_type(&descriptor)? != FileType::Socket
        || rustix::net::sockopt::socket_type(&descriptor)? != SocketType::SEQPACKET
    {
        return Err(bad());
    }
    Ok(descriptor)
}

fn scratch(descriptor: OwnedFd) -> io::Result<Scratch> {
    let facts = rustix::fs::fstat(&descriptor)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => Ok(Scratch::Folder(descriptor)),
        // Without a name: nobody else writes into it while it is mounted.
        FileType::RegularFile if facts.st_nlink == 0 && facts.st_size <= IMAGE_MAX => Ok(Scratch::Image(descriptor)),
        _ => Err(bad()),
    }
}

fn group(descriptor: OwnedFd, magic: i64) -> io::Result<OwnedFd> {
    let descriptor = directory(descriptor)?;
    #[allow(clippy::useless_conversion)] // Its width is the architecture's.
    let found = i64::from(rustix::fs::fstatfs(descriptor.as_fd())?.f_type);
    if found == magic { Ok(descriptor) } else { Err(bad()) }
}
