//! Keys at rest: a master key that the operator holds wraps one key for each account, with which what belongs to it is
//! sealed. Turning the master key over wraps the accounts' keys anew and touches nothing else.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{Aead, AeadInPlace, OsRng, Payload, rand_core::RngCore};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Expect, Key, Record, Records, RecordsError, Write, every};

/// Kind of the records that hold accounts' keys; they alone are not sealed.
pub(crate) const KIND: &str = "account-key";
/// Id of an account's one key. Its partition is the account.
const CURRENT: &str = "1";
const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;
/// Bytes that sealing adds.
pub(crate) const SEALING: usize = NONCE_LENGTH + TAG_LENGTH;
/// Bytes that name a master key beside what it wrapped, so that a wrong one is told from damage.
const NAME_LENGTH: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("an encryption key is 64 hexadecimal digits")]
    Malformed,
    #[error("cannot use the encryption key in {path}: {source}")]
    File { path: String, source: io::Error },
    #[error(
        "what is stored is encrypted with another key (it begins with {wanted}; this one would be {given}): set encryption.key_file or HEARTH_ENCRYPTION_KEY to the one it was made with"
    )]
    Another { wanted: String, given: String },
    #[error("what is stored is encrypted, and its key is not in {0}")]
    Missing(String),
    #[error("the key of account {0} is damaged")]
    Damaged(String),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// What wraps the accounts' keys. Never shown: it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; KEY_LENGTH]);

impl MasterKey {
    pub fn generate() -> Self {
        MasterKey(random())
    }

    /// 64 hexadecimal digits, and space around them.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim().as_bytes();
        let mut key = [0; KEY_LENGTH];
        if text.len() != 2 * KEY_LENGTH {
            return Err(KeyError::Malformed);
        }
        for (byte, digits) in key.iter_mut().zip(text.chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| KeyError::Malformed)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError::Malformed)?;
        }
        Ok(MasterKey(key))
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn digits(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key in this file, if it is there.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file(path)(source)),
        }
    }

    /// Writes it, for its owner alone, beside what is there and puts it in its place: whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        self.write(path).map_err(file(path))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_added_extension("new");
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        writeln!(file, "{}", self.digits())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    }

    fn name(&self) -> [u8; NAME_LENGTH] {
        let digest = Sha256::new().chain_update(b"hearth master key").chain_update(self.0).finalize();
        std::array::from_fn(|at| digest[at])
    }

    fn wrap(&self, account: &str, key: &[u8; KEY_LENGTH]) -> Bytes {
        let sealed = Cipher::new(&self.0).seal(account.as_bytes(), key);
        [self.name().as_slice(), &sealed].concat().into()
    }

    fn unwrap(&self, account: &str, wrapped: &[u8]) -> Result<[u8; KEY_LENGTH], KeyError> {
        let damaged = || KeyError::Damaged(account.to_owned());
        let (name, sealed) = wrapped.split_at_checked(NAME_LENGTH).ok_or_else(damaged)?;
        if name != self.name() {
            return Err(KeyError::Another { wanted: short(name), given: short(&self.name()) });
        }
        let opened = Cipher::new(&self.0).open(account.as_bytes(), sealed).ok_or_else(damaged)?;
        opened.as_ref().try_into().map_err(|_| damaged())
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.display().to_string();
    move |source| KeyError::File { path, source }
}

/// Of a key's name, enough to tell two apart.
fn short(name: &[u8]) -> String {
    name.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// AES-256-GCM under one key, with a nonce drawn for each message: nonce, ciphertext, tag.
pub(crate) struct Cipher(Aes256Gcm);

impl Cipher {
    fn new(key: &[u8; KEY_LENGTH]) -> Self {
        Cipher(Aes256Gcm::new(key.into()))
    }

    /// `place` says where it belongs: sealed there, it opens nowhere else.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = random::<NONCE_LENGTH>();
        let mut sealed = Vec::with_capacity(NONCE_LENGTH + plain.len() + TAG_LENGTH);
        sealed.extend(nonce);
        sealed.extend(plain);
        let tag = self.0.encrypt_in_place_detached(Nonce::from_slice(&nonce), place, &mut sealed[NONCE_LENGTH..]);
        // It fails only beyond 64 GiB, which no record or chunk comes near.
        sealed.extend(tag.unwrap_or_default());
        sealed
    }

    /// `None` when it was not sealed with this key at this place, or is damaged.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Bytes> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LENGTH)?;
        let opened = self.0.decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: place });
        opened.ok().map(Bytes::from)
    }
}

