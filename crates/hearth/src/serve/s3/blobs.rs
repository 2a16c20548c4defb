//! An engine of blobs in a bucket of another S3, for servers that share them. A blob is an object `PREFIX/HEX`, written by
//! one request once it is whole: S3 has it whole or not at all.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{BoxFuture, Clock};
use hearth_store::{BlobId, Blobs, BlobsError, Draft, Naming, bulk};
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::{Answer, Ask, Client, Content, Error, elements};
use crate::settings::S3Bucket;

/// Of signatures. S3s that are not AWS's have this one, or take any.
const REGION: &str = "us-east-1";
/// Attempts at a request that failed for no fault of its own, and the pause after the first, which doubles.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// A cheap handle.
#[derive(Clone)]
pub struct BucketBlobs {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    bucket: String,
    /// With a slash at its end, where it is not empty.
    prefix: String,
    /// For blobs on their way, in files without a name.
    scratch: PathBuf,
}

impl BucketBlobs {
    /// Looks whether the bucket is there.
    pub async fn open(at: &S3Bucket, clock: Arc<dyn Clock>, scratch: &Path) -> Result<Self, BlobsError> {
        let client = Client { endpoint: at.endpoint.clone(), clock };
        let prefix = if at.prefix.is_empty() { String::new() } else { format!("{}/", at.prefix) };
        let inner = Inner { client, bucket: at.bucket.clone(), prefix, scratch: scratch.to_owned() };
        let opened = BucketBlobs { inner: Arc::new(inner) };
        opened.inner.page("", 1).await?;
        Ok(opened)
    }
}

impl Inner {
    fn ask<'a>(&'a self, method: Method, key: &'a str) -> Ask<'a> {
        Ask { method, region: REGION, bucket: &self.bucket, key, query: &[], source: None, content: None }
    }

    fn key(&self, id: BlobId) -> String {
        format!("{}{}", self.prefix, id.to_hex())
    }

    /// Again where that may help: each request does the same when it comes twice.
    async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.client.send(ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_pass = match &error {
                Error::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
                Error::Unusable(_) => true,
            };
            if attempt == ATTEMPTS || !may_pass {
                return Err(error);
            }
            tracing::warn!(bucket = %self.bucket, %error, attempt, "a request to the bucket of packages failed");
            tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
            attempt += 1;
        }
    }

    /// Blobs after this key, in order, and whether there are more.
    async fn page(&self, after: &str, limit: usize) -> Result<(Vec<BlobId>, bool), BlobsError> {
        let limit = limit.to_string();
        let mut query = vec![("list-type", "2"), ("max-keys", limit.as_str()), ("prefix", self.prefix.as_str())];
        query.extend(Some(("start-after", after)).filter(|(_, after)| !after.is_empty()));
        let ask = Ask { query: &query, ..self.ask(Method::GET, "") };
        let text = self.send(&ask).await.map_err(failed)?.text().await.map_err(failed)?;
        let ids = elements(&text, "Key").filter_map(|key| BlobId::from_hex(key.strip_prefix(&self.prefix)?));
        Ok((ids.collect(), elements(&text, "IsTruncated").any(|more| more == "true")))
    }

    async fn put(&self, id: BlobId, content: Content) -> Result<(), BlobsError> {
        let key = self.key(id);
        let ask = Ask { content: Some(&content), ..self.ask(Method::PUT, &key) };
        self.send(&ask).await.map(drop).map_err(failed)
    }

    /// The whole blob, in a file without a name.
    async fn get(&self, id: BlobId) -> Result<File, BlobsError> {
        let key = self.key(id);
        let mut answer = self.send(&self.ask(Method::GET, &key)).await.map_err(of(id))?;
        let size = answer.size();
        let folder = self.scratch.clone();
        let mut file = blocking(move || tempfile::tempfile_in(folder)).await?;
        let mut read = 0;
        while let Some(piece) = answer.piece().await.transpose()? {
            read += piece.len() as u64;
            file = blocking(move || file.write_all(&piece).map(|()| file)).await?;
        }
        if size.is_some_and(|size| size != read) {
            return Err(BlobsError::Io(format!("the blob {id:?} came only in part").into()));
        }
        blocking(move || file.rewind().map(|()| file)).await
    }

    async fn copy(&self, id: BlobId) -> Result<BlobId, BlobsError> {
        let copy = drawn();
        let (key, source) = (self.key(copy), format!("{}/{}", self.bucket, self.key(id)));
        let ask = Ask { source: Some(&source), ..self.ask(Method::PUT, &key) };
        let said = self.send(&ask).await.map_err(of(id))?.text().await.map_err(failed)?;
        // What fails while it is copied is said behind a good status.
        match elements(&said, "Code").next() {
            None => Ok(copy),
            Some(code) => Err(BlobsError::Io(format!("a blob could not be copied: {code}").into())),
        }
    }
}

