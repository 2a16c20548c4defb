//! Random histories of one bucket against a model that is a list of versions a key; and that every content has its blob,
//! and every blob its content, also after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{AccountId, Region, SystemClock};
use hearth_objects::{Caller, Objects, Ports};
use hearth_store::{Blobs, MemoryBlobs, MemoryRecords, Naming, Records};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;

struct World {
    objects: Objects,
    records: Arc<dyn Records>,
    blobs: Arc<dyn Blobs>,
}

struct Answer {
    status: StatusCode,
    version: Option<String>,
    body: Bytes,
}

async fn open(records: &Arc<dyn Records>, blobs: &Arc<dyn Blobs>) -> Objects {
    let ports = Ports { records: records.clone(), contents: blobs.clone(), clock: Arc::new(SystemClock) };
    Objects::open(ports).await.unwrap()
}

impl World {
    async fn new() -> Self {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::default());
        let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::default());
        let world = World { objects: open(&records, &blobs).await, records, blobs };
        assert_eq!(world.send(Method::PUT, "/bucket", &[], "").await.status, StatusCode::OK);
        world
    }

    /// The same store with a content that nothing refers to, as a crash leaves it.
    async fn restarted(self) -> Self {
        self.blobs.create().await.unwrap().finish(Naming::Drawn).await.unwrap();
        let objects = open(&self.records, &self.blobs).await;
        objects.clone().run().await;
        World { objects, ..self }
    }

    async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let caller = Caller {
            account: AccountId::default_account(),
            region: Region::default_region(),
            is_signed: true,
            origin: String::new(),
        };
        let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.header("content-length", body.len()).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response = self.objects.answer(&caller, request, "r").await;
        let status = response.status();
        let version = response.headers().get("x-amz-version-id").map(|id| id.to_str().unwrap().to_owned());
        Answer { status, version, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    async fn get(&self, key: u8, version: Option<&str>) -> Option<String> {
        let version = version.map(|version| format!("?versionId={version}")).unwrap_or_default();
        let answer = self.send(Method::GET, &format!("/bucket/k{key}{version}"), &[], "").await;
        (answer.status == StatusCode::OK).then(|| String::from_utf8(answer.body.to_vec()).unwrap())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Copy(u8, u8),
    Parts(u8),
    Delete(u8),
    DeleteVersion(u8, usize),
    Versioning(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, any::<u8>()).prop_map(|(key, body)| Step::Put(key, body)),
        2 => (0..3u8, 0..3u8).prop_map(|(from, to)| Step::Copy(from, to)),
        2 => (0..3u8).prop_map(Step::Parts),
        2 => (0..3u8).prop_map(Step::Delete),
        2 => (0..3u8, 0..4usize).prop_map(|(key, which)| Step::DeleteVersion(key, which)),
        1 => any::<bool>().prop_map(Step::Versioning),
    ]
}

/// A version's id, and its content where it is no delete marker.
type Version = (String, Option<String>);

#[derive(Default)]
struct Model {
    /// `None` before it was ever set.
    versioning: Option<bool>,
    /// The newest first.
    keys: BTreeMap<u8, Vec<Version>>,
}

impl Model {
    fn add(&mut self, key: u8, id: Option<String>, content: Option<String>) {
        let versions = self.keys.entry(key).or_default();
        let id = id.unwrap_or_else(|| "null".to_owned());
        if id == "null" {
            versions.retain(|(other, _)| other != "null");
        }
        versions.insert(0, (id, content));
    }

    fn current(&self, key: u8) -> Option<&String> {
        self.keys.get(&key)?.first()?.1.as_ref()
    }
}