/// The accounts' keys, unwrapped.
pub struct Keyring {
    records: Arc<dyn Records>,
    master: MasterKey,
    accounts: Mutex<HashMap<String, Arc<Cipher>>>,
}

impl Keyring {
    /// With the master key in a file, which is made where nothing is encrypted yet. A turning-over of keys that was cut
    /// off is brought to its end. `records` are the bare ones.
    pub async fn open_file(records: Arc<dyn Records>, path: &Path) -> Result<Self, KeyError> {
        let next = next_to(path);
        let master = match MasterKey::read(path)? {
            Some(master) => master,
            None if !every(&*records, KIND).await?.is_empty() => {
                return Err(KeyError::Missing(path.display().to_string()));
            }
            None => {
                let master = MasterKey::generate();
                master.save(path)?;
                master
            }
        };
        match (Self::open(records.clone(), master).await, MasterKey::read(&next)?) {
            (Err(KeyError::Another { .. }), Some(turned)) => {
                let ring = Self::open(records, turned.clone()).await?;
                turned.save(path)?;
                fs::remove_file(&next).map_err(file(&next))?;
                Ok(ring)
            }
            (opened, _) => opened,
        }
    }

    /// Unwraps every key there is: a wrong master key shows at once. `records` are the bare ones.
    pub async fn open(records: Arc<dyn Records>, master: MasterKey) -> Result<Self, KeyError> {
        let mut accounts = HashMap::new();
        for wrapped in every(&*records, KIND).await? {
            let key = master.unwrap(&wrapped.key_partition, &wrapped.value)?;
            accounts.insert(wrapped.key_partition, Arc::new(Cipher::new(&key)));
        }
        Ok(Keyring { records, master, accounts: Mutex::new(accounts) })
    }

    /// The key of an account; drawn at its first use, and on disk before anything is sealed with it.
    pub(crate) async fn of(&self, account: &str) -> Result<Arc<Cipher>, RecordsError> {
        if let Some(known) = self.known(account) {
            return Ok(known);
        }
        let key = random();
        let place = Key { partition: account.to_owned(), kind: KIND, id: CURRENT.to_owned() };
        let value = self.master.wrap(account, &key);
        let put = Write::Put { key: place.clone(), expect: Expect::Absent, value };
        let cipher = match self.records.commit(vec![put]).await {
            Ok(_) => Cipher::new(&key),
            // Another was faster.
            Err(RecordsError::Conflict(_)) => {
                let found = self.records.get(place).await?.map(|found| self.master.unwrap(account, &found.value));
                let engine = |e: KeyError| RecordsError::Engine(e.to_string().into());
                Cipher::new(&found.unwrap_or_else(|| Err(KeyError::Damaged(account.to_owned()))).map_err(engine)?)
            }
            Err(e) => return Err(e),
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.entry(account.to_owned()).or_insert_with(|| Arc::new(cipher)).clone())
    }

    fn known(&self, account: &str) -> Option<Arc<Cipher>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }
}

/// Puts another master key into the file: every account's key is wrapped with it, all or none. Cut off at any moment, it
/// leaves what [`Keyring::open_file`] opens. Answers how many keys there are.
pub async fn turn_over_file(records: Arc<dyn Records>, path: &Path) -> Result<usize, KeyError> {
    let old = Keyring::open_file(records.clone(), path).await?.master;
    let (new, next) = (MasterKey::generate(), next_to(path));
    new.save(&next)?;
    let count = turn_over(&*records, &old, &new).await?;
    new.save(path)?;
    fs::remove_file(&next).map_err(file(&next))?;
    Ok(count)
}

