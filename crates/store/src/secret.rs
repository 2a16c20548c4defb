//! Secrets that servers over the same records share: drawn by whoever needs one first.

use crate::keys::random;
use crate::{Expect, Key, Records, RecordsError, Write};

/// Length of a secret, bytes.
const LENGTH: usize = 32;

/// The one secret of this kind, a record of its own. It is made where there is none; of servers that are first together,
/// one makes it.
pub async fn shared_secret(records: &dyn Records, kind: &'static str) -> Result<[u8; LENGTH], RecordsError> {
    let key = || Key { partition: String::new(), kind, id: "1".to_owned() };
    if let Some(found) = records.get(key()).await? {
        return parse(kind, &found.value);
    }
    let made: [u8; LENGTH] = random();
    let text = made.map(|byte| byte.to_string()).join(",");
    let value = format!("[{text}]").into();
    match records.commit(vec![Write::Put { key: key(), expect: Expect::Absent, value }]).await {
        Ok(_) => Ok(made),
        Err(RecordsError::Conflict(_)) => match records.get(key()).await? {
            Some(found) => parse(kind, &found.value),
            None => Err(damaged(kind)),
        },
        Err(error) => Err(error),
    }
}

/// A list of numbers in JSON, as all records are JSON.
fn parse(kind: &'static str, value: &[u8]) -> Result<[u8; LENGTH], RecordsError> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.trim().strip_prefix('[')?.strip_suffix(']'));
    let bytes = text.and_then(|text| text.split(',').map(|number| number.trim().parse().ok()).collect());
    bytes.and_then(|bytes: Vec<u8>| bytes.try_into().ok()).ok_or_else(|| damaged(kind))
}

fn damaged(kind: &'static str) -> RecordsError {
    RecordsError::Engine(format!("the {kind} is damaged").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryRecords;

    #[tokio::test]
    async fn everybody_has_the_same_secret_and_each_kind_another() {
        let records = MemoryRecords::default();
        let first = shared_secret(&records, "session-key").await.unwrap();
        assert_eq!(shared_secret(&records, "session-key").await.unwrap(), first);
        assert_ne!(shared_secret(&records, "download-key").await.unwrap(), first);
        let key = Key { partition: String::new(), kind: "session-key", id: "1".to_owned() };
        let value = "[1,2]".into();
        records.commit(vec![Write::Put { key, expect: Expect::Anything, value }]).await.unwrap();
        assert!(shared_secret(&records, "session-key").await.is_err());
    }
}
