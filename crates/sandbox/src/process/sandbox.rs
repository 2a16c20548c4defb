//! What is done with one sandbox: it becomes somebody's, has processes, is frozen, measured, ended.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_model::{BoxFuture, CodeTree};
use rustix::fs::MemfdFlags;

use super::{Confined, open_path, step, version_4, write_address};
use crate::bare::Places;
use crate::descendants;
use crate::driver::{Command, Error, Identity, Prepared, Process, Sandbox, Signal, Usage};
use crate::init::{part, request};
use crate::isolation::Isolation;
use crate::tunnel::Tunnel;
use crate::walls::Walls;

/// A sandbox that is nobody's yet.
pub(super) struct PreparedProcess {
    pub confined: Confined,
}

impl Prepared for PreparedProcess {
    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(async move {
            if !self.confined.shared.standing.namespaces {
                return Err(step("start a process ahead of need")(io::ErrorKind::Unsupported.into()));
            }
            self.confined.start(request::SPAWN, command, Some(&Walls::inside())).await
        })
    }

    fn bind(self: Box<Self>, identity: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        Box::pin(async move { Ok(Box::new(self.attach(identity).await?) as Box<dyn Sandbox>) })
    }

    fn end(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        let ending = self.confined.take_down();
        Box::pin(async move {
            if let Some(ending) = ending {
                let _ = ending.await;
            }
        })
    }
}

impl PreparedProcess {
    pub async fn attach(self, identity: Identity) -> Result<ProcessSandbox, Error> {
        let mut confined = self.confined;
        confined.memory = Some(identity.memory);
        confined.group()?.limit(identity.memory).map_err(step("limit memory"))?;
        let Identity { code, opt, .. } = identity;
        if confined.root.whole && !confined.shared.standing.namespaces {
            return Err(step("use an image without namespaces")(io::ErrorKind::Unsupported.into()));
        }
        let code_path = code.as_ref().map(|code| code.path.clone()).unwrap_or_default();
        let (mut parts, mut descriptors, mut leases) = (0, Vec::new(), Vec::new());
        for (tree, part) in [(code, part::TASK), (opt, part::OPT)] {
            let Some(CodeTree { path, lease }) = tree else { continue };
            if confined.shared.standing.namespaces {
                let opened = open_path(&path)?;
                descriptors.push(confined.shared.launcher.mount(confined.remains()?.pid, opened.as_fd()).await?);
                parts |= part;
            } else if part == part::OPT {
                // It would be a folder of the host.
                return Err(step("show layers at /opt without namespaces")(io::ErrorKind::Unsupported.into()));
            }
            leases.push(lease);
        }
        if parts != 0 {
            confined.attach(parts, &descriptors).await?;
        }
        let listeners = Mutex::new(std::mem::take(&mut confined.listeners));
        let (cpu_limited, oom_kills, ports) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        let tunnel = Mutex::new(confined.tunnel.take());
        Ok(ProcessSandbox {
            confined,
            listeners,
            tunnel,
            cpu_limited,
            oom_kills,
            ports,
            code: code_path,
            _trees: leases,
        })
    }
}

/// Somebody's.
pub(super) struct ProcessSandbox {
    confined: Confined,
    /// Those of its class that nobody has asked for yet.
    listeners: Mutex<Vec<(SocketAddr, TcpListener)>>,
    /// Until it is taken.
    tunnel: Mutex<Option<Tunnel>>,
    cpu_limited: AtomicBool,
    /// As last seen.
    oom_kills: AtomicU64,
    /// Of its listening sockets: without a network namespace, the only ones that it may connect to.
    ports: Mutex<Vec<u16>>,
    /// Of who has no root of its own.
    code: PathBuf,
    /// What is mounted stays on disk.
    _trees: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl ProcessSandbox {
    pub async fn start(&self, kind: u8, command: Command) -> Result<Process, Error> {
        let (command, walls) = self.place(command)?;
        self.confined.start(kind, command, walls.as_ref()).await
    }

    fn take_listener(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut listeners = lock(&self.listeners);
        let place = listeners.iter().position(|(asked, _)| *asked == address)?;
        Some(listeners.swap_remove(place).1)
    }

    /// The command as it is run, and the walls around it.
    fn place(&self, command: Command) -> Result<(Command, Option<Walls>), Error> {
        if self.confined.shared.standing.namespaces {
            return Ok((command, Some(Walls::inside())));
        }
        let scratch = self.confined.remains()?.scratch.as_ref().ok_or(Error::Gone)?;
        let places = Places { root: self.confined.root.clone(), code: self.code.clone(), scratch: scratch.clone() };
        let ports = lock(&self.ports).clone();
        let walls = (self.confined.shared.isolation == Isolation::Landlock).then(|| places.walls(ports));
        Ok((places.command(command), walls))
    }
}

impl Sandbox for ProcessSandbox {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>> {
        Box::pin(async move {
            let listener = match self.take_listener(address) {
                Some(listener) => listener,
                None => self.confined.listen(&[address]).await?.pop().ok_or(Error::Gone)?,
            };
            let port = listener.local_addr().map_err(step("ask a socket for its port"))?.port();
            lock(&self.ports).push(port);
            Ok(listener)
        })
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>> {
        Box::pin(async move {
            if !self.dials() {
                return Err(step("dial")(io::ErrorKind::Unsupported.into()));
            }
            let address = version_4(address)?;
            let fill = |packet| write_address(packet, address);
            let mut answer = self.confined.control.ask(request::DIAL, &[], fill).await?;
            Ok(answer.descriptors.pop().ok_or(Error::Gone)?.into())
        })
    }

