//! How URLs are named: `http://ID.lambda-url.REGION.localhost:PORT/`. The last characters of an id follow from the others,
//! so that one that was given once can be told from one that never was, without a record of those that are gone.

use std::io::{self, Read};

use hearth_model::Region;
use sha2::{Digest, Sha256};

/// Characters of an id, and how many of them are a check of the rest.
const LENGTH: usize = 32;
const CHECK: usize = 7;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

pub fn new() -> io::Result<String> {
    let mut chance = [0; (LENGTH - CHECK) * 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
    Ok(checked(letters(&chance)))
}

/// Whether such an id was ever given, also when its URL is gone.
pub fn was_given(id: &str) -> bool {
    id.len() == LENGTH && id.is_ascii() && checked(id[..LENGTH - CHECK].to_owned()) == id
}

/// The address, by the scheme and the port of the door that was asked.
pub fn url(id: &str, region: &Region, origin: &str) -> String {
    let (scheme, host) = origin.split_once("://").unwrap_or(("http", origin));
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{id}.lambda-url.{region}.localhost{port}/")
}

fn checked(id: String) -> String {
    let check = letters(&Sha256::digest(&id)[..CHECK * 2]);
    id + &check
}

/// A character for each two bytes: the remainder is as good as even.
fn letters(bytes: &[u8]) -> String {
    let letter = |pair: &[u8]| ALPHABET[usize::from(u16::from_be_bytes([pair[0], pair[1]])) % ALPHABET.len()];
    bytes.chunks_exact(2).map(|pair| char::from(letter(pair))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_given_is_told_from_one_that_was_not() {
        let id = new().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert!(was_given(&id) && new().unwrap() != id);
        let other = |at: usize| id[..at].to_owned() + if &id[at..=at] == "a" { "b" } else { "a" } + &id[at + 1..];
        assert!((0..LENGTH).all(|at| !was_given(&other(at))));
        assert!(!was_given("") && !was_given(&"a".repeat(32)) && !was_given(&"é".repeat(16)));
    }

    #[test]
    fn the_url_has_the_port_of_the_door() {
        let region = Region::default_region();
        assert_eq!(url("x", &region, "http://127.0.0.1:4566"), "http://x.lambda-url.us-east-1.localhost:4566/");
        assert_eq!(url("x", &region, "http://localhost"), "http://x.lambda-url.us-east-1.localhost/");
        assert_eq!(url("x", &region, "https://[::1]:80"), "https://x.lambda-url.us-east-1.localhost:80/");
        assert_eq!(url("x", &region, "http://[::1]"), "http://x.lambda-url.us-east-1.localhost/");
    }
}
