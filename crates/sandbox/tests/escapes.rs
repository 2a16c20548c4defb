//! The escape suite. Each attempt must fail in the real sandbox, must fail when only one of the layers that are said to
//! stop it is left, and must succeed when all of these are taken away: so no check is empty. What a setting of the network
//! lets out must get out by it, too. Then once more as an ordinary user, in the real sandbox.
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
use std::path::Path;

use hearth_sandbox::{Layer, launcher, weaken};
use list::{ATTEMPTS, Attempt, MAY_BE_ABSENT};
use world::{Outside, World};

/// How an attempt must end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Held,
    Out,
}

/// Told to this program when it is to make the attempts as an ordinary user.
const ORDINARY: &str = "--ordinary-user";
/// Nobody's.
const USER: &str = "65534";

fn main() {
    launcher::main_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, wanted, said] = &arguments[..]
        && flag == ORDINARY
    {
        let run = tempfile::tempdir().unwrap();
        return make_attempts(&Outside::known(said), run.path(), plan(wanted).take(1));
    }
    the_page_counts_right();
    weaken::own_network([169, 254, 169, 254].into(), [203, 0, 113, 77].into()).expect("leave the host's network");
    let wanted = arguments.first().filter(|name| !name.starts_with('-')).cloned().unwrap_or_default();
    let outside = Outside::make();
    make_attempts(&outside, Path::new(support::RUN), plan(&wanted));
    println!("as an ordinary user:");
    let mut again = std::process::Command::new("setpriv");
    again.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all", "--"]);
    again.arg(std::env::current_exe().unwrap()).args([ORDINARY, &wanted, &outside.say()]);
    assert!(again.status().unwrap().success(), "an attempt of an ordinary user's function went otherwise");
}

/// What `docs/security.md` says of the suite.
fn the_page_counts_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(path).unwrap();
    let by_filter = ATTEMPTS.iter().filter(|attempt| attempt.stopped_by.contains(&Layer::Filter)).count();
    for count in [format!("The suite makes {} attempts", ATTEMPTS.len()), format!("{by_filter} attempts;")] {
        assert!(page.contains(&count), "docs/security.md does not say {count:?}");
    }
}

struct Cases {
    without: Vec<Layer>,
    /// What functions may reach beside what everybody may.
    allow: &'static [&'static str],
    cases: Vec<(&'static Attempt, Expected)>,
}

fn make_attempts(outside: &Outside, run: &Path, plan: impl Iterator<Item = Cases>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failures = Vec::new();
    for Cases { without, allow, cases } in plan {
        weaken::without(&without);
        let started = support::start(run);
        runtime.block_on(async {
            let world = World::new(started, outside, allow).await;
            for (attempt, expected) in cases {
                let (verdict, said) = world.attempt(attempt.name).await;
                let name = attempt.name;
                let is_right = match (expected, verdict.as_str()) {
                    (Expected::Held, "held") | (Expected::Out, "out") => true,
                    // Where the kernel lacks something, only the real sandbox can be asked about it.
                    (_, "absent") => !without.is_empty() && MAY_BE_ABSENT.contains(&name),
                    _ => false,
                };
                let case = format!("{name} without {without:?}, allowed {allow:?}: {said}");
                println!("{} {case}", if is_right { "ok  " } else { "FAIL" });
                if !is_right {
                    failures.push(case);
                }
            }
            if without.is_empty() && allow.is_empty() {
                probe::facts_are_those_of_a_confined_process(&world).await;
                println!("ok   probe");
            }
            world.end().await;
        });
    }
    assert!(failures.is_empty(), "{} of the attempts went otherwise:\n{}", failures.len(), failures.join("\n"));
}

/// What is tried, by the layers that are taken away for it; all that stand come first, then what only a setting lets out.
fn plan(wanted: &str) -> impl Iterator<Item = Cases> {
    let mut plan: BTreeMap<Vec<Layer>, Vec<_>> = BTreeMap::from([(Vec::new(), Vec::new())]);
    let attempts = || ATTEMPTS.iter().filter(|attempt| attempt.name.contains(wanted));
    for attempt in attempts() {
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
    let allowed = attempts().filter(|attempt| !attempt.let_out_by.is_empty()).map(|attempt| Cases {
        without: Vec::new(),
        allow: attempt.let_out_by,
        cases: vec![(attempt, Expected::Out)],
    });
    let mut all: Vec<Cases> = plan.into_iter().map(|(without, cases)| Cases { without, allow: &[], cases }).collect();
    all.splice(1..1, allowed);
    all.into_iter()
}
