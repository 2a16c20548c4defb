//! The launcher's own side: one thread, one socket, one request at a time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use seccompiler::BpfProgram;

use super::Orders;
use super::compose::Roots;
use super::place::Owners;
use super::request::Request;
use super::standing::{self, Standing, Users};
use super::views::Views;
use crate::cgroup::{self, Cgroups, Hierarchies};
use crate::isolation::Isolation;
use crate::layers::{Layer, stands};
use crate::packet::{Packet, Writer, answer};
use crate::uids::Pair;
use crate::{privilege, sys};

/// How long inits without namespaces have to end what they started, once the server is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a launcher waits for that of a killed server, which ends what is left of it.
const HANDOVER: Duration = Duration::from_secs(30);

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    pub step: Cow<'static, str>,
    pub source: io::Error,
}

/// Names the step of an error.
pub fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure { step: step.into(), source: error.into() }
}

/// What a request is answered with.
#[derive(Default)]
pub struct Reply {
    pub value: u32,
    pub descriptor: Option<OwnedFd>,
}

impl Reply {
    pub fn value(value: i32) -> Self {
        Reply { value: value.cast_unsigned(), descriptor: None }
    }
}

/// A launcher that has been settled.
pub struct State {
    pub standing: Standing,
    pub users: Users,
    pub owners: Owners,
    pub roots: Roots,
    pub views: Views,
    pub filters: Vec<BpfProgram>,
    /// Inits, and others that work for a while; only they are ever signalled.
    pub children: HashMap<i32, Option<Pair>>,
    instance: Instance,
}

/// Serves until the server is gone; then ends what is left and removes what it made.
pub fn run(socket: OwnedFd, orders: Orders) -> io::Result<()> {
    // Not tied to the server's life by a signal: its end shows at the socket, and then there is something to remove.
    sys::set_name(c"hearth-launcher")?;
    let children = sys::child_signals()?;
    let mut launcher = Launcher { socket, orders, state: None };
    let served = launcher.serve(&children);
    if let Some(state) = launcher.state {
        state.end();
    }
    served
}

struct Launcher {
    socket: OwnedFd,
    orders: Orders,
    state: Option<State>,
}

