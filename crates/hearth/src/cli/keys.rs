//! `hearth keys`: the key that encrypts a data folder, or a database that servers share. Works on it itself, while no
//! server uses it.

use std::path::PathBuf;
use std::sync::Arc;

use hearth_sandbox::privilege::{Owner, become_unprivileged};
use hearth_store::{Company, DataDir, MasterKey, Postgres, Records, RecordsError, Sqlite};
use serde_json::json;

use super::{Failure, Global, output};
use crate::keys::Source;
use crate::settings::Settings;

#[derive(clap::Subcommand)]
pub enum KeysCommand {
    /// Print a new key, for HEARTH_ENCRYPTION_KEY or a file
    Generate,
    /// Encrypt a data folder with another key
    ///
    /// Wraps the key of each account with a new master key. Stop the server first; every server, where they share a
    /// database (store.url). Without --new-key-file a new key is made and takes the place of the old one in its file.
    Rotate(RotateOptions),
}

#[derive(clap::Args)]
pub struct RotateOptions {
    /// The data folder, as of `hearth serve` [HEARTH_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// The file with the key it has, as of `hearth serve` [HEARTH_ENCRYPTION_KEY_FILE]
    #[arg(long, value_name = "PATH")]
    encryption_key_file: Option<String>,
    /// A file with the new key; the server must be started with it from then on
    #[arg(long, value_name = "PATH")]
    new_key_file: Option<PathBuf>,
}

pub fn run(global: &Global, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Generate => output::line(&MasterKey::generate().digits()),
        KeysCommand::Rotate(options) => rotate(global, &options),
    }
}

fn rotate(global: &Global, options: &RotateOptions) -> Result<(), Failure> {
    let settings = settings(options)?;
    let new = match &options.new_key_file {
        None => None,
        Some(path) => match MasterKey::read(path).map_err(|e| Failure::No(e.to_string()))? {
            None => return Err(Failure::No(format!("there is no file {}", path.display()))),
            found => found,
        },
    };
    become_its_owner(&settings)?;
    let folder = DataDir::open(&settings.data_dir).map_err(|e| Failure::No(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let records = runtime.block_on(records(&settings, &folder))?;
    let given = new.is_some();
    let count = runtime.block_on(Source::of(&settings, &folder)?.turn_over(records, new))?;
    if global.json {
        return output::document(&json!({ "keys": count }));
    }
    output::line(&format!("wrapped with the new key: {count} keys"))?;
    if given {
        output::line("start the server with it: encryption.key_file or HEARTH_ENCRYPTION_KEY")?;
    }
    Ok(())
}

async fn records(settings: &Settings, folder: &DataDir) -> Result<Arc<dyn Records>, Failure> {
    let opened: Result<Arc<dyn Records>, RecordsError> = match &settings.store_url {
        Some(url) => Postgres::open(url, Company::Nobody).await.map(|opened| Arc::new(opened) as _),
        None => Sqlite::open(&folder.records()).map(|opened| Arc::new(opened) as _),
    };
    opened.map_err(|e| Failure::No(format!("cannot open the records: {e}")))
}

fn settings(options: &RotateOptions) -> Result<Settings, Failure> {
    let given = [("data_dir", &options.data_dir), ("encryption.key_file", &options.encryption_key_file)];
    let flags = given.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))).collect();
    super::settings(flags)
}

/// As the server does: what is written stays the owner's.
fn become_its_owner(settings: &Settings) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let path = settings.data_dir.display();
    let facts =
        std::fs::metadata(&settings.data_dir).map_err(|e| Failure::No(format!("the data folder {path}: {e}")))?;
    if rustix::process::geteuid().is_root() && facts.uid() != 0 {
        let owner = Owner { uid: facts.uid(), gid: facts.gid() };
        become_unprivileged(Some(owner)).map_err(|e| Failure::No(format!("cannot become the folder's owner: {e}")))?;
    }
    Ok(())
}
