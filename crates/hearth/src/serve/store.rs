//! Where what the server knows is kept: in its data folder, or in a database and a bucket that servers share.

use std::sync::Arc;

use hearth_control::Shared;
use hearth_model::{Clock, StoredPackages};
use hearth_objects::Objects;
use hearth_store::{
    Blobs, Company, DataDir, Feed, Files, Keyring, Leases, Postgres, PostgresUrl, Queue, Records, SealedBlobs,
    SealedFeed, SealedQueue, SealedRecords, SharedBlobs, Sqlite, SqliteQueue,
};

use super::failed;
use super::s3::Client;
use super::s3::blobs::BucketBlobs;
use super::s3::packages::OtherBuckets;
use crate::cli::Failure;
use crate::keys;
use crate::settings::{S3Bucket, ServiceEndpoint, Settings};

/// Name of the key that packages are sealed with: the same package may be several accounts'.
const PACKAGES: &str = "packages";

/// Everything is sealed.
pub struct Store {
    pub records: Arc<dyn Records>,
    /// This server's own, also where records are shared: who has accepted an event runs it.
    pub queue: Arc<dyn Queue>,
    /// Of functions and layers.
    pub packages: Arc<dyn Blobs>,
    /// Where packages lie that requests name by bucket and key.
    pub buckets: Arc<dyn StoredPackages>,
    /// Where others use them too.
    pub shared: Option<Shared>,
    /// None where servers share their records: contents of objects are not shared yet.
    pub objects: Option<Objects>,
}

impl Store {
    pub async fn open(settings: &Settings, folder: &DataDir, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        match (&settings.store_url, &settings.store_packages) {
            (None, None) => Self::of_folder(settings, folder, clock).await,
            (Some(url), Some(bucket)) => Self::of_servers(settings, folder, clock, url, bucket).await,
            (Some(_), None) => Err(Failure::Usage(
                "store.url is set, and store.packages is not: servers that share a database need a bucket for packages"
                    .to_owned(),
            )),
            (None, Some(_)) => {
                Err(Failure::Usage("store.packages is set, and store.url is not: it has no effect alone".to_owned()))
            }
        }
    }

    async fn of_folder(settings: &Settings, folder: &DataDir, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let bare: Arc<dyn Records> =
            Arc::new(Sqlite::open(&folder.records()).map_err(|e| failed("open the records")(&e))?);
        let keys = Arc::new(keys::Source::of(settings, folder)?.open(bare.clone()).await?);
        let records: Arc<dyn Records> = Arc::new(SealedRecords::new(bare, keys.clone()));
        let packages = Arc::new(Files::open(&folder.blobs()).map_err(|e| failed("open the packages")(&e))?);
        let packages = sealed(packages, &keys, settings).await?;
        let contents = Files::open(&folder.objects()).map_err(|e| failed("open the contents of objects")(&e))?;
        let contents = Arc::new(contents);
        let ports = hearth_objects::Ports { records: records.clone(), contents, clock: clock.clone() };
        let objects = Objects::open(ports).await.map_err(|e| failed("open the objects")(&e))?;
        let buckets = match &settings.endpoints_s3 {
            Some(endpoint) => other_buckets(endpoint, clock),
            None => Arc::new(objects.clone()),
        };
        let queue = queue(folder, &keys)?;
        Ok(Store { records, queue, packages, buckets, shared: None, objects: Some(objects) })
    }

    async fn of_servers(
        settings: &Settings,
        folder: &DataDir,
        clock: &Arc<dyn Clock>,
        url: &PostgresUrl,
        bucket: &S3Bucket,
    ) -> Result<Self, Failure> {
        let own = folder.records();
        if own.exists() {
            return Err(Failure::No(format!(
                "store.url is set, and the data folder has records of its own ({}), which would not be seen: give \
                 another data folder",
                own.display()
            )));
        }
        let database = Postgres::open(url, Company::Servers).await.map_err(|e| failed("open the database")(&e))?;
        let bare: Arc<dyn Records> = Arc::new(database.clone());
        let keys = Arc::new(keys::Source::of(settings, folder)?.open(bare.clone()).await?);
        let records: Arc<dyn Records> = Arc::new(SealedRecords::new(bare, keys.clone()));
        let opened = BucketBlobs::open(bucket, clock.clone(), &settings.cache_dir).await;
        let packages = Arc::new(opened.map_err(|e| failed("open the bucket of packages (store.packages)")(&e))?);
        let packages = sealed(packages, &keys, settings).await?;
        let queue = queue(folder, &keys)?;
        let feed: Arc<dyn Feed> = Arc::new(SealedFeed::new(Arc::new(database), keys));
        let leases = Leases::new(records.clone(), clock.clone());
        let blobs = SharedBlobs::new(records.clone(), packages, clock.clone(), leases.clone());
        let packages = Arc::new(blobs.clone());
        tracing::info!(database = %url, bucket = %bucket.bucket, "records and packages are shared with other servers");
        let buckets = other_buckets(settings.endpoints_s3.as_ref().unwrap_or(&bucket.endpoint), clock);
        let shared = Some(Shared { feed, leases, blobs });
        Ok(Store { records, queue, packages, buckets, shared, objects: None })
    }
}

fn other_buckets(endpoint: &ServiceEndpoint, clock: &Arc<dyn Clock>) -> Arc<dyn StoredPackages> {
    Arc::new(OtherBuckets(Client { endpoint: endpoint.clone(), clock: clock.clone() }))
}

fn queue(folder: &DataDir, keys: &Arc<Keyring>) -> Result<Arc<dyn Queue>, Failure> {
    let queue = SqliteQueue::open(&folder.queue()).map_err(|e| failed("open the queue")(&e))?;
    Ok(Arc::new(SealedQueue::new(Arc::new(queue), keys.clone())))
}

async fn sealed(bare: Arc<dyn Blobs>, keys: &Keyring, settings: &Settings) -> Result<Arc<dyn Blobs>, Failure> {
    let sealed = SealedBlobs::new(bare, keys, PACKAGES, &settings.cache_dir).await;
    Ok(Arc::new(sealed.map_err(|e| failed("open the packages")(&e))?))
}