impl Launcher {
    fn serve(&mut self, children: &OwnedFd) -> io::Result<()> {
        loop {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
            let (asked, ended) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
            if ended {
                self.announce_endings(children)?;
            }
            if asked {
                match Packet::receive(self.socket.as_fd(), RecvFlags::DONTWAIT) {
                    Ok(Some(packet)) => self.take_in(packet)?,
                    Ok(None) => return Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Longer than any request is: what was cut off is gone, and the next packet is whole.
                    Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                        self.refuse(0, &at("read the request")(e))?;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }

    fn announce_endings(&mut self, children: &OwnedFd) -> io::Result<()> {
        let mut information = [0; 1024];
        let _ = rustix::io::read(children, &mut information);
        while let Some((pid, status)) = sys::reap()? {
            // Its uids are free now: of its processes none is left.
            let known = self.state.as_mut().is_some_and(|state| state.children.remove(&pid).is_some());
            if known {
                let packet = Writer::new(answer::EVENT).u32(pid.cast_unsigned()).u32(status.cast_unsigned()).u32(0);
                packet.send(self.socket.as_fd(), &[], SendFlags::empty())?;
            }
        }
        Ok(())
    }

    fn take_in(&mut self, mut packet: Packet) -> io::Result<()> {
        let tag = match packet.u32() {
            Ok(tag) => tag,
            Err(e) => return self.refuse(0, &at("read the request")(e)),
        };
        match Request::read(packet).map_err(at("read the request")).and_then(|request| self.act(request)) {
            Ok(reply) => {
                let descriptors: Vec<_> = reply.descriptor.iter().map(AsFd::as_fd).collect();
                let packet = Writer::new(answer::DONE).u32(tag).u32(reply.value);
                packet.send(self.socket.as_fd(), &descriptors, SendFlags::empty())
            }
            Err(failure) => self.refuse(tag, &failure),
        }
    }

    fn refuse(&self, tag: u32, failure: &Failure) -> io::Result<()> {
        let number = failure.source.raw_os_error().unwrap_or(libc::EINVAL);
        let packet = Writer::new(answer::FAILED).u32(tag).u32(number.cast_unsigned()).bytes(failure.step.as_bytes());
        packet.send(self.socket.as_fd(), &[], SendFlags::empty())
    }

    fn act(&mut self, request: Request) -> Result<Reply, Failure> {
        let state = match (&mut self.state, request) {
            (state @ None, Request::Settle(instance)) => {
                let state = state.insert(State::settle(&self.orders, &instance)?);
                return Ok(Reply { value: state.standing.to_bits(), descriptor: None });
            }
            (Some(state), request) => state.act(request)?,
            (None, _) => return Err(at("read the request")(io::Error::from(io::ErrorKind::NotConnected))),
        };
        Ok(state)
    }
}

impl State {
    /// Takes all that this launcher will need, and gives up the rest.
    fn settle(orders: &Orders, name: &str) -> Result<Self, Failure> {
        let filters = filters(orders.isolation).map_err(io::Error::other).map_err(at("compile the filters"))?;
        let (standing, users) = standing::take(orders)?;
        let instance = Instance::claim(orders, standing, name)?;
        let kept = match (standing.privileged, standing.namespaces) {
            (true, _) => privilege::MAKING,
            (false, true) => privilege::MAKING_INSIDE,
            (false, false) => rustix::thread::CapabilitySet::empty(),
        };
        if !(stands(Layer::Gaining) && stands(Layer::Users)) {
            // What a test takes away needs more of the host's privileges, not fewer.
        } else if standing.namespaces {
            privilege::keep_only(kept).map_err(at("give up privileges"))?;
        } else {
            privilege::become_unprivileged(None).map_err(at("give up privileges"))?;
        }
        let roots = Roots::new(!standing.privileged);
        let owners = Owners {
            // In a user namespace of its own the launcher is the server's user, and root.
            server: if standing.privileged { orders.server.uid } else { rustix::process::geteuid().as_raw() },
            sandboxes: match &users {
                Users::Pairs(uids) => Some(uids.range()),
                Users::Single => None,
            },
        };
        Ok(State {
            standing,
            users,
            owners,
            roots,
            views: Views::default(),
            filters,
            children: HashMap::new(),
            instance,
        })
    }

    fn act(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Settle(_) => Err(at("read the request")(io::Error::from(io::ErrorKind::AlreadyExists))),
            Request::Compose { skeleton, binds } => super::compose::compose(&mut self.roots, skeleton, binds),
            Request::Create(create) => {
                for descriptor in create.owned() {
                    self.owners.require_servers(descriptor)?;
                }
                super::create::create(self, create)
            }
            Request::Mount { pid, directory } => {
                self.own_child(pid)?;
                super::compose::mount(self, pid, directory)
            }
            Request::Kill(pid) => {
                self.own_child(pid)?;
                if !self.standing.namespaces {
                    // It ends when the server lets go of it, after all that it started.
                    return Ok(Reply::default());
                }
                sys::kill(pid).map(|()| Reply::default()).map_err(at("kill the sandbox"))
            }
            Request::Clear(folder) => super::place::clear(self, &folder),
        }
    }

    fn own_child(&self, pid: i32) -> Result<(), Failure> {
        if self.children.contains_key(&pid) {
            Ok(())
        } else {
            Err(at("find the sandbox")(io::Error::from_raw_os_error(libc::ESRCH)))
        }
    }

    /// Ends what is left.
    fn end(mut self) {
        let patience = if self.standing.namespaces { Duration::ZERO } else { PATIENCE };
        let deadline = Instant::now() + patience;
        while !self.children.is_empty() && Instant::now() < deadline {
            match sys::reap() {
                Ok(Some((pid, _))) => drop(self.children.remove(&pid)),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        for pid in self.children.keys() {
            let _ = sys::kill(*pid);
        }
        self.instance.end();
        while let Ok(Some(_)) = sys::wait_any() {}
        self.instance.remove();
    }
}

fn filters(isolation: Isolation) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    match isolation {
        Isolation::Process => Ok(vec![crate::filter::compile()?]),
        // In this order: the second lets none be installed after it.
        Isolation::Landlock => Ok(vec![crate::narrow::compile()?, crate::filter::compile()?]),
        Isolation::None => Ok(Vec::new()),
    }
}

/// An instance's place among the others of this host, or of this user.
struct Instance {
    name: String,
    hierarchies: Hierarchies,
    /// Says to others that this one lives.
    _claim: std::fs::File,
}

impl Instance {
    /// Sweeps what ended instances left, and makes the folders of control groups.
    fn claim(orders: &Orders, standing: Standing, name: &str) -> Result<Self, Failure> {
        let hierarchies = Hierarchies::detect(standing.reach()).map_err(at("look for control groups"))?;
        let claimed = outlast(orders, name).map_err(at("lock the instance"))?;
        for other in Cgroups::instances(&hierarchies) {
            if other == name || claim(orders, &other).is_ok() {
                Cgroups::sweep(&hierarchies, &other);
            }
        }
        let owner = standing.privileged.then_some(orders.server);
        cgroup::settle(&hierarchies, name, owner).map_err(at("make control groups"))?;
        Ok(Instance { name: name.to_owned(), hierarchies, _claim: claimed })
    }

    /// Of version 1, what is frozen does not end before it is thawed.
    fn end(&self) {
        Cgroups::sweep(&self.hierarchies, &self.name);
    }

    fn remove(&self) {
        cgroup::unsettle(&self.hierarchies, &self.name);
    }
}

/// An instance's own lock. The launcher of a killed server holds it until it has ended what that left.
fn outlast(orders: &Orders, instance: &str) -> io::Result<std::fs::File> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match claim(orders, instance) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            claimed => return claimed,
        }
    }
}

/// An instance's lock; an error when somebody else holds it.
fn claim(orders: &Orders, instance: &str) -> io::Result<std::fs::File> {
    let folder = orders.run.join("instances");
    std::fs::create_dir_all(&folder)?;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(instance))?;
    file.try_lock().map_err(|_| io::Error::from(rustix::io::Errno::WOULDBLOCK))?;
    Ok(file)
}
