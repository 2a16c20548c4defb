//! Several servers on the same records: what one writes the others know, also when they write to the same families, and
//! when one goes.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_model::{BoxFuture, Functions, Program, Qualifier};
use hearth_store::{Blobs, Change, Feed, Follower, MemoryBlobs, MemoryRecords, RecordsError};
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AliasesApi, FunctionsApi, LayersApi, VersionsApi};
use support::{World, arn};
use tokio::sync::Notify;

struct Servers {
    records: MemoryRecords,
    blobs: Arc<MemoryBlobs>,
}

impl Servers {
    fn new() -> Self {
        Servers { records: MemoryRecords::default(), blobs: Arc::default() }
    }

    async fn start(&self) -> World {
        World::among(&self.records, &self.blobs).await
    }
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn runs(world: &World, name: &str, qualifier: Option<&str>) -> Option<String> {
    let arn = arn(name).unqualified();
    let arn = qualifier.map_or(arn.clone(), |qualifier| arn.qualified(Qualifier::new(qualifier)));
    let found = world.control.find(&arn).ok()?.primary.ok()?;
    match &found.program {
        Program::Zip(zip) => Some(zip.code.to_hex()),
        Program::Image(_) => None,
    }
}

async fn code_of(world: &World, name: &str) -> String {
    world.configuration(name).await.code_sha256.unwrap()
}

#[tokio::test]
async fn what_one_server_writes_the_other_runs_updates_and_deletes() {
    let servers = Servers::new();
    let one = servers.start().await;
    one.made("early").await;
    let other = servers.start().await;
    assert_eq!(runs(&other, "early", None), runs(&one, "early", None));
    one.made("f").await;
    eventually("it runs on the other", async || runs(&other, "f", None).is_some()).await;
    let before = runs(&other, "f", None);
    one.update_code("f", "PK2").await.ok().unwrap();
    one.until_settled("f").await;
    eventually("the other runs the new code", async || runs(&other, "f", None) != before).await;
    // A family with everything in it, written by both in turns.
    other.publish("f").await.ok().unwrap();
    eventually("the version", async || runs(&one, "f", Some("1")).is_some()).await;
    one.alias("f", "live", "1").await.ok().unwrap();
    eventually("the alias", async || runs(&other, "f", Some("live")).is_some()).await;
    assert_eq!(code_of(&one, "f").await, code_of(&other, "f").await);
    other.delete("f").await.ok().unwrap();
    eventually("it is gone", async || runs(&one, "f", None).is_none()).await;
    assert!(runs(&one, "f", Some("live")).is_none());
    // The same name again, at once, on the one that removed it.
    other.made("f").await;
    eventually("the new one", async || runs(&one, "f", None).is_some()).await;
    assert!(runs(&one, "f", Some("1")).is_none(), "nothing of the old one is left");
    assert!(runs(&other, "f", Some("1")).is_none());
}

#[tokio::test]
async fn layers_and_what_they_take_up_are_known_to_all() {
    let servers = Servers::new();
    let (one, other) = (servers.start().await, servers.start().await);
    one.layer("l", "PK+5").await.ok().unwrap();
    let get = async |world: &World, number| {
        let input = GetLayerVersionRequest { layer_name: Some("l".to_owned()), version_number: Some(number) };
        world.control.get_layer_version(&world.cx, input).await.is_ok()
    };
    eventually("the layer", async || get(&other, 1).await).await;
    other.layer("l", "PK+6").await.ok().unwrap();
    eventually("its second version", async || get(&one, 2).await).await;
    let delete = DeleteLayerVersionRequest { layer_name: Some("l".to_owned()), version_number: Some(1) };
    one.control.delete_layer_version(&one.cx, delete).await.ok().unwrap();
    eventually("it is gone", async || !get(&other, 1).await && get(&other, 2).await).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_leaves_unfinished_another_finishes() {
    let servers = Servers::new();
    let (one, other) = (servers.start().await, servers.start().await);
    one.hold();
    one.create("left").await.ok().unwrap();
    eventually("the other knows", async || other.try_configuration("left").await.is_some()).await;
    assert_eq!(other.configuration("left").await.state.as_deref(), Some("Pending"));
    one.reconciler.abort();
    // Until its lease has run out.
    let finished = async {
        while other.configuration("left").await.state.as_deref() != Some("Active") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), finished).await.expect("the other brings it about");
}

/// A feed that breaks when it is told to, as a connection does.
struct Breaks {
    inner: MemoryRecords,
    is_broken: Arc<AtomicBool>,
    broken: Arc<Notify>,
}

struct Breaking(Box<dyn Follower>, Arc<AtomicBool>, Arc<Notify>);

fn lost() -> RecordsError {
    RecordsError::Engine("lost".into())
}

impl Feed for Breaks {
    fn follow(&self, kinds: &'static [&'static str]) -> BoxFuture<'_, Result<Box<dyn Follower>, RecordsError>> {
        Box::pin(async move {
            if self.is_broken.load(Ordering::Acquire) {
                return Err(lost());
            }
            let inner = self.inner.follow(kinds).await?;
            Ok(Box::new(Breaking(inner, self.is_broken.clone(), self.broken.clone())) as Box<dyn Follower>)
        })
    }
}

