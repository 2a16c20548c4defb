//! A process that writes is killed again and again: what it was told is there, and nothing is half there.
//!
//! The test starts itself as the writer. For each operation the writer commits one batch of two records and one blob,
//! and only then prints a line. The reader of those lines kills it after a random number of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use hearth_model::CodeHash;
use hearth_store::{Blobs, DataDir, Expect, Files, Key, Records, Sqlite, Write};
use sha2::{Digest, Sha256};

const FOLDER: &str = "HEARTH_TEST_FOLDER";
const ROUNDS: u64 = 40;
/// Names the writer works on, so that records are also replaced and deleted.
const NAMES: u64 = 7;

fn key(kind: &'static str, name: u64) -> Key {
    Key { partition: "000000000000/us-east-1".to_owned(), kind, id: name.to_string() }
}

fn blob_of(step: u64) -> Bytes {
    Bytes::from(vec![step as u8; 20_000 + step as usize])
}

/// Three steps of one name: create, update, delete.
fn writes(step: u64) -> Vec<Write> {
    let name = step % NAMES;
    let value = Bytes::from(step.to_string());
    if (step / NAMES) % 3 == 2 {
        return ["function", "shadow"]
            .map(|kind| Write::Delete { key: key(kind, name), expect: Expect::Anything })
            .into();
    }
    ["function", "shadow"]
        .map(|kind| Write::Put { key: key(kind, name), expect: Expect::Anything, value: value.clone() })
        .into()
}

#[test]
#[ignore = "the process that the test below starts and kills"]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = DataDir::open(Path::new(&folder)).unwrap();
    let (records, blobs) = (Sqlite::open(&dir.records()).unwrap(), Files::open(&dir.blobs()).unwrap());
    let first: u64 = std::env::var("HEARTH_TEST_STEP").unwrap().parse().unwrap();
    runtime.block_on(async {
        for step in first.. {
            blobs.put(blob_of(step)).await.unwrap();
            records.commit(writes(step)).await.unwrap();
            let mut out = std::io::stderr().lock();
            writeln!(out, "acknowledged {step}").unwrap();
        }
    });
}

/// Runs the writer from `first`, kills it after `lines` acknowledgements, and answers the last step it acknowledged.
fn run_and_kill(folder: &Path, first: u64, lines: u64) -> Option<u64> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env("HEARTH_TEST_STEP", first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = None;
    let mut lines_seen = 0;
    let mut said = String::new();
    for line in BufReader::new(writer.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("acknowledged ") {
            Some(step) => acknowledged = Some(step.parse().unwrap()),
            None => said.push_str(&line),
        }
        lines_seen += 1;
        if lines_seen == lines {
            // Lines that it prints until it dies are read too.
            writer.kill().unwrap();
        }
    }
    let status = writer.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{said}");
    acknowledged
}

/// What must be visible after the steps `0..=last`.
fn expected(last: u64) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for step in 0..=last {
        let name = (step % NAMES).to_string();
        if (step / NAMES) % 3 == 2 {
            found.remove(&name);
        } else {
            found.insert(name, step.to_string());
        }
    }
    found
}

async fn visible(records: &Sqlite, kind: &'static str) -> BTreeMap<String, String> {
    let all = records.all(kind, None, usize::MAX).await.unwrap();
    all.into_iter().map(|record| (record.id, String::from_utf8(record.value.to_vec()).unwrap())).collect()
}

#[test]
fn a_kill_loses_no_acknowledged_commit_and_leaves_nothing_half() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let mut change = 0;
    for round in 0..ROUNDS {
        // Spread over 1 to 12 lines, so that kills fall in every part of an operation.
        let last = run_and_kill(dir.path(), next, 1 + (round * 7) % 12).unwrap_or(next);
        let data = DataDir::open(dir.path()).unwrap();
        let (records, blobs) = (Sqlite::open(&data.records()).unwrap(), Files::open(&data.blobs()).unwrap());
        runtime.block_on(async {
            let functions = visible(&records, "function").await;
            assert_eq!(functions, visible(&records, "shadow").await, "a batch is whole or absent");
            // The step after the last acknowledged one may have been committed.
            let later = functions != expected(last);
            assert!(!later || functions == expected(last + 1), "round {round}: {functions:?} after step {last}");
            next = if later { last + 2 } else { last + 1 };
            let now = records.commit(Vec::new()).await.unwrap();
            assert!(now > change, "change numbers only grow");
            change = now;
            for id in blobs.list().await.unwrap() {
                let mut bytes = Vec::new();
                blobs.open(id).await.unwrap().read_to_end(&mut bytes).unwrap();
                assert_eq!(CodeHash(Sha256::digest(&bytes).into()), id.into(), "a blob is whole");
            }
            for step in [last.saturating_sub(1), last] {
                let hash = CodeHash(Sha256::digest(blob_of(step)).into());
                blobs.open(hash.into()).await.expect("an acknowledged blob is there");
            }
        });
    }
}
