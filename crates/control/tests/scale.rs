//! Ten thousand functions with five versions each are no slower to ask about than ten, and small in memory.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{Functions, Quotas};
use hearth_store::{Expect, Key, MemoryRecords, Records, Sqlite, Write};
use hearth_wire_lambda::FunctionsApi;
use hearth_wire_lambda::types::*;

use support::{World, arn};

const VERSIONS: usize = 5;
const MANY: usize = 10_000;
const FEW: usize = 10;
/// What a version may take in memory, bytes.
const VERSION_MAX: u64 = 2048;

/// Records of one function with its versions, made through the API.
async fn pattern() -> (Vec<u8>, Vec<Vec<u8>>) {
    let world = World::on(Arc::new(MemoryRecords::default()), Quotas::default()).await;
    world.made("f").await;
    for n in 0..VERSIONS {
        world.next_version("f", &format!("PK-{n}")).await;
    }
    let function = world.records.all("function", None, 1).await.unwrap().remove(0).value.to_vec();
    let versions = world.records.all("version", None, usize::MAX).await.unwrap();
    (function, versions.into_iter().map(|record| record.value.to_vec()).collect())
}

async fn fill(records: &dyn Records, count: usize, (function, versions): &(Vec<u8>, Vec<Vec<u8>>)) {
    let put = |kind: &'static str, id: String, value: &[u8]| Write::Put {
        key: Key { partition: "000000000000/us-east-1".to_owned(), kind, id },
        expect: Expect::Absent,
        value: value.to_vec().into(),
    };
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut writes = Vec::new();
        for n in chunk {
            let name = format!("function-{n:05}");
            for (index, version) in versions.iter().enumerate() {
                writes.push(put("version", format!("{name}/{:010}", index + 1), version));
            }
            writes.push(put("function", name, function));
        }
        records.commit(writes).await.unwrap();
    }
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What the control plane and the data plane ask most often, once.
async fn ask(world: &World, n: usize) -> Duration {
    let name = format!("function-{n:05}");
    let begun = Instant::now();
    let page = ListFunctionsRequest { max_items: Some(10), ..ListFunctionsRequest::default() };
    let listed = world.control.list_functions(&world.cx, page).await.ok().unwrap();
    assert_eq!(listed.functions.unwrap().len(), 10);
    let get = GetFunctionRequest { function_name: Some(format!("{name}:3")), qualifier: None };
    world.control.get_function(&world.cx, get).await.ok().unwrap();
    let target = world.control.find(&arn(&name)).ok().unwrap();
    assert!(world.control.is_current(&target.primary.unwrap().key));
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_functions_are_asked_about_as_fast_as_few_and_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = pattern().await;
    let [few, many] = [FEW, MANY].map(|count| (folder.path().join(count.to_string()), count));
    for (path, count) in [&few, &many] {
        fill(&Sqlite::open(path).unwrap(), *count, &pattern).await;
    }
    let open = async |path: &std::path::Path| World::on(Arc::new(Sqlite::open(path).unwrap()), Quotas::default()).await;
    // Once before, so that what is measured is what stays and not what reading takes.
    let first = open(&many.0).await;
    let (before, begun) = (resident(), Instant::now());
    let world = open(&many.0).await;
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let each = grown / (MANY * (VERSIONS + 1)) as u64;
    println!("opened in {took:?}; {each} bytes a version");
    assert!(each < VERSION_MAX, "{each} bytes a version");
    drop(first);
    let small = open(&few.0).await;
    let (mut of_many, mut of_few) = (Vec::new(), Vec::new());
    // By turns, so that what else the machine does is the same for both.
    for round in 0..2000 {
        of_many.push(ask(&world, round * 5 % MANY).await);
        of_few.push(ask(&small, round % FEW).await);
    }
    of_many.sort();
    of_few.sort();
    let (many, few) = (of_many[1000], of_few[1000]);
    println!("p50 of {MANY}: {many:?}, of {FEW}: {few:?}");
    assert!(many < few.mul_f64(1.5), "{many:?} of {MANY}, {few:?} of {FEW}");
}
