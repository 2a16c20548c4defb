//! Blobs that a crash left without a record are found at the start, beside the work.
//!
//! Only blobs that were there before the first request are looked at, and one that a write moved meanwhile counts as
//! needed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_store::{BlobId, Records};
use s3s::S3Result;

use crate::error::of_records;
use crate::record::{Body, OBJECT, ObjectRecord, PART, PARTS, PartRecord, PartsRecord, VERSION};
use crate::state::{State, parse};

/// Records that are read at once.
const PAGE: usize = 1000;

/// Blobs that writes have moved from record to record while a sweep goes on.
#[derive(Default)]
pub struct Kept(Mutex<Option<HashSet<BlobId>>>);

impl Kept {
    fn moved(&self) -> MutexGuard<'_, Option<HashSet<BlobId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_sweeping(&self) -> bool {
        self.moved().is_some()
    }

    /// Before the move is written.
    pub fn note(&self, blobs: &[BlobId]) {
        if let Some(moved) = &mut *self.moved() {
            moved.extend(blobs);
        }
    }

    fn begin(&self) {
        *self.moved() = Some(HashSet::new());
    }

    fn end(&self) -> HashSet<BlobId> {
        self.moved().take().unwrap_or_default()
    }
}

/// What [`run`] looks at. Made before the first request.
pub struct Sweep(HashSet<BlobId>);

pub async fn begin(state: &State) -> Result<Sweep, hearth_store::BlobsError> {
    state.kept.begin();
    Ok(Sweep(state.blobs.list().await?.into_iter().collect()))
}

/// Deletes what no record refers to.
pub async fn run(state: &State, Sweep(mut unknown): Sweep) {
    let looked = look(&state.records, &mut unknown).await;
    for blob in state.kept.end() {
        unknown.remove(&blob);
    }
    if looked.is_err() || unknown.is_empty() {
        return;
    }
    tracing::info!(blobs = unknown.len(), "contents of objects that were never completed are deleted");
    state.discard(unknown.into_iter().collect()).await;
}

async fn look(records: &Arc<dyn Records>, unknown: &mut HashSet<BlobId>) -> S3Result<()> {
    for kind in [OBJECT, VERSION, PART, PARTS] {
        let mut after = None;
        loop {
            let page = records.all(kind, after, PAGE).await.map_err(of_records)?;
            for record in &page {
                match kind {
                    PART => drop(unknown.remove(&parse::<PartRecord>(record)?.value.blob)),
                    PARTS => {
                        for part in parse::<PartsRecord>(record)?.value.parts {
                            unknown.remove(&part.blob);
                        }
                    }
                    _ => {
                        if let Some(content) = parse::<ObjectRecord>(record)?.value.content
                            && let Body::Blob(blob) = content.body
                        {
                            unknown.remove(&blob);
                        }
                    }
                }
            }
            match page.last() {
                Some(last) => after = Some((last.key_partition.clone(), last.id.clone())),
                None => break,
            }
        }
    }
    Ok(())
}
