//! Ids that are the same whenever they are asked for: what is done again after a crash is known by them.

use sha2::{Digest, Sha256};

/// Of the message of an occurrence.
pub fn message(uuid: &str, turn: u32, occurrence: u64) -> String {
    format!("{uuid}.{turn}.{occurrence}")
}

/// Of one attempt with a message: sixteen hex digits.
pub fn execution(message: &str, attempt: u32) -> String {
    digest(&[message, &attempt.to_string()])[..16].to_owned()
}

/// Of the event that a function is given for a message, whatever the attempt.
pub fn request(message: &str) -> String {
    let digest = Sha256::digest(message);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// In hex.
pub fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or_default().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_each_time_and_differ() {
        assert_eq!(request("a.1"), request("a.1"));
        assert_ne!(request("a.1"), request("a.2"));
        assert!(uuid::Uuid::parse_str(&request("a.1")).is_ok());
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