/// Wraps every account's key with another master key, all or none. Answers how many.
pub async fn turn_over(records: &dyn Records, old: &MasterKey, new: &MasterKey) -> Result<usize, KeyError> {
    let mut writes = Vec::new();
    for Record { key_partition, id, change, value } in every(records, KIND).await? {
        let value = new.wrap(&key_partition, &old.unwrap(&key_partition, &value)?);
        let key = Key { partition: key_partition, kind: KIND, id };
        writes.push(Write::Put { key, expect: Expect::Change(change), value });
    }
    let count = writes.len();
    records.commit(writes).await?;
    Ok(count)
}

/// Where a key waits until what it wraps is on disk.
fn next_to(path: &Path) -> PathBuf {
    path.with_added_extension("next")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryRecords;

    fn records() -> Arc<dyn Records> {
        Arc::new(MemoryRecords::default())
    }

    #[tokio::test]
    async fn a_key_file_is_made_for_its_owner_alone_and_never_in_place_of_a_lost_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, records) = (dir.path().join("key"), records());
        Keyring::open_file(records.clone(), &path).await.unwrap().of("1").await.unwrap();
        Keyring::open_file(records.clone(), &path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        assert!(matches!(Keyring::open_file(records, &path).await, Err(KeyError::Missing(_))));
        assert!(!path.exists());
        assert!(matches!(MasterKey::parse("short"), Err(KeyError::Malformed)));
        assert!(matches!(MasterKey::parse(&"xy".repeat(32)), Err(KeyError::Malformed)));
    }

    #[tokio::test]
    async fn keys_are_turned_over_whole_wherever_it_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (path, records) = (dir.path().join("key"), records());
        let sealed =
            Keyring::open_file(records.clone(), &path).await.unwrap().of("1").await.unwrap().seal(b"", b"kept");
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(turn_over_file(records.clone(), &path).await.unwrap(), 1);
        let after = fs::read_to_string(&path).unwrap();
        assert_ne!(before, after);
        // Before the records were written: an unused key beside. After: the one that counts is beside.
        for (current, beside) in [(&after, &before), (&before, &after)] {
            fs::write(&path, current).unwrap();
            fs::write(next_to(&path), beside).unwrap();
            let ring = Keyring::open_file(records.clone(), &path).await.unwrap();
            assert_eq!(ring.of("1").await.unwrap().open(b"", &sealed).unwrap(), "kept");
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_only_and_a_bit_more_or_less_is_noticed() {
        let cipher = Cipher::new(&random());
        let sealed = cipher.seal(b"here", b"secret");
        assert_eq!(cipher.open(b"here", &sealed).unwrap(), "secret");
        assert!(cipher.open(b"there", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(cipher.open(b"here", &damaged).is_none());
        }
        assert!(cipher.open(b"here", &sealed[..NONCE_LENGTH - 1]).is_none());
        assert_ne!(cipher.seal(b"here", b"secret"), sealed, "a nonce is drawn for each");
    }

    #[tokio::test]
    async fn another_master_key_is_refused_until_the_keys_are_wrapped_with_it() {
        let records = records();
        let (old, new) = (MasterKey::generate(), MasterKey::generate());
        let ring = Keyring::open(records.clone(), old.clone()).await.unwrap();
        let sealed = ring.of("000000000000").await.unwrap().seal(b"", b"kept");
        assert!(matches!(Keyring::open(records.clone(), new.clone()).await, Err(KeyError::Another { .. })));
        assert_eq!(turn_over(&*records, &old, &new).await.unwrap(), 1);
        assert!(matches!(Keyring::open(records.clone(), old.clone()).await, Err(KeyError::Another { .. })));
        let ring = Keyring::open(records.clone(), new).await.unwrap();
        assert_eq!(ring.of("000000000000").await.unwrap().open(b"", &sealed).unwrap(), "kept");
    }

    #[tokio::test]
    async fn two_servers_that_draw_an_accounts_key_at_once_agree() {
        let records = records();
        let master = MasterKey::generate();
        let one = Keyring::open(records.clone(), master.clone()).await.unwrap();
        let other = Keyring::open(records.clone(), master).await.unwrap();
        let sealed = one.of("1").await.unwrap().seal(b"", b"x");
        assert_eq!(other.of("1").await.unwrap().open(b"", &sealed).unwrap(), "x");
    }
}