impl Follower for Breaking {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, RecordsError>> {
        Box::pin(async move {
            let broken = self.2.notified();
            if self.1.load(Ordering::Acquire) {
                return Err(lost());
            }
            tokio::select! {
                () = broken => Err(lost()),
                changes = self.0.next() => changes,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lost_sight_of_the_others_reads_everything_again() {
    let servers = Servers::new();
    let one = servers.start().await;
    let (is_broken, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let feed = Breaks { inner: servers.records.clone(), is_broken: is_broken.clone(), broken: broken.clone() };
    let other = World::with_feed(&servers.records, &servers.blobs, Arc::new(feed)).await;
    for name in ["updated", "deleted", "made-again"] {
        one.made(name).await;
        eventually("it is known", async || runs(&other, name, None).is_some()).await;
    }
    let (updated, again) = (runs(&other, "updated", None), other.configuration("made-again").await.revision_id);
    is_broken.store(true, Ordering::Release);
    broken.notify_waiters();
    one.next_version("updated", "PK3").await;
    one.alias("updated", "live", "1").await.ok().unwrap();
    one.layer("l", "PK+5").await.ok().unwrap();
    one.delete("deleted").await.ok().unwrap();
    one.delete("made-again").await.ok().unwrap();
    one.made("made-again").await;
    one.made("made").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(runs(&other, "updated", None), updated, "it cannot know yet");
    // What it writes itself meanwhile is its own.
    other.made("own").await;
    is_broken.store(false, Ordering::Release);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(runs(&other, "updated", None), runs(&one, "updated", None));
    assert!(runs(&other, "updated", Some("live")).is_some() && runs(&other, "made", None).is_some());
    assert!(runs(&other, "deleted", None).is_none() && runs(&other, "own", None).is_some());
    assert_ne!(other.configuration("made-again").await.revision_id, again);
    // And it follows again.
    one.delete("made").await.ok().unwrap();
    eventually("it is gone", async || runs(&other, "made", None).is_none()).await;
}

/// Clients on both servers, on a few functions: whatever wins, in the end both know the same.
#[tokio::test]
async fn servers_that_write_to_the_same_functions_agree_in_the_end() {
    let servers = Servers::new();
    let worlds = Arc::new([servers.start().await, servers.start().await]);
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..8u32 {
        let worlds = worlds.clone();
        tasks.spawn(async move {
            let world = &worlds[client as usize % 2];
            for step in 0..40u32 {
                let name = format!("f{}", (client / 2 + step) % 3);
                // Refusals are part of it.
                match (client * 7 + step * 5) % 6 {
                    0 | 1 => drop(world.create(&name).await),
                    2 => drop(world.update_code(&name, &format!("PK{client}-{step}")).await),
                    3 => drop(world.publish(&name).await),
                    4 => drop(world.alias(&name, "live", "1").await),
                    _ => drop(world.delete(&name).await),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
    let shown = async |world: &World, name: &str| {
        let settled = world.try_configuration(name).await?;
        let versions = ListVersionsByFunctionRequest { function_name: Some(name.to_owned()), ..Default::default() };
        let versions = world.control.list_versions_by_function(&world.cx, versions).await.ok()?.versions?;
        let aliases = ListAliasesRequest { function_name: Some(name.to_owned()), ..Default::default() };
        let aliases = world.control.list_aliases(&world.cx, aliases).await.ok()?.aliases?;
        let revision = |alias: AliasConfiguration| alias.revision_id;
        Some((settled.revision_id, versions.len(), aliases.into_iter().map(revision).collect::<Vec<_>>()))
    };
    for name in ["f0", "f1", "f2"] {
        eventually("both know the same", async || shown(&worlds[0], name).await == shown(&worlds[1], name).await).await;
    }
    // And both know what is stored.
    let third = servers.start().await;
    for name in ["f0", "f1", "f2"] {
        eventually("a third, too", async || shown(&worlds[0], name).await == shown(&third, name).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn packages_go_when_no_server_needs_them_and_not_before() {
    let servers = Servers::new();
    let (one, other) = (servers.start().await, servers.start().await);
    one.made("f").await;
    one.next_version("f", "PK2").await;
    eventually("the version", async || runs(&other, "f", Some("1")).is_some()).await;
    // Two packages; the same one, brought by the other, is needed by a function of its own.
    other.made("g").await;
    one.delete("f").await.ok().unwrap();
    let kept = async || servers.blobs.list().await.unwrap().len();
    let left = async |count: usize| {
        while kept().await != count {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), left(1)).await.expect("what nobody needs goes");
    // What is needed is still there a long time after.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(kept().await, 1);
    let asked = GetFunctionRequest { function_name: Some("g".to_owned()), qualifier: None };
    let link = other.control.get_function(&other.cx, asked).await.ok().unwrap();
    let location = link.code.unwrap().location.unwrap();
    let token = location.rsplit('/').next().unwrap();
    assert!(one.control.download(token).await.is_ok());
    // With a layer in use, whose version is gone.
    let layer = one.layer("l", "PK+5").await.ok().unwrap().layer_version_arn.unwrap();
    let create = CreateFunctionRequest { layers: Some(vec![layer]), ..support::a_function("user") };
    one.control.create_function(&one.cx, create).await.ok().unwrap();
    one.until_settled("user").await;
    let delete = DeleteLayerVersionRequest { layer_name: Some("l".to_owned()), version_number: Some(1) };
    one.control.delete_layer_version(&one.cx, delete).await.ok().unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(kept().await, 2);
    one.delete("user").await.ok().unwrap();
    other.delete("g").await.ok().unwrap();
    tokio::time::timeout(Duration::from_secs(120), left(0)).await.expect("everything goes");
}
