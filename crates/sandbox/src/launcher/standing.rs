//! What the launcher can do on this host, and how it comes to be able to: as root by what it keeps of its privileges, as
//! an ordinary user in a user namespace of its own, where no namespace is wanted by nothing.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::Orders;
use super::network;
use super::serve::{Failure, at};
use crate::cgroup::Reach;
use crate::isolation::Isolation;
use crate::sys::{self, Fork};
use crate::uids::Uids;
use crate::{privilege, walls};

/// What server and launcher must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It has root's privileges on the host.
    pub privileged: bool,
    /// `/tmp` is an image with a file system; else a folder.
    pub images: bool,
    /// Sandboxes have uids of their own on the host.
    pub uids: bool,
    /// Sandboxes have namespaces.
    pub namespaces: bool,
    /// Their networks have a way out, to the server.
    pub tunnels: bool,
}

impl Standing {
    pub fn to_bits(self) -> u32 {
        let Standing { privileged, images, uids, namespaces, tunnels } = self;
        [privileged, images, uids, namespaces, tunnels]
            .into_iter()
            .rev()
            .fold(0, |bits, bit| bits << 1 | u32::from(bit))
    }

    pub fn from_bits(bits: u32) -> Self {
        let bit = |n: u32| bits >> n & 1 == 1;
        Standing { privileged: bit(0), images: bit(1), uids: bit(2), namespaces: bit(3), tunnels: bit(4) }
    }

    pub fn reach(self) -> Reach {
        if self.privileged { Reach::Top } else { Reach::Own }
    }
}

/// Who processes of sandboxes are, in the launcher's user namespace.
pub enum Users {
    /// Two uids for each sandbox.
    Pairs(Arc<Uids>),
    /// All are the launcher's own user.
    Single,
}

/// Takes the launcher's place on this host.
pub fn take(orders: &Orders) -> Result<(Standing, Users), Failure> {
    let bare = Standing { privileged: false, images: false, uids: false, namespaces: false, tunnels: false };
    if orders.isolation == Isolation::Landlock && !walls::are_there() {
        return Err(at("look for Landlock")(io::Error::from(io::ErrorKind::Unsupported)));
    }
    if orders.isolation != Isolation::Process {
        if rustix::process::geteuid().is_root() {
            privilege::become_unprivileged(Some(orders.server)).map_err(at("give up privileges"))?;
            sys::own_proc_files().map_err(at("own the files in /proc"))?;
        }
        return Ok((bare, Users::Single));
    }
    // A container may have a root, but not its users.
    if privilege::holds(privilege::MAKING) && privilege::is_mapped(*orders.uids.end()) {
        let uids = Uids::open(orders.uids.clone(), &orders.run).map_err(at("make the folder of uid locks"))?;
        let loops = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let tunnels = network::has_tunnels();
        let standing = Standing { privileged: true, images: loops.is_ok(), uids: true, namespaces: true, tunnels };
        return Ok((standing, Users::Pairs(uids)));
    }
    let count = enter_user_namespace()?;
    let users = match count {
        Some(count) => {
            // 0 is the user itself.
            Users::Pairs(Uids::open(1..=count, &orders.run).map_err(at("make the folder of uid locks"))?)
        }
        None => Users::Single,
    };
    let tunnels = network::has_tunnels();
    Ok((Standing { uids: count.is_some(), namespaces: true, tunnels, ..bare }, users))
}

/// A user namespace in which this process is root, and a mount namespace to go with it. Answers how many subordinate
/// uids follow after 0.
fn enter_user_namespace() -> Result<Option<u32>, Failure> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mapping = Mapping::begin(uid, gid).map_err(at("look for subordinate uids"))?;
    sys::unshare_users().map_err(at("make a user namespace"))?;
    sys::own_proc_files().map_err(at("own the files in /proc"))?;
    let count = mapping.and_then(Mapping::finish);
    if count.is_none() {
        fs::write("/proc/self/setgroups", "deny").map_err(at("fix the groups of the user namespace"))?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")).map_err(at("map the user"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")).map_err(at("map the group"))?;
    }
    sys::become_user(0, 0).map_err(at("become root of the user namespace"))?;
    sys::own_proc_files().map_err(at("own the files in /proc"))?;
    sys::unshare_mounts().map_err(at("unshare mounts"))?;
    Ok(count)
}

/// A child outside of the namespace, which asks the host's `newuidmap` and `newgidmap` to map ranges into it.
struct Mapping {
    go: std::io::PipeWriter,
    count: u32,
}

impl Mapping {
    /// `None` where the user has no ranges, or the programs are missing.
    fn begin(uid: u32, gid: u32) -> io::Result<Option<Self>> {
        let range = |file| subordinates(&fs::read_to_string(file).unwrap_or_default(), uid, &name_of(uid));
        let (Some(uids), Some(gids)) = (range("/etc/subuid"), range("/etc/subgid")) else { return Ok(None) };
        let programs = ["newuidmap", "newgidmap"].map(|name| Path::new("/usr/bin").join(name));
        if !programs.iter().all(|program| program.exists()) {
            return Ok(None);
        }
        let count = uids.1.min(gids.1);
        let (going, go) = io::pipe()?;
        match sys::fork()? {
            Fork::Parent(_) => Ok(Some(Mapping { go, count })),
            Fork::Child => {
                drop(go);
                let done = io::Read::read_exact(&mut &going, &mut [0]).is_ok()
                    && run(&programs[0], uid, uids.0, count)
                    && run(&programs[1], gid, gids.0, count);
                sys::exit_now(i32::from(!done))
            }
        }
    }

    fn finish(mut self) -> Option<u32> {
        let told = io::Write::write_all(&mut self.go, &[1]);
        drop(self.go);
        let ended = sys::wait_any().ok()??;
        (told.is_ok() && ended.1 == 0).then_some(self.count)
    }
}

/// Maps 0 to `own` and what follows to the subordinates, for the parent of this process.
fn run(program: &Path, own: u32, first: u32, count: u32) -> bool {
    let Some(parent) = rustix::process::getppid() else { return false };
    let numbers = [parent.as_raw_nonzero().get().cast_unsigned(), 0, own, 1, 1, first, count];
    let mut command = Command::new(program);
    command.args(numbers.map(|number| number.to_string())).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The first range of a user in `/etc/subuid` or its like: first id, how many.
fn subordinates(text: &str, uid: u32, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        if who != name && who != uid.to_string() {
            return None;
        }
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Empty where the host does not know the user.
fn name_of(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_the_same_on_both_sides() {
        for bits in 0..32 {
            assert_eq!(Standing::from_bits(bits).to_bits(), bits);
        }
    }

    #[test]
    fn subordinates_are_found_by_name_and_by_number() {
        let text = "root:100000:65536\nsomebody:165536:65536\n1002:231072:1000\n";
        assert_eq!(subordinates(text, 1001, "somebody"), Some((165_536, 65_536)));
        assert_eq!(subordinates(text, 1002, ""), Some((231_072, 1000)));
        assert_eq!(subordinates(text, 1003, "nobody"), None);
    }
}
