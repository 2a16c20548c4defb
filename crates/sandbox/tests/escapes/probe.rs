//! The facts of a process in the real sandbox, as tools that look at confinement print them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::support::pipe;
use super::world::World;

pub async fn facts_are_those_of_a_confined_process(world: &World) {
    let said = world.run("probe.py", &[], pipe()).await;
    let facts: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let status = &facts["status"];
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    let expected = [("Uid", "1051\t1051\t1051\t1051"), ("Groups", ""), ("NoNewPrivs", "1"), ("Seccomp", "2")];
    for (name, value) in expected {
        assert_eq!(status[name], value, "{name}");
    }
    assert_eq!(status["Seccomp_filters"], "1", "one program, not several");
    for (name, link) in facts["namespaces"].as_object().unwrap() {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let is_shared = link.as_str().unwrap() == outside.to_str().unwrap();
        assert_eq!(is_shared, name.starts_with("time"), "namespace {name}");
    }
    assert_eq!(facts["processes"], Value::from(vec![facts["itself"].clone()]), "only its own");
    let devices = ["fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"];
    assert_eq!(facts["devices"], Value::from(devices.to_vec()));
    // The fourth is the folder that is being listed.
    assert_eq!(facts["descriptors"].as_array().unwrap().len(), 4, "{}", facts["descriptors"]);
    for mount in facts["mounts"].as_array().unwrap() {
        let (place, options) = (mount[0].as_str().unwrap(), mount[2].as_str().unwrap());
        let has = |option: &str| options.split(',').any(|one| one == option);
        assert!(has("nosuid"), "{place}: {options}");
        assert!(has("ro") || place == "/tmp", "{place}: {options}");
        assert!(has("nodev") || place.starts_with("/dev") || is_cover(mount), "{place}: {options}");
    }
    reachable_calls_are_in_the_table(&facts["reachable"]);
}

/// A device that covers a file of `/proc`.
fn is_cover(mount: &Value) -> bool {
    mount[0].as_str().unwrap().starts_with("/proc/") && mount[1] == "tmpfs"
}

/// `uretprobe` and `uprobe` of x86-64, about which the kernel asks no filter: they serve its own trampolines and end any
/// other process that calls them.
const UNASKED: [u64; 2] = [335, 336];

fn reachable_calls_are_in_the_table(reachable: &Value) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/system-calls.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (allowed, _) = page.split_once("## Refused by name").unwrap();
    let column = if cfg!(target_arch = "aarch64") { 3 } else { 2 };
    let listed: BTreeSet<u64> =
        allowed.lines().filter_map(|line| line.split('|').nth(column)?.trim().parse().ok()).collect();
    let reached: BTreeSet<u64> = reachable.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
    let beside: Vec<_> = reached.difference(&listed).filter(|number| !UNASKED.contains(number)).collect();
    assert!(beside.is_empty(), "reachable, but not in the table: {beside:?}");
    // The opposite would be a probe that finds nothing.
    assert!(reached.len() > listed.len() / 2, "only {} of {} answered", reached.len(), listed.len());
}