    fn dials(&self) -> bool {
        self.confined.shared.standing.namespaces
    }

    fn tunnel(&self) -> Option<Tunnel> {
        lock(&self.tunnel).take()
    }

    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(self.start(request::SPAWN, command))
    }

    fn signal(&self, process: u32, signal: Signal) -> BoxFuture<'_, Result<(), Error>> {
        let kind = match signal {
            Signal::Terminate => request::TERMINATE,
            Signal::Kill => request::KILL_ONE,
        };
        Box::pin(async move { self.confined.control.ask(kind, &[], |packet| packet.u32(process)).await.map(drop) })
    }

    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let group = self.confined.group()?;
            group.unlimit_cpu().map_err(step("lift the limit of CPU"))?;
            self.confined.control.ask(request::KILL, &[], |packet| packet).await?;
            if self.cpu_limited.load(Ordering::Relaxed) { self.limit_cpu() } else { Ok(()) }
        })
    }

    fn limit_cpu(&self) -> Result<(), Error> {
        let memory = self.confined.memory.ok_or(Error::Gone)?;
        self.confined.group()?.limit_cpu(memory).map_err(step("limit CPU"))?;
        self.cpu_limited.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        if self.confined.group()?.freezes() {
            self.confined.group()?.freeze().map_err(step("freeze"))
        } else {
            self.confined.control.tell(request::STOP).map_err(step("freeze"))
        }
    }

    fn thaw(&self) -> Result<(), Error> {
        if self.confined.group()?.freezes() {
            self.confined.group()?.thaw().map_err(step("thaw"))
        } else {
            self.confined.control.tell(request::CONTINUE).map_err(step("thaw"))
        }
    }

    fn usage(&self) -> Result<Usage, Error> {
        let remains = self.confined.remains()?;
        if remains.group.weighs() {
            let usage = remains.group.usage().map_err(step("read usage"))?;
            if usage.oom_kills > self.oom_kills.swap(usage.oom_kills, Ordering::Relaxed) {
                // All of them are dying, which takes CPU too. The limit is back when they are gone.
                remains.group.unlimit_cpu().map_err(step("lift the limit of CPU"))?;
            }
            Ok(usage)
        } else {
            Ok(Usage { memory: descendants::memory(remains.pid), ..Usage::default() })
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `init` reads it: directory, program, arguments, environment, walls; each text and list with its length before it.
pub(super) fn write_command(command: &Command, walls: Option<&Walls>) -> io::Result<OwnedFd> {
    let mut bytes = Vec::with_capacity(4096);
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    text(&mut bytes, &command.working_directory);
    text(&mut bytes, &command.program);
    bytes.extend_from_slice(&(command.arguments.len() as u32 + 1).to_le_bytes());
    text(&mut bytes, &command.program);
    for argument in &command.arguments {
        text(&mut bytes, argument);
    }
    bytes.extend_from_slice(&(command.environment.len() as u32).to_le_bytes());
    for (key, value) in &command.environment {
        text(&mut bytes, &format!("{key}={value}"));
    }
    let number = |bytes: &mut Vec<u8>, number: usize| bytes.extend_from_slice(&(number as u32).to_le_bytes());
    match walls {
        None => number(&mut bytes, 0),
        Some(walls) => {
            number(&mut bytes, if walls.ports.is_some() { 2 } else { 1 });
            for paths in [&walls.readable, &walls.writable] {
                number(&mut bytes, paths.len());
                paths.iter().for_each(|path| text(&mut bytes, path));
            }
            if let Some(ports) = &walls.ports {
                number(&mut bytes, ports.len());
                ports.iter().for_each(|port| number(&mut bytes, usize::from(*port)));
            }
        }
    }
    let file = rustix::fs::memfd_create("command", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes)?;
    Ok(file.into())
}
