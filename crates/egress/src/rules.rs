//! Which addresses functions may reach. Pure: names are looked up elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The setting that lets functions reach more.
pub const SETTING: &str = "egress.allow";

/// A range of addresses: the first, and how many bits all of them share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Network { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Self {
        Network { first: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), bits }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Why an address is not open to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// In a range that is kept from functions.
    Range { network: Network, what: &'static str },
    /// One of this host's own addresses, at which it may serve what it serves on loopback.
    Host,
    /// Cannot be reached whatever is allowed.
    Never { network: Network, what: &'static str },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Range { network, what } | Reason::Never { network, what } => write!(f, "{what}, {network}"),
            Reason::Host => f.write_str("an address of this host"),
        }
    }
}

const fn kept(network: Network, what: &'static str) -> Reason {
    Reason::Range { network, what }
}

const fn never(network: Network, what: &'static str) -> Reason {
    Reason::Never { network, what }
}

/// Each row with the document that gives it its meaning.
const CLOSED: &[Reason] = &[
    // RFC 1122: "this network", loopback; RFC 1112: reserved, with broadcast.
    never(Network::v4(0, 0, 0, 0, 8), "no host's address"),
    never(Network::v4(127, 0, 0, 0, 8), "loopback"),
    never(Network::v4(240, 0, 0, 0, 4), "no host's address"),
    // RFC 1918.
    kept(Network::v4(10, 0, 0, 0, 8), "a private range"),
    kept(Network::v4(172, 16, 0, 0, 12), "a private range"),
    kept(Network::v4(192, 168, 0, 0, 16), "a private range"),
    // RFC 6598, behind a provider's translation.
    kept(Network::v4(100, 64, 0, 0, 10), "a shared range"),
    // RFC 3927: metadata of clouds among them.
    kept(Network::v4(169, 254, 0, 0, 16), "link-local"),
    // RFC 1112.
    kept(Network::v4(224, 0, 0, 0, 4), "multicast"),
    // RFC 4291: unspecified, loopback and IPv4 in its oldest spelling; link-local; multicast.
    never(Network::v6(0, 0, 0, 96), "loopback"),
    kept(Network::v6(0xfe80, 0, 0, 10), "link-local"),
    kept(Network::v6(0xff00, 0, 0, 8), "multicast"),
    // RFC 3879: site-local, no longer given out.
    kept(Network::v6(0xfec0, 0, 0, 10), "a private range"),
    // RFC 4193.
    kept(Network::v6(0xfc00, 0, 0, 7), "a private range"),
    // RFC 8215: translation to IPv4 of a site's own choosing.
    kept(Network::v6(0x64, 0xff9b, 1, 48), "translated addresses"),
];

/// Why an address is not open to everybody; `None` when it is.
pub fn closed(address: IpAddr) -> Option<Reason> {
    let found = CLOSED.iter().copied().find(|reason| match reason {
        Reason::Range { network, .. } | Reason::Never { network, .. } => network.contains(address),
        Reason::Host => false,
    });
    found.or_else(|| closed(IpAddr::V4(embedded(address)?)))
}

/// The IPv4 address that is meant by one of IPv6.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., a, b] = address.segments();
    let last = Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b));
    match address.segments() {
        // Mapped (RFC 4291), and translated by a network (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last),
        // 6to4 (RFC 3056).
        [0x2002, a, b, ..] => Some(Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b))),
        _ => None,
    }
}

/// One entry of the setting: whom functions may reach although the address is not open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub whom: Whom,
    /// `None`: every port.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Network(Network),
    /// In lower case; whatever addresses it has.
    Name(String),
}

