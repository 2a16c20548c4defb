//! What every engine of blobs must do (invariant 7); also for those that live in other crates, by the feature `suite`.

use std::io::Read;

use bytes::Bytes;
use hearth_model::CodeHash;
use sha2::{Digest, Sha256};

use super::*;

async fn read_whole(blobs: &dyn Blobs, id: BlobId) -> Vec<u8> {
    let mut read = Vec::new();
    blobs.open(id).await.unwrap().read_to_end(&mut read).unwrap();
    read
}

async fn the_same_bytes_are_one_blob_where_they_name_it(blobs: &dyn Blobs) {
    let hash = blobs.put(Bytes::from_static(b"package")).await.unwrap();
    assert_eq!(hash, CodeHash(Sha256::digest(b"package").into()));
    assert_eq!(blobs.put(Bytes::from_static(b"package")).await.unwrap(), hash);
    let mut draft = blobs.create().await.unwrap();
    draft.write(Bytes::from_static(b"pack")).await.unwrap();
    draft.write(Bytes::from_static(b"age")).await.unwrap();
    assert_eq!(draft.finish(Naming::As(hash.into())).await.unwrap(), hash.into());
    assert_eq!(read_whole(blobs, hash.into()).await, b"package");
    assert_eq!(blobs.list().await.unwrap(), [hash.into()]);
    blobs.delete(hash.into()).await.unwrap();
    blobs.delete(hash.into()).await.unwrap();
    assert!(matches!(blobs.open(hash.into()).await, Err(BlobsError::Missing(missing)) if missing == hash.into()));
}

async fn a_drawn_name_is_nobody_elses(blobs: &dyn Blobs) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut draft = blobs.create().await.unwrap();
        draft.write(Bytes::from_static(b"object")).await.unwrap();
        ids.push(draft.finish(Naming::Drawn).await.unwrap());
    }
    ids.push(blobs.copy(ids[0]).await.unwrap());
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    // Open files outlive their blobs, and copies their originals.
    let mut open = blobs.open(ids[0]).await.unwrap();
    blobs.delete(ids[0]).await.unwrap();
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!(read, "object");
    assert!(matches!(blobs.copy(ids[0]).await, Err(BlobsError::Missing(missing)) if missing == ids[0]));
    for id in &ids[1..] {
        assert_eq!(read_whole(blobs, *id).await, b"object");
        blobs.delete(*id).await.unwrap();
    }
    assert!(blobs.list().await.unwrap().is_empty());
}

async fn a_draft_is_read_before_it_counts_and_leaves_nothing_when_it_is_dropped(blobs: &dyn Blobs) {
    let mut draft = blobs.create().await.unwrap();
    draft.write(Bytes::from_static(b"half")).await.unwrap();
    let mut read = String::new();
    draft.open().await.unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "half");
    assert!(blobs.list().await.unwrap().is_empty());
    drop(draft);
    assert!(blobs.list().await.unwrap().is_empty());
    let empty = blobs.create().await.unwrap().finish(Naming::Drawn).await.unwrap();
    assert!(read_whole(blobs, empty).await.is_empty());
    blobs.delete(empty).await.unwrap();
}

/// Every engine passes it, on a store that is empty before and after.
pub async fn run(blobs: &dyn Blobs) {
    the_same_bytes_are_one_blob_where_they_name_it(blobs).await;
    a_drawn_name_is_nobody_elses(blobs).await;
    a_draft_is_read_before_it_counts_and_leaves_nothing_when_it_is_dropped(blobs).await;
}
