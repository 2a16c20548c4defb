use proptest::prelude::*;

use super::*;

fn rules(entries: &[&str]) -> Rules {
    Rules::new(entries.iter().map(|entry| entry.parse().unwrap()).collect())
}

fn verdict(rules: &Rules, to: &str) -> Verdict {
    match rules.ask(to.parse().unwrap(), false) {
        Answer::Is(verdict) => verdict,
        Answer::Unless(reason, _) => Verdict::Blocked(reason),
    }
}

#[test]
fn public_addresses_are_open() {
    for to in ["8.8.8.8:53", "203.0.113.9:443", "172.15.0.1:1", "172.32.0.1:1", "100.63.0.1:1", "100.128.0.1:1"] {
        assert_eq!(verdict(&Rules::default(), to), Verdict::Open, "{to}");
    }
    for to in ["[2606:4700::1111]:443", "[2002:808:808::1]:80", "[64:ff9b::808:808]:80", "[::ffff:8.8.8.8]:80"] {
        assert_eq!(verdict(&Rules::default(), to), Verdict::Open, "{to}");
    }
}

#[test]
fn what_is_not_public_is_closed_in_every_spelling() {
    let closed = [
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "224.0.0.1",
        "239.255.255.255",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fd00:ec2::254",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a00:1::1",
        "2002:7f00:1::",
    ];
    for address in closed {
        let to = SocketAddr::new(address.parse().unwrap(), 80);
        assert!(matches!(rules(&[]).ask(to, false), Answer::Is(Verdict::Blocked(_))), "{address}");
    }
}

#[test]
fn an_entry_opens_what_it_names_and_no_more() {
    let rules = rules(&["10.1.0.0/16", "192.168.0.5:5432", "[fd00::7]:443", "fd01::/16"]);
    for to in ["10.1.255.9:1", "192.168.0.5:5432", "[fd00::7]:443", "[fd01::9]:80"] {
        assert!(verdict(&rules, to).allows(), "{to}");
    }
    for to in ["10.2.0.1:1", "192.168.0.5:5433", "192.168.0.6:5432", "[fd00::7]:80", "[fd00::8]:443"] {
        assert!(!verdict(&rules, to).allows(), "{to}");
    }
}

#[test]
fn a_host_is_kept_from_functions_unless_it_is_named() {
    let to = "203.0.113.1:22".parse().unwrap();
    assert_eq!(rules(&[]).ask(to, true), Answer::Is(Verdict::Blocked(Reason::Host)));
    let named = rules(&["203.0.113.1:22"]);
    let Answer::Is(verdict) = named.ask(to, true) else { panic!("no name is asked for") };
    assert!(verdict.allows());
}

#[test]
fn loopback_is_never_reached() {
    let everything = rules(&["0.0.0.0/0", "::/0"]);
    for to in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80"] {
        assert!(!verdict(&everything, to).allows(), "{to}");
    }
    assert!(verdict(&everything, "169.254.169.254:80").allows());
    assert!("127.0.0.0/8".parse::<Entry>().unwrap_err().contains("can never be reached"));
    assert!("[::1]:80".parse::<Entry>().is_err());
}

#[test]
fn names_are_asked_for_only_where_they_matter() {
    let rules = rules(&["db.internal:5432", "Cache.Internal."]);
    assert_eq!(rules.names(), ["cache.internal", "db.internal"]);
    assert_eq!(rules.ask("8.8.8.8:53".parse().unwrap(), false), Answer::Is(Verdict::Open));
    let asked = |to: &str| match rules.ask(to.parse().unwrap(), false) {
        Answer::Unless(_, names) => names.into_iter().map(|(_, name)| name.to_owned()).collect(),
        Answer::Is(_) => Vec::new(),
    };
    assert_eq!(asked("10.0.0.1:5432"), ["db.internal", "cache.internal"]);
    assert_eq!(asked("10.0.0.1:80"), ["cache.internal"]);
    assert_eq!(asked("127.0.0.1:80"), Vec::<String>::new());
}

#[test]
fn entries_say_what_is_wrong_with_them() {
    let long = "a".repeat(64);
    for text in [
        "",
        "10.0.0.0/33",
        "fd00::/129",
        "10.0.0.0/x",
        "*.internal",
        "a b",
        "db:0",
        "db:65536",
        "-a",
        "1.2.3",
        &long,
        "a..b",
    ] {
        assert!(text.parse::<Entry>().unwrap_err().starts_with("is not a range"), "{text}");
    }
    assert_eq!("10.0.0.1/8".parse::<Entry>().unwrap_err(), "has bits beyond its length: the range is 10.0.0.0/8");
}

proptest! {
    #[test]
    fn an_entry_reads_as_it_is_written(bits in 0u8..=32, address: u32, port: Option<u16>, name in "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5})?") {
        let network = Network { first: cut(IpAddr::V4(Ipv4Addr::from_bits(address)), bits), bits };
        let port = port.filter(|port| *port > 0);
        let entries = [
            Entry { whom: Whom::Network(network), port: if bits == 32 { port } else { None } },
            Entry { whom: Whom::Name(name), port },
        ];
        for entry in entries {
            match entry.to_string().parse::<Entry>() {
                Ok(again) => prop_assert_eq!(again, entry),
                Err(reason) => prop_assert!(reason.starts_with("can never"), "{}: {}", entry, reason),
            }
        }
    }

    #[test]
    fn a_range_holds_what_shares_its_bits(bits in 0u8..=128, first: u128, other: u128) {
        let network = Network { first: cut(IpAddr::V6(Ipv6Addr::from_bits(first)), bits), bits };
        let address = IpAddr::V6(Ipv6Addr::from_bits(other));
        prop_assert_eq!(network.contains(address), cut(address, bits) == network.first);
    }
}