async fn apply(world: &World, model: &mut Model, step: Step) {
    match step {
        Step::Put(key, body) => {
            let body = format!("body {body}");
            let put = world.send(Method::PUT, &format!("/bucket/k{key}"), &[], &body).await;
            assert_eq!(put.status, StatusCode::OK);
            model.add(key, put.version, Some(body));
        }
        Step::Copy(from, to) => {
            let source = format!("/bucket/k{from}");
            let headers = [("x-amz-copy-source", &*source), ("x-amz-metadata-directive", "REPLACE")];
            let copied = world.send(Method::PUT, &format!("/bucket/k{to}"), &headers, "").await;
            match model.current(from).cloned() {
                Some(content) => model.add(to, copied.version, Some(content)),
                None => assert_eq!(copied.status, StatusCode::NOT_FOUND),
            }
        }
        Step::Parts(key) => {
            let path = format!("/bucket/k{key}");
            let created = world.send(Method::POST, &format!("{path}?uploads"), &[], "").await;
            let xml = String::from_utf8(created.body.to_vec()).unwrap();
            let id = xml.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
            for number in [1, 2] {
                let target = format!("{path}?partNumber={number}&uploadId={id}");
                world.send(Method::PUT, &target, &[], &format!("part {number}")).await;
            }
            // The tag of `part 2`. The first part is uploaded and not used.
            let list = "<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>\"TAG\"</ETag></Part></CompleteMultipartUpload>";
            let listed = world.send(Method::GET, &format!("{path}?uploadId={id}"), &[], "").await;
            let listed = String::from_utf8(listed.body.to_vec()).unwrap();
            let tag = listed
                .split("<ETag>")
                .nth(2)
                .unwrap()
                .split('<')
                .next()
                .unwrap()
                .replace("&quot;", "")
                .replace('"', "");
            let target = format!("{path}?uploadId={id}");
            let done = world.send(Method::POST, &target, &[], &list.replace("TAG", &tag)).await;
            assert_eq!(done.status, StatusCode::OK, "{:?}", done.body);
            model.add(key, done.version, Some("part 2".to_owned()));
        }
        Step::Delete(key) => {
            let deleted = world.send(Method::DELETE, &format!("/bucket/k{key}"), &[], "").await;
            assert_eq!(deleted.status, StatusCode::NO_CONTENT);
            match model.versioning {
                None => drop(model.keys.remove(&key)),
                Some(_) => model.add(key, deleted.version, None),
            }
        }
        Step::DeleteVersion(key, which) => {
            let Some((id, _)) = model.keys.get(&key).and_then(|versions| versions.get(which)).cloned() else { return };
            let deleted = world.send(Method::DELETE, &format!("/bucket/k{key}?versionId={id}"), &[], "").await;
            assert_eq!(deleted.status, StatusCode::NO_CONTENT);
            model.keys.entry(key).or_default().retain(|(other, _)| *other != id);
        }
        Step::Versioning(enabled) => {
            let status = if enabled { "Enabled" } else { "Suspended" };
            let xml = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
            assert_eq!(world.send(Method::PUT, "/bucket?versioning", &[], &xml).await.status, StatusCode::OK);
            model.versioning = Some(enabled);
        }
    }
}

async fn compare(world: &World, model: &Model) {
    for key in 0..3 {
        assert_eq!(world.get(key, None).await.as_ref(), model.current(key));
        for (id, content) in model.keys.get(&key).into_iter().flatten() {
            assert_eq!(&world.get(key, Some(id)).await, content, "version {id} of {key}");
        }
    }
    let contents = model.keys.values().flatten().filter(|(_, content)| content.is_some()).count();
    // The lease of what was just read ends beside this.
    for _ in 0..1000 {
        if world.blobs.list().await.unwrap().len() == contents {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} blobs of {contents} contents", world.blobs.list().await.unwrap().len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn versions_and_contents_are_those_of_the_model(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut world, mut model) = (World::new().await, Model::default());
            for (at, step) in steps.into_iter().enumerate() {
                apply(&world, &mut model, step).await;
                if at % 8 == 7 {
                    world = world.restarted().await;
                }
            }
            compare(&world, &model).await;
            let world = world.restarted().await;
            compare(&world, &model).await;
        });
    }
}
