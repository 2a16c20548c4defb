//! Checkpoints on disk: a record for each mapping and shard. One is written only over the one that was read: who has lost
//! a shard to somebody else notices it.

use std::collections::BTreeMap;

use hearth_store::queue::Ms;
use hearth_store::{Expect, Key, Records, RecordsError, Write};
use serde::{Deserialize, Serialize};

use crate::mappings::Live;
use crate::shard::Checkpoint;

const KIND: &str = "event-source-mapping-shard";
/// Records read, or written, at once.
const PAGE: usize = 500;

#[derive(Clone)]
pub struct Kept {
    pub checkpoint: Checkpoint,
    /// The stream's creation.
    pub created: Option<Ms>,
    /// That wrote it.
    pub change: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored<C> {
    #[serde(flatten)]
    checkpoint: C,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Ms>,
}

fn key(live: &Live, shard: &str) -> Key {
    Key { partition: live.partition.clone(), kind: KIND, id: format!("{}/{shard}", live.uuid) }
}

/// By the ids of shards.
pub async fn of(records: &dyn Records, live: &Live) -> Result<BTreeMap<String, Kept>, RecordsError> {
    let (first, mut all) = (format!("{}/", live.uuid), BTreeMap::new());
    let mut after = first.clone();
    loop {
        let page = records.list(live.partition.clone(), KIND, Some(after), PAGE).await?;
        for record in &page {
            let Some(shard) = record.id.strip_prefix(&first) else { return Ok(all) };
            let stored = serde_json::from_slice(&record.value);
            let Stored { checkpoint, created } =
                stored.map_err(|error| RecordsError::Engine(error.to_string().into()))?;
            all.insert(shard.to_owned(), Kept { checkpoint, created, change: record.change });
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.id.clone(),
            _ => return Ok(all),
        }
    }
}

/// Of the stream that was created then. Answers the number of the change.
pub async fn put(
    records: &dyn Records,
    live: &Live,
    created: Option<Ms>,
    checkpoints: Vec<(&str, &Checkpoint, Expect)>,
) -> Result<u64, RecordsError> {
    let write = |(shard, checkpoint, expect): (&str, &Checkpoint, Expect)| {
        let value = serde_json::to_vec(&Stored { checkpoint, created });
        let value = value.map_err(|error| RecordsError::Engine(error.to_string().into()))?;
        Ok(Write::Put { key: key(live, shard), expect, value: value.into() })
    };
    let writes: Result<Vec<Write>, RecordsError> = checkpoints.into_iter().map(write).collect();
    records.commit(writes?).await
}

pub async fn forget(records: &dyn Records, live: &Live, shards: &[String]) -> Result<(), RecordsError> {
    for some in shards.chunks(PAGE) {
        let delete = |shard: &String| Write::Delete { key: key(live, shard), expect: Expect::Anything };
        records.commit(some.iter().map(delete).collect()).await?;
    }
    Ok(())
}
