//! Environments in real sandboxes. Needs root, as Hearth does in this version.
//!
//! Not libtest: the launcher must be started before any thread exists.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{BoxFuture, Memory, Root, RootBind, Status};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Driver, Isolation, launcher};
use support::{World, invoke};

const ECHO: &str = "while True:\n  id, event = next_event()\n  respond(id, event)\n";

/// What tests share: making a driver sweeps what another instance has left.
struct Confined {
    driver: Arc<dyn Driver>,
    root: Root,
    _folder: tempfile::TempDir,
}

type Test = for<'a> fn(&'a Confined) -> BoxFuture<'a, ()>;

const TESTS: &[(&str, Test)] = &[
    ("both_addresses_of_the_runtime_api_answer", |c| Box::pin(both_addresses_of_the_runtime_api_answer(c))),
    ("a_thread_makes_no_progress_between_invocations", |c| Box::pin(a_thread_makes_no_progress_between_invocations(c))),
    ("temporary_files_outlive_a_timeout", |c| Box::pin(temporary_files_outlive_a_timeout(c))),
    ("memory_over_the_limit_ends_the_function_alone", |c| Box::pin(memory_over_the_limit_ends_the_function_alone(c))),
    ("warm_invocations_are_quick", |c| Box::pin(warm_invocations_are_quick(c))),
];

fn main() {
    launcher::main_if_asked();
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    };
    let started = launcher::start(&orders).expect("start the launcher");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    runtime.block_on(async {
        let confined = confined(started).await;
        for (name, test) in TESTS {
            if wanted.as_deref().is_none_or(|wanted| name.contains(wanted)) {
                let began = Instant::now();
                test(&confined).await;
                println!("test {name} ... ok ({} ms)", began.elapsed().as_millis());
            }
        }
    });
}

async fn confined(started: launcher::Started) -> Confined {
    let folder = tempfile::tempdir().unwrap();
    let skeleton = folder.path().join("skeleton");
    for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "sys", "tmp", "var/task/lib", "etc", "mnt", "opt/lib"] {
        std::fs::create_dir_all(skeleton.join(name)).unwrap();
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let binds =
        ["bin", "lib", "lib64", "usr"].map(|name| RootBind { source: Path::new("/").join(name), target: name.into() });
    let config = Config {
        instance: format!("worker{}", std::process::id()),
        scratch: folder.path().join("scratch"),
        isolation: Isolation::Process,
    };
    Confined {
        driver: Arc::new(ProcessDriver::open(started.attach().unwrap(), config).await.unwrap()),
        root: Root { skeleton, binds: binds.into(), whole: false },
        _folder: folder,
    }
}

impl Confined {
    fn world(&self, code: &str) -> World {
        let world = World::over(|_| self.driver.clone(), self.root.clone());
        world.write_code(code);
        world
    }
}

async fn end(mut world: World, environment: hearth_worker::Environment) {
    environment.shutdown().await;
    world.wait_gone().await;
}

async fn both_addresses_of_the_runtime_api_answer(confined: &Confined) {
    let code = "import json\nwhile True:\n  id, event = next_event()\n  pongs = []\n  \
                for host in ['127.0.0.1', '169.254.100.1']:\n    \
                other = http.client.HTTPConnection(host, 9001); other.request('GET', '/2018-06-01/ping')\n    \
                pongs.append(other.getresponse().read().decode())\n  respond(id, json.dumps(pongs))\n";
    let mut world = confined.world(code);
    let environment = world.start();
    assert_eq!(invoke(&environment, "r", "1").await.unwrap().body, r#"["pong", "pong"]"#);
    end(world, environment).await;
}

async fn a_thread_makes_no_progress_between_invocations(confined: &Confined) {
    let code = "ticks = []\ndef run():\n  while True:\n    ticks.append(time.monotonic()); time.sleep(0.001)\n\
                threading.Thread(target=run, daemon=True).start()\n\
                while True:\n  id, event = next_event()\n  began = time.monotonic()\n  time.sleep(0.1)\n  \
                gap = max((b - a for a, b in zip(ticks, ticks[1:])), default=0)\n  \
                respond(id, f'{int(gap * 1000)}')\n";
    let mut world = confined.world(code).with(|function| function.memory = Memory::mib(1769));
    let environment = world.start();
    let busy: u64 = invoke(&environment, "a", "1").await.unwrap().body.parse().unwrap();
    world.wait_idle().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let frozen: u64 = invoke(&environment, "b", "1").await.unwrap().body.parse().unwrap();
    assert!(busy < 1_000 && frozen >= 1_400, "longest gaps: {busy} ms while running, {frozen} ms with an idle time");
    end(world, environment).await;
}

async fn temporary_files_outlive_a_timeout(confined: &Confined) {
    let code = "while True:\n  id, event = next_event()\n  \
                if event == 'write':\n    open('/tmp/kept', 'w').write('kept'); time.sleep(1000)\n  \
                respond(id, open('/tmp/kept').read())\n";
    let mut world = confined.world(code).with(|function| function.timeout = Duration::from_secs(2));
    let environment = world.start();
    let late = invoke(&environment, "a", "write").await.unwrap();
    assert_eq!(late.outcome.report.status, Status::Timeout);
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "b", "read").await.unwrap().body, "kept");
    end(world, environment).await;
}

async fn memory_over_the_limit_ends_the_function_alone(confined: &Confined) {
    let code = "while True:\n  id, event = next_event()\n  held = bytearray(int(event) << 20)\n  respond(id, event)\n";
    // At a fourteenth of a CPU even dying takes time, on a busy host more.
    let mut world = confined.world(code).with(|function| function.timeout = Duration::from_secs(100));
    let environment = world.start();
    let fits = invoke(&environment, "a", "60").await.unwrap();
    assert_eq!(fits.body, "60");
    let used = fits.outcome.report.max_memory_used.as_mib();
    assert!((60..110).contains(&used), "{used} MB");
    world.wait_idle().await;
    let over = invoke(&environment, "b", "400").await.unwrap();
    let expected = r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: b Error: Runtime exited with error: signal: killed"}"#;
    assert_eq!(over.body, expected);
    assert_eq!(over.outcome.report.error_type.clone().unwrap().as_str(), "Runtime.OutOfMemory");
    assert_eq!(over.outcome.report.max_memory_used.as_mib(), 128);
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "c", "1").await.unwrap().body, "1");
    end(world, environment).await;
}

/// A generous limit: it finds a timer or a freeze on the warm path, not a slow machine.
async fn warm_invocations_are_quick(confined: &Confined) {
    let mut world = confined.world(ECHO).with(|function| function.memory = Memory::mib(1769));
    let environment = world.start();
    let mut times = Vec::new();
    for i in 0..500 {
        let began = Instant::now();
        let response = environment
            .invoke(support::invocation(&environment, &i.to_string(), "1"), support::running())
            .await
            .unwrap();
        times.push(began.elapsed());
        drop(response);
        world.wait_idle().await;
    }
    times.sort();
    println!("  warm: p50 {:?}, p90 {:?}, p99 {:?}", times[250], times[450], times[495]);
    assert!(times[250] < Duration::from_millis(20), "p50 {:?}", times[250]);
    end(world, environment).await;
}
