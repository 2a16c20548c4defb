//! Which key encrypts a data folder, for the server and for `hearth keys`.

use std::path::PathBuf;
use std::sync::Arc;

use hearth_store::{DataDir, KeyError, Keyring, MasterKey, Records, turn_over, turn_over_file};

use crate::cli::Failure;
use crate::settings::{ENCRYPTION_KEY, Settings};

/// Where the master key is.
pub enum Source {
    Variable(MasterKey),
    File(PathBuf),
}

impl Source {
    /// The variable, the setting, the file in the data folder.
    pub fn of(settings: &Settings, folder: &DataDir) -> Result<Self, Failure> {
        match std::env::var(ENCRYPTION_KEY) {
            Ok(text) if !text.is_empty() => Ok(Source::Variable(
                MasterKey::parse(&text).map_err(|e| Failure::Usage(format!("{ENCRYPTION_KEY}: {e}")))?,
            )),
            _ => Ok(Source::File(settings.encryption_key_file.clone().unwrap_or_else(|| folder.path().join("key")))),
        }
    }

    pub async fn open(&self, records: Arc<dyn Records>) -> Result<Keyring, Failure> {
        match self {
            Source::Variable(master) => Keyring::open(records, master.clone()).await,
            Source::File(path) => Keyring::open_file(records, path).await,
        }
        .map_err(failed)
    }

    /// Puts another master key in place of this one: `new`, or one that is drawn and takes its file. Answers how many
    /// accounts' keys it wraps now.
    pub async fn turn_over(&self, records: Arc<dyn Records>, new: Option<MasterKey>) -> Result<usize, Failure> {
        let old = match (self, &new) {
            (Source::File(path), None) => return turn_over_file(records, path).await.map_err(failed),
            (Source::Variable(_), None) => {
                return Err(Failure::Usage(format!(
                    "the key is in {ENCRYPTION_KEY}: give the new one by --new-key-file"
                )));
            }
            (Source::Variable(master), Some(_)) => master.clone(),
            (Source::File(path), Some(_)) => {
                let read = MasterKey::read(path).map_err(failed)?;
                read.ok_or_else(|| failed(KeyError::Missing(path.display().to_string())))?
            }
        };
        turn_over(&*records, &old, &new.unwrap_or_else(MasterKey::generate)).await.map_err(failed)
    }
}

fn failed(error: KeyError) -> Failure {
    Failure::No(error.to_string())
}