impl Entry {
    fn names(&self, to: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == to.port())
            && matches!(&self.whom, Whom::Network(network) if network.contains(to.ip()))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            Whom::Network(network) if !is_one(network) => write!(f, "{network}")?,
            Whom::Network(Network { first: IpAddr::V6(first), .. }) if self.port.is_some() => write!(f, "[{first}]")?,
            Whom::Network(network) => write!(f, "{}", network.first)?,
            Whom::Name(name) => f.write_str(name)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn is_one(network: &Network) -> bool {
    network.bits == if network.first.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Entry {
    /// Reads after the entry: `"x" is not …`.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entry = parse(text)?;
        match &entry.whom {
            Whom::Network(network) => match closed(network.first) {
                Some(Reason::Never { what, .. }) if network.bits > 0 => Err(format!("can never be reached: {what}")),
                _ => Ok(entry),
            },
            Whom::Name(_) => Ok(entry),
        }
    }
}

fn parse(text: &str) -> Result<Entry, String> {
    let whole = |first: IpAddr| Network { first, bits: if first.is_ipv4() { 32 } else { 128 } };
    if let Some((first, bits)) = text.split_once('/') {
        let first: IpAddr = first.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if bits > whole(first).bits {
            return Err(bad());
        }
        let network = Network { first: cut(first, bits), bits };
        if network.first != first {
            return Err(format!("has bits beyond its length: the range is {network}"));
        }
        return Ok(Entry { whom: Whom::Network(network), port: None });
    }
    if let Ok(address) = text.parse() {
        return Ok(Entry { whom: Whom::Network(whole(address)), port: None });
    }
    let (whom, port) = match text.rsplit_once(':') {
        Some((whom, port)) => match port.parse() {
            Ok(0) | Err(_) => return Err(bad()),
            Ok(port) => (whom, Some(port)),
        },
        None => (text, None),
    };
    let bare = whom.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(whom);
    if let Ok(address) = bare.parse() {
        return Ok(Entry { whom: Whom::Network(whole(address)), port });
    }
    if !is_name(whom) {
        return Err(bad());
    }
    Ok(Entry { whom: Whom::Name(whom.trim_end_matches('.').to_ascii_lowercase()), port })
}

fn bad() -> String {
    "is not a range such as 10.0.0.0/8, a name such as db.internal, or one with a port such as db.internal:5432"
        .to_owned()
}

/// A host's name (RFC 1123), not one that could be taken for an address.
pub fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(label)
        && text.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| !byte.is_ascii_digit()))
}

fn cut(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Open to everybody.
    Open,
    /// An entry of the setting names it, although there is a reason against it.
    Allowed(Entry, Reason),
    Blocked(Reason),
}

impl Verdict {
    pub fn allows(&self) -> bool {
        !matches!(self, Verdict::Blocked(_))
    }
}

/// What the rules say before any name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Is(Verdict),
    /// Blocked for this reason, unless one of these entries' names has the address.
    Unless(Reason, Vec<(&'a Entry, &'a str)>),
}

/// What the setting says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    allow: Vec<Entry>,
}

impl Rules {
    pub fn new(allow: Vec<Entry>) -> Self {
        Rules { allow }
    }

    /// `host` says whether the address is one of this host's own.
    pub fn ask(&self, to: SocketAddr, host: bool) -> Answer<'_> {
        let reason = match closed(to.ip()) {
            Some(reason @ Reason::Never { .. }) => return Answer::Is(Verdict::Blocked(reason)),
            Some(reason) => reason,
            None if host => Reason::Host,
            None => return Answer::Is(Verdict::Open),
        };
        if let Some(entry) = self.allow.iter().find(|entry| entry.names(to)) {
            return Answer::Is(Verdict::Allowed(entry.clone(), reason));
        }
        let named = |entry: &'_ Entry| entry.port.is_none_or(|port| port == to.port());
        let names = self.allow.iter().filter(|entry| named(entry)).filter_map(|entry| match &entry.whom {
            Whom::Name(name) => Some((entry, name.as_str())),
            Whom::Network(_) => None,
        });
        let names: Vec<_> = names.collect();
        if names.is_empty() { Answer::Is(Verdict::Blocked(reason)) } else { Answer::Unless(reason, names) }
    }

    /// Names that the setting has, once each.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .allow
            .iter()
            .filter_map(|entry| match &entry.whom {
                Whom::Name(name) => Some(name.as_str()),
                Whom::Network(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests;
