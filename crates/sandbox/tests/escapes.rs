//! The escape suite. Each attempt must fail in the real sandbox, must fail when only one of the layers that are said to
//! stop it is left, and must succeed when all of these are taken away: so no check is empty.
//!
//! Needs root and the feature `weaken`: `cargo test -p hearth-sandbox --features weaken --test escapes [NAME]`.

#[path = "escapes/list.rs"]
mod list;
#[path = "escapes/probe.rs"]
mod probe;
mod support;
#[path = "escapes/world.rs"]
mod world;

use std::collections::BTreeMap;

use hearth_sandbox::{Layer, launcher, weaken};
use list::{ATTEMPTS, Attempt, MAY_BE_ABSENT};
use world::{Outside, World};

/// How an attempt must end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Held,
    Out,
}

fn main() {
    launcher::main_if_asked();
    weaken::own_network([169, 254, 169, 254].into()).expect("leave the host's network");
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outside = Outside::make();
    let mut failures = Vec::new();
    for (without, cases) in plan(&wanted) {
        weaken::without(&without);
        let started = support::start();
        runtime.block_on(async {
            let world = World::new(started, &outside).await;
            for (attempt, expected) in cases {
                let (verdict, said) = world.attempt(attempt.name).await;
                let name = attempt.name;
                let is_right = match (expected, verdict.as_str()) {
                    (Expected::Held, "held") | (Expected::Out, "out") => true,
                    // Where the kernel lacks something, only the real sandbox can be asked about it.
                    (_, "absent") => !without.is_empty() && MAY_BE_ABSENT.contains(&name),
                    _ => false,
                };
                println!("{} {name} without {without:?}: {said}", if is_right { "ok  " } else { "FAIL" });
                if !is_right {
                    failures.push(format!("{name} without {without:?}: {said}"));
                }
            }
            if without.is_empty() && "probe".contains(&wanted) {
                probe::facts_are_those_of_a_confined_process(&world).await;
                println!("ok   probe");
            }
            world.end().await;
        });
    }
    assert!(failures.is_empty(), "{} of the attempts went otherwise:\n{}", failures.len(), failures.join("\n"));
}

/// What is tried, by the layers that are taken away for it; all that stand come first.
fn plan(wanted: &str) -> BTreeMap<Vec<Layer>, Vec<(&'static Attempt, Expected)>> {
    let mut plan: BTreeMap<Vec<Layer>, Vec<_>> = BTreeMap::from([(Vec::new(), Vec::new())]);
    for attempt in ATTEMPTS.iter().filter(|attempt| attempt.name.contains(wanted)) {
        let mut add = |mut without: Vec<Layer>, expected| {
            without.sort();
            plan.entry(without).or_default().push((attempt, expected));
        };
        let all = [attempt.stopped_by, attempt.beside].concat();
        add(Vec::new(), Expected::Held);
        for alone in attempt.stopped_by.iter().filter(|_| all.len() > 1) {
            add(all.iter().copied().filter(|layer| layer != alone).collect(), Expected::Held);
        }
        add(all, Expected::Out);
    }
    plan
}
