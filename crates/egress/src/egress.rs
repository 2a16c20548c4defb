//! What the rules need to know of the world: this host's own addresses, and those of names. Makes the server's sockets.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::dns::Resolvers;
use crate::rules::{Answer, Entry, Rules, Verdict};

/// How long the addresses of an allowed name are taken as known.
const FRESH: Duration = Duration::from_secs(5);
/// How long an address stays a name's own after it was last seen: names with many addresses show some at a time.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Addresses remembered of a name.
const ADDRESSES_MAX: usize = 64;
/// Longest look-up of a name.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Config {
    /// What functions may reach beside what is open to everybody.
    pub allow: Vec<Entry>,
    /// Whom functions' questions for names go to.
    pub resolvers: Resolvers,
}

/// Decides about the connections of every function. A cheap handle.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    names: HashMap<String, Name>,
    resolvers: Resolvers,
}

/// One that the setting has.
struct Name {
    seen: Mutex<Seen>,
    /// One look-up at a time.
    turn: Semaphore,
}

#[derive(Default)]
struct Seen {
    /// When it was last looked up.
    at: Option<Instant>,
    addresses: Vec<(IpAddr, Instant)>,
}

/// What becomes of connections to a place, by each of its addresses.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub addresses: Vec<(SocketAddr, Verdict)>,
}

impl Egress {
    pub fn new(config: Config) -> Self {
        let rules = Rules::new(config.allow);
        let name = |name: &str| (name.to_owned(), Name { seen: Mutex::default(), turn: Semaphore::new(1) });
        let names = rules.names().into_iter().map(name).collect();
        Egress { inner: Arc::new(Inner { rules, names, resolvers: config.resolvers }) }
    }

    pub async fn decide(&self, to: SocketAddr) -> Verdict {
        let host = is_this_host(to).await;
        match self.inner.rules.ask(to, host) {
            Answer::Is(verdict) => verdict,
            Answer::Unless(reason, names) => {
                for (entry, name) in names {
                    if self.addresses(name).await.contains(&to.ip()) {
                        return Verdict::Allowed(entry.clone(), reason);
                    }
                }
                Verdict::Blocked(reason)
            }
        }
    }

    /// Says what `decide` would, for each address of a host. An error when it has none.
    pub async fn explain(&self, host: &str, port: u16) -> io::Result<Explanation> {
        let mut addresses = Vec::new();
        for address in look_up(host).await? {
            let to = SocketAddr::new(address, port);
            addresses.push((to, self.decide(to).await));
        }
        Ok(Explanation { addresses })
    }

    pub(crate) fn resolvers(&self) -> &Resolvers {
        &self.inner.resolvers
    }

    /// Of a name that the setting has.
    async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let Some(known) = self.inner.names.get(name) else { return Vec::new() };
        if known.seen().is_stale()
            && let Ok(_turn) = known.turn.acquire().await
            && known.seen().is_stale()
        {
            let found = look_up(name).await;
            known.seen().learn(Instant::now(), found.unwrap_or_default());
        }
        known.seen().addresses.iter().map(|(address, _)| *address).collect()
    }
}

impl Name {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_stale(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() > FRESH)
    }

    fn learn(&mut self, now: Instant, found: Vec<IpAddr>) {
        self.at = Some(now);
        self.addresses.retain(|(address, at)| !found.contains(address) && now - *at < REMEMBERED);
        self.addresses.splice(0..0, found.into_iter().map(|address| (address, now)));
        self.addresses.truncate(ADDRESSES_MAX);
    }
}

/// As the host's own programs would.
async fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = timeout(LOOKUP_MAX, tokio::net::lookup_host((host, 0))).await??;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// Whether what is sent there would stay on this host. Then the kernel gives it that very address as its source or, where
/// it is one of a whole range, lets it be a socket's own. Nothing is sent.
async fn is_this_host(to: SocketAddr) -> bool {
    let source = async {
        let socket = UdpSocket::bind(unbound(to)).await?;
        socket.connect(to).await?;
        socket.local_addr()
    };
    let own = async |address: IpAddr| UdpSocket::bind((address, 0)).await.is_ok();
    // Some hosts let sockets have addresses that nobody has.
    source.await.is_ok_and(|source| source.ip() == to.ip()) || own(to.ip()).await && !own(nobodys(to)).await
}

/// Reserved for ever, discarded by everybody (RFC 1112, RFC 6666).
fn nobodys(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::new(240, 0, 0, 1).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Where a socket for this destination starts.
pub(crate) fn unbound(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow: &[&str]) -> Egress {
        let allow = allow.iter().map(|entry| entry.parse().unwrap()).collect();
        Egress::new(Config { allow, ..Config::default() })
    }

    #[tokio::test]
    async fn this_host_is_known_by_its_addresses() {
        assert!(is_this_host("127.0.0.1:80".parse().unwrap()).await);
        assert!(is_this_host("127.1.2.3:80".parse().unwrap()).await);
        assert!(!is_this_host("203.0.113.99:80".parse().unwrap()).await);
    }

    #[tokio::test]
    async fn a_name_never_opens_loopback() {
        let egress = egress(&["localhost"]);
        assert!(!egress.decide("127.0.0.1:80".parse().unwrap()).await.allows());
        let explained = egress.explain("localhost", 80).await.unwrap();
        assert!(explained.addresses.iter().all(|(_, verdict)| !verdict.allows()));
        assert!(!explained.addresses.is_empty());
    }

    #[test]
    fn a_name_has_the_addresses_that_it_has_had_lately() {
        let begin = Instant::now();
        let addresses = |seen: &Seen| seen.addresses.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>();
        let mut seen = Seen::default();
        assert!(seen.is_stale());
        seen.learn(begin, vec!["10.0.0.1".parse().unwrap()]);
        assert!(!seen.is_stale());
        seen.learn(begin + FRESH, vec!["10.0.0.2".parse().unwrap()]);
        assert_eq!(addresses(&seen), ["10.0.0.2", "10.0.0.1"]);
        seen.learn(begin + REMEMBERED, Vec::new());
        assert_eq!(addresses(&seen), ["10.0.0.2"]);
    }
}
