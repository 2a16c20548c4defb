//! Node.js runtimes: the host's `node`, or the one that npm packages carry, at `/var/lang/bin/node`, and Hearth's
//! bootstrap at `/var/runtime`.

use std::fs;
use std::io;
use std::path::Path;

use hearth_model::{Runtime, RuntimeEntry};

use crate::copy::link_tree;
use crate::fetch;
use crate::host::Interpreter;
use crate::runtimes::{Entry, digest, hash};
use crate::skeleton::Skeleton;
use crate::trees::{Tree, Trees};

/// The bootstrap's files below `/var/runtime`.
const BOOTSTRAP: &[(&str, &str)] = &[
    ("bootstrap.cjs", include_str!("../../../bootstraps/node/bootstrap.cjs")),
    ("_hearth_runtime/callbacks.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/callbacks.cjs")),
    ("_hearth_runtime/connection.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/connection.cjs")),
    ("_hearth_runtime/context.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/context.cjs")),
    ("_hearth_runtime/errors.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/errors.cjs")),
    ("_hearth_runtime/handler.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/handler.cjs")),
    ("_hearth_runtime/log.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/log.cjs")),
    ("_hearth_runtime/main.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/main.cjs")),
    ("_hearth_runtime/parked.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/parked.cjs")),
    ("_hearth_runtime/paths.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/paths.cjs")),
    ("_hearth_runtime/promises.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/promises.cjs")),
    ("_hearth_runtime/resolve.mjs", include_str!("../../../bootstraps/node/_hearth_runtime/resolve.mjs")),
    ("_hearth_runtime/streaming.cjs", include_str!("../../../bootstraps/node/_hearth_runtime/streaming.cjs")),
];

/// Modules that Debian's `node` reads from outside its program.
const DEBIANS: &[&str] = &["acorn", "acorn-walk", "cjs-module-lexer", "undici"];

/// Where `node` comes from.
#[derive(Clone, Debug)]
pub enum Node {
    Host(Interpreter),
    /// Fetched when it is needed first.
    Package(fetch::NodePackage),
}

impl Node {
    pub fn version(&self) -> &str {
        match self {
            Node::Host(interpreter) => &interpreter.version,
            Node::Package(package) => package.version,
        }
    }

    /// Names what makes this runtime what it is.
    pub fn identity(&self, runtime: Runtime) -> String {
        let facts = match self {
            Node::Host(interpreter) => interpreter.facts(),
            Node::Package(package) => package.integrity.to_owned(),
        };
        digest(runtime, &facts, BOOTSTRAP)
    }
}

/// Adds the runtime of a Node.js of the host, or of an npm package, to a root. `sdk` is a tree with `node_modules` for `/var/runtime`.
pub fn add<'a>(
    skeleton: &mut Skeleton<'a>,
    trees: &Trees,
    runtime: Runtime,
    node: &Node,
    sdk: Option<&'a Tree>,
) -> io::Result<Entry> {
    let mut leases = Vec::new();
    match node {
        Node::Host(interpreter) if interpreter.is_public() => {
            skeleton.bind(&interpreter.program, "var/lang/bin/node");
            for module in DEBIANS {
                skeleton.share(&Path::new("usr/share/nodejs").join(module));
            }
        }
        Node::Host(interpreter) => {
            let copy = copied(trees, interpreter)?;
            skeleton.bind(copy.path.join("node"), "var/lang/bin/node");
            leases.push(copy.lease);
        }
        Node::Package(package) => {
            let tree = fetch::node(trees, package)?;
            skeleton.bind(tree.path.join("node"), "var/lang/bin/node");
            leases.push(tree.lease);
        }
    }
    Ok(Entry { leases, ..furnish(skeleton, runtime, node.version(), sdk) })
}

/// Adds the runtime of the Node.js that the root's own system has.
pub fn add_of_system<'a>(skeleton: &mut Skeleton<'a>, runtime: Runtime, version: &str, sdk: Option<&'a Tree>) -> Entry {
    skeleton.finish("its interpreter at /var/lang".to_owned(), |root| {
        fs::hard_link(root.join("usr/bin/node"), root.join("var/lang/bin/node"))
    });
    furnish(skeleton, runtime, version, sdk)
}

/// What every Node.js runtime has beside its interpreter.
fn furnish<'a>(skeleton: &mut Skeleton<'a>, runtime: Runtime, version: &str, sdk: Option<&'a Tree>) -> Entry {
    skeleton.bootstrap(BOOTSTRAP);
    if let Some(sdk) = sdk {
        let fact = format!("packages of {}", sdk.path.display());
        skeleton.finish(fact, |root| link_tree(&sdk.path, &root.join("var/runtime")));
    }
    let major = runtime.language_version().unwrap_or_default();
    let path = format!(
        "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    );
    Entry {
        start: RuntimeEntry::Hearths(["/var/lang/bin/node", "/var/runtime/bootstrap.cjs"].map(str::to_owned).into()),
        variables: vec![("NODE_PATH", path)],
        version: format!("nodejs:{version}"),
        leases: Vec::new(),
    }
}

fn copied(trees: &Trees, interpreter: &Interpreter) -> io::Result<Tree> {
    let place = format!("node-{}", &hash(&interpreter.facts())[..32]);
    trees.make(&place, |folder| fs::copy(&interpreter.program, folder.join("node")).map(drop))
}