impl Blobs for BucketBlobs {
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>> {
        Box::pin(async move {
            let (bucket, folder) = (self.inner.clone(), self.inner.scratch.clone());
            let file = blocking(move || tempfile::tempfile_in(folder)).await?;
            let writing = Writing { file, size: 0, hash: Sha256::new() };
            Ok(Box::new(BucketDraft { bucket, writing: Some(writing) }) as Box<dyn Draft>)
        })
    }

    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(self.inner.get(id))
    }

    fn copy(&self, id: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>> {
        Box::pin(self.inner.copy(id))
    }

    fn delete(&self, id: BlobId) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async move {
            let key = self.inner.key(id);
            match self.inner.send(&self.inner.ask(Method::DELETE, &key)).await.map_err(of(id)) {
                Ok(_) | Err(BlobsError::Missing(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>> {
        Box::pin(async move {
            let mut found: Vec<BlobId> = Vec::new();
            loop {
                let after = found.last().map(|last| self.inner.key(*last)).unwrap_or_default();
                let (ids, more) = self.inner.page(&after, 1000).await?;
                let is_last = !more || ids.is_empty();
                found.extend(ids);
                if is_last {
                    return Ok(found);
                }
            }
        })
    }
}

struct BucketDraft {
    bucket: Arc<Inner>,
    /// Away while a piece is written; lost with a piece that could not be.
    writing: Option<Writing>,
}

struct Writing {
    file: File,
    size: u64,
    hash: Sha256,
}

fn broken() -> BlobsError {
    BlobsError::Io("an earlier piece of this blob could not be written".into())
}

impl Draft for BucketDraft {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async move {
            let mut writing = self.writing.take().ok_or_else(broken)?;
            let written = blocking(move || {
                writing.file.write_all(&piece)?;
                writing.hash.update(&piece);
                writing.size += piece.len() as u64;
                Ok(writing)
            });
            self.writing = Some(written.await?);
            Ok(())
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>> {
        use std::os::fd::AsRawFd;
        // Another position in the same file.
        let place = self.writing.as_ref().map(|w| format!("/proc/self/fd/{}", w.file.as_raw_fd())).ok_or_else(broken);
        Box::pin(async move {
            let place = place?;
            blocking(move || File::open(place)).await
        })
    }

    fn finish(mut self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>> {
        Box::pin(async move {
            let Writing { file, size, hash } = self.writing.take().ok_or_else(broken)?;
            let sha256 = hash.finalize().into();
            let id = match naming {
                Naming::As(id) => id,
                Naming::Drawn => drawn(),
            };
            self.bucket.put(id, Content { file: Arc::new(file), size, sha256 }).await.map(|()| id)
        })
    }
}

fn drawn() -> BlobId {
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    BlobId::from_bytes(Sha256::new().chain_update(one.as_bytes()).chain_update(other.as_bytes()).finalize().into())
}

fn failed(error: Error) -> BlobsError {
    BlobsError::Io(error.to_string().into())
}

/// An error that is about one blob.
fn of(id: BlobId) -> impl Fn(Error) -> BlobsError {
    move |error| match error {
        Error::Refused { code, .. } if code == "NoSuchKey" => BlobsError::Missing(id),
        error => failed(error),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, BlobsError> {
    bulk(work).await.flatten().map_err(BlobsError::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_model::{AccountId, Region, SystemClock};
    use hearth_objects::{Caller, Objects, Ports};
    use hearth_store::{MemoryBlobs, MemoryRecords};
    use hyper_util::rt::TokioIo;

    use crate::settings::Value;

    /// The embedded S3, by a door of its own. Answers where that is.
    async fn start_s3() -> std::net::SocketAddr {
        let (records, contents) = (Arc::new(MemoryRecords::default()), Arc::new(MemoryBlobs::default()));
        let objects = Objects::open(Ports { records, contents, clock: Arc::new(SystemClock) }).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let objects = objects.clone();
                let service = hyper::service::service_fn(move |request| {
                    let objects = objects.clone();
                    async move {
                        let (account, region) = (AccountId::default_account(), Region::default_region());
                        let caller = Caller { account, region, is_signed: true, origin: String::new() };
                        Ok::<_, std::convert::Infallible>(objects.answer(&caller, request, "r").await)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        address
    }

    async fn bucket_at(place: &str) -> Result<BucketBlobs, BlobsError> {
        let at = <Option<S3Bucket> as Value>::parse(place).unwrap().unwrap();
        BucketBlobs::open(&at, Arc::new(SystemClock), &std::env::temp_dir()).await
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_of_blobs() {
        let address = start_s3().await;
        let place = format!("http://key:secret@{address}/shared/below/here");
        let refused = bucket_at(&place).await.err().unwrap().to_string();
        assert!(refused.contains("NoSuchBucket"), "{refused}");
        let made = Ask {
            method: Method::PUT,
            region: REGION,
            bucket: "shared",
            key: "",
            query: &[],
            source: None,
            content: None,
        };
        let endpoint = <Option<S3Bucket> as Value>::parse(&place).unwrap().unwrap().endpoint;
        Client { endpoint, clock: Arc::new(SystemClock) }.send(&made).await.unwrap();
        hearth_store::blobs_suite::run(&bucket_at(&place).await.unwrap()).await;
        // Others in the same bucket are not touched, and not listed.
        let other = bucket_at(&format!("http://key:secret@{address}/shared")).await.unwrap();
        other.put(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(bucket_at(&place).await.unwrap().list().await.unwrap(), []);
    }
}
