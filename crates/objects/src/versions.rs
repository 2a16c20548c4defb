//! What a write makes of the versions of a key (never, enabled or suspended versioning), and the blobs that go with it.

use hearth_store::{BlobId, Expect, Key, Write};
use s3s::S3Result;

use crate::record::{Body, Content, OBJECT, ObjectRecord, Owner, PARTS, VERSION, Versioning, below, object_id};
use crate::state::{Found, State, delete, expect_of, put};

/// A change of one key that is ready to be written. The caller holds the key's turn.
pub struct Change {
    pub writes: Vec<Write>,
    /// Contents that nobody needs once it is written.
    pub freed: Vec<Content>,
}

impl State {
    /// Makes a version, or a delete marker, the current one.
    pub async fn replacing(
        &self,
        owner: &Owner,
        (bucket, key): (&str, &str),
        versioning: Versioning,
        current: Option<&Found<ObjectRecord>>,
        mut new: ObjectRecord,
    ) -> S3Result<(Change, ObjectRecord)> {
        let id = object_id(bucket, key);
        new.null = versioning != Versioning::Enabled;
        let mut change = Change { writes: Vec::new(), freed: Vec::new() };
        change.writes.push(put(owner.key(OBJECT, id.clone()), expect_of(current), &new)?);
        let Some(current) = current else { return Ok((change, new)) };
        if new.null && current.value.null {
            change.freed.extend(current.value.content.clone().map(|content| *content));
            return Ok((change, new));
        }
        let earlier = owner.key(VERSION, below(&id, &current.value.order));
        change.writes.push(put(earlier, Expect::Absent, &current.value)?);
        self.note(owner, &current.value).await?;
        if new.null
            && let Some((place, null)) = self.version(owner, bucket, key, crate::record::NULL).await?
        {
            change.writes.push(delete(place, null.expect()));
            change.freed.extend(null.value.content.map(|content| *content));
        }
        Ok((change, new))
    }

    /// Removes one version for good. The newest of the earlier ones follows the current one.
    pub async fn removing(
        &self,
        owner: &Owner,
        (bucket, key): (&str, &str),
        (place, version): (Key, Found<ObjectRecord>),
    ) -> S3Result<Change> {
        let id = object_id(bucket, key);
        let mut change = Change {
            writes: Vec::new(),
            freed: version.value.content.clone().into_iter().map(|content| *content).collect(),
        };
        let next = match place.kind {
            OBJECT => self.newest_earlier(owner, &id).await?,
            _ => None,
        };
        match next {
            None => change.writes.push(delete(place, version.expect())),
            Some(next) => {
                self.note(owner, &next.value).await?;
                change.writes.push(put(place, version.expect(), &next.value)?);
                change.writes.push(delete(owner.key(VERSION, below(&id, &next.value.order)), next.expect()));
            }
        }
        Ok(change)
    }

    /// Writes it, then deletes the blobs of what it freed.
    pub async fn apply(&self, owner: &Owner, mut change: Change) -> S3Result<()> {
        let mut blobs = Vec::new();
        for content in &change.freed {
            blobs.extend(self.blobs_of(owner, &content.body).await?);
            if let Body::Parts { upload, .. } = &content.body {
                change.writes.push(delete(owner.key(PARTS, upload.clone()), Expect::Anything));
            }
        }
        self.commit(change.writes).await?;
        self.discard(blobs).await;
        Ok(())
    }

    pub async fn blobs_of(&self, owner: &Owner, body: &Body) -> S3Result<Vec<BlobId>> {
        Ok(match body {
            Body::Blob(blob) => vec![*blob],
            parts => {
                let parts = self.parts_left(owner, parts).await?;
                parts.into_iter().flat_map(|record| record.parts).map(|part| part.blob).collect()
            }
        })
    }

    /// Deletes blobs that nothing refers to.
    pub async fn discard(&self, blobs: Vec<BlobId>) {
        self.leases.discard(blobs).await;
    }

    /// A version moves from one kind to another, where a sweep may have looked already.
    async fn note(&self, owner: &Owner, version: &ObjectRecord) -> S3Result<()> {
        if self.kept.is_sweeping()
            && let Some(content) = &version.content
        {
            let blobs = self.blobs_of(owner, &content.body).await?;
            self.kept.note(&blobs);
        }
        Ok(())
    }
}
