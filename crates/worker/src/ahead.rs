//! Which runtimes can be started before it is known whose they will be, and what two functions must have in common to take
//! the same one (decision 31).
//!
//! Everything that acts when an interpreter starts is part of a [`Recipe`], and recipes are what stock is kept of. Left
//! out are only variables that are proven inert (`names`). Whose start depends on files of the function's own is
//! [`Outside`]: its runtimes are started when they are needed.

mod names;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use hearth_model::{CodeTree, Family, FunctionVersion, Program, RuntimeEntry, RuntimeTree};

use crate::entry::{Entry, is_wrapped};
pub(crate) use names::Names;

/// What a runtime is started with ahead of need. Runtimes of one recipe are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What acts when it starts.
    pub environment: Vec<(String, String)>,
    /// Memory that one holds while it waits, bytes, rounded up; all of it, shared pages too.
    pub cost: u64,
}

/// Why none can be started ahead for a function. It completes "a runtime could not be started ahead of need: ".
pub type Outside = Cow<'static, str>;

/// Interpreters with Hearth's bootstrap, parked: resident size as measured, rounded up.
const PYTHON_COST: u64 = 12 << 20;
const NODE_COST: u64 = 48 << 20;
/// Files in a folder that are looked at for libraries; a folder with more is taken to have some.
const FILES_MAX: usize = 4096;

/// What a function's runtime would be started with.
pub(crate) async fn recipe(
    names: &Names,
    function: &FunctionVersion,
    entry: &Entry,
    trees: [Option<&CodeTree>; 2],
    has_extensions: bool,
    variables: &[(String, String)],
) -> Result<Arc<Recipe>, Outside> {
    let Entry::Runtime { tree, .. } = entry else { return Err("it is an image".into()) };
    let (command, cost) = interpreter(tree, &function.program)?;
    if has_extensions {
        return Err("it has extensions, which are started first".into());
    }
    if is_wrapped(variables) {
        return Err("AWS_LAMBDA_EXEC_WRAPPER starts it".into());
    }
    let mut environment = Vec::new();
    for (key, value) in variables {
        if names::OF_ONE_ENVIRONMENT.contains(&key.as_str()) {
            continue;
        }
        if function.environment.iter().any(|(name, _)| name == key) {
            if names.is_inert(tree, key)? {
                continue;
            }
            if !names::says_no_file(key, value) {
                return Err(format!("{key} acts when it starts").into());
            }
        }
        environment.push((key.clone(), value.clone()));
    }
    if let Some(place) = libraries(trees).await {
        return Err(format!("there are libraries in {place}, where the loader looks when it starts").into());
    }
    Ok(Arc::new(Recipe { command: command.clone(), environment, cost }))
}

fn interpreter<'a>(tree: &'a RuntimeTree, program: &Program) -> Result<(&'a Vec<String>, u64), Outside> {
    if tree.root.whole {
        return Err("its runtime may leave the cache, and is not kept in stock".into());
    }
    let (RuntimeEntry::Hearths(command), Program::Zip(zip)) = (&tree.entry, program) else {
        return Err("its bootstrap is its own".into());
    };
    match zip.runtime.family() {
        Family::Python => Ok((command, PYTHON_COST)),
        Family::NodeJs => Ok((command, NODE_COST)),
        _ => Err(format!("{} is not started ahead", zip.runtime).into()),
    }
}

/// Where the loader would find libraries of the function's own in place of the interpreter's: in `LD_LIBRARY_PATH` these
/// folders come before the system's.
async fn libraries([code, opt]: [Option<&CodeTree>; 2]) -> Option<&'static str> {
    let places = [(code, "", "/var/task"), (code, "lib", "/var/task/lib"), (opt, "lib", "/opt/lib")];
    let places = places.into_iter().filter_map(|(tree, below, said)| Some((tree?.path.join(below), said)));
    let places: Vec<_> = places.collect();
    let look = move || places.into_iter().find(|(folder, _)| has_libraries(folder)).map(|(_, said)| said);
    tokio::task::spawn_blocking(look).await.unwrap_or(Some("a folder that could not be read"))
}

/// Also where that is not known: no link of a package is followed here.
fn has_libraries(folder: &Path) -> bool {
    match std::fs::symlink_metadata(folder) {
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
        Ok(found) if !found.is_dir() => return found.is_symlink(),
        Ok(_) => {}
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    let mut count = 0;
    entries.flatten().any(|entry| {
        count += 1;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Folders of libraries for one kind of processor.
        let of_processor = ["glibc-hwcaps", "tls", "haswell", "x86_64", "avx512_1", "atomics"].contains(&&*name);
        of_processor || (name.starts_with("lib") && name.contains(".so")) || count > FILES_MAX
    })
}
