//! Python runtimes: an interpreter of the host at `/var/lang`, Hearth's bootstrap and boto3 at `/var/runtime`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_model::{Runtime, RuntimeEntry};

use crate::copy::{copy_tree, link_tree};
use crate::host::Interpreter;
use crate::run::run;
use crate::runtimes::{Entry, digest};
use crate::skeleton::Skeleton;
use crate::trees::{Tree, Trees};

/// The bootstrap's files below `/var/runtime`.
const BOOTSTRAP: &[(&str, &str)] = &[
    ("bootstrap.py", include_str!("../../../bootstraps/python/bootstrap.py")),
    ("_hearth_runtime/__init__.py", include_str!("../../../bootstraps/python/_hearth_runtime/__init__.py")),
    ("_hearth_runtime/context.py", include_str!("../../../bootstraps/python/_hearth_runtime/context.py")),
    ("_hearth_runtime/client.py", include_str!("../../../bootstraps/python/_hearth_runtime/client.py")),
    ("_hearth_runtime/faults.py", include_str!("../../../bootstraps/python/_hearth_runtime/faults.py")),
    ("_hearth_runtime/handler.py", include_str!("../../../bootstraps/python/_hearth_runtime/handler.py")),
    ("_hearth_runtime/output.py", include_str!("../../../bootstraps/python/_hearth_runtime/output.py")),
    ("_hearth_runtime/parked.py", include_str!("../../../bootstraps/python/_hearth_runtime/parked.py")),
    ("_hearth_runtime/path.py", include_str!("../../../bootstraps/python/_hearth_runtime/path.py")),
    ("_hearth_runtime/records.py", include_str!("../../../bootstraps/python/_hearth_runtime/records.py")),
    ("_hearth_runtime/serve.py", include_str!("../../../bootstraps/python/_hearth_runtime/serve.py")),
    ("_hearth_runtime/values.py", include_str!("../../../bootstraps/python/_hearth_runtime/values.py")),
];

/// Compiles files below a root so that nothing is checked when they are imported.
const COMPILE: &str = "\
import os, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for name in sys.argv[2:]:
    py_compile.compile(os.path.join(sys.argv[1], name), dfile='/' + name, doraise=True, invalidation_mode=mode)
";
const COMPILE_PATIENCE: Duration = Duration::from_secs(60);

/// Names what makes this runtime what it is.
pub fn identity(runtime: Runtime, interpreter: &Interpreter) -> String {
    digest(runtime, &interpreter.facts(), BOOTSTRAP)
}

/// Adds the runtime of an interpreter of the host to a root. `sdk` is a folder of Python packages for `/var/runtime`.
pub fn add<'a>(
    skeleton: &mut Skeleton<'a>,
    trees: &Trees,
    runtime: Runtime,
    interpreter: &'a Interpreter,
    sdk: Option<&'a Tree>,
) -> io::Result<Entry> {
    let name = named(runtime);
    let mut leases = Vec::new();
    if interpreter.is_public() {
        skeleton.bind(&interpreter.program, Path::new("var/lang/bin").join(&name));
        skeleton.bind(interpreter.lib().join(&name), Path::new("var/lang/lib").join(&name));
        skeleton.link("var/lang/bin/python3", &name);
        skeleton.link("var/lang/bin/python", &name);
    } else {
        let copy = copied(trees, interpreter, &name)?;
        skeleton.bind(&copy.path, "var/lang");
        leases.push(copy.lease);
    }
    Ok(Entry { leases, ..furnish(skeleton, runtime, interpreter, sdk) })
}

/// Adds the runtime of the interpreter that the root's own system has.
pub fn add_of_system<'a>(
    skeleton: &mut Skeleton<'a>,
    runtime: Runtime,
    interpreter: &'a Interpreter,
    sdk: Option<&'a Tree>,
) -> Entry {
    let name = named(runtime);
    for link in ["python3", "python"] {
        skeleton.link(Path::new("var/lang/bin").join(link), &name);
    }
    skeleton.link(Path::new("var/lang/lib").join(&name), Path::new("../../../usr/lib").join(&name));
    let program = name.clone();
    // The file itself: by a link it would find its folder to be `/usr`.
    skeleton.finish("its interpreter at /var/lang".to_owned(), move |root| {
        fs::hard_link(root.join("usr/bin").join(&program), root.join("var/lang/bin").join(&program))
    });
    furnish(skeleton, runtime, interpreter, sdk)
}

/// `python3.13`.
fn named(runtime: Runtime) -> String {
    format!("python{}", runtime.language_version().unwrap_or_default())
}

/// What every Python runtime has beside its interpreter.
fn furnish<'a>(
    skeleton: &mut Skeleton<'a>,
    runtime: Runtime,
    interpreter: &'a Interpreter,
    sdk: Option<&'a Tree>,
) -> Entry {
    skeleton.bootstrap(BOOTSTRAP);
    skeleton.finish(format!("compiled by {}", interpreter.facts()), |root| compile(interpreter, root));
    if let Some(sdk) = sdk {
        let fact = format!("packages of {}", sdk.path.display());
        skeleton.finish(fact, |root| link_tree(&sdk.path, &root.join("var/runtime")));
    }
    let program = format!("/var/lang/bin/{}", named(runtime));
    Entry {
        start: RuntimeEntry::Hearths(vec![program, "/var/runtime/bootstrap.py".to_owned()]),
        variables: vec![
            ("PYTHONPATH", "/var/runtime".to_owned()),
            ("LC_CTYPE", "C.UTF-8".to_owned()),
            ("PWD", "/var/task".to_owned()),
            ("SHLVL", "0".to_owned()),
        ],
        version: format!("python:{}", interpreter.version),
        leases: Vec::new(),
    }
}

fn compile(interpreter: &Interpreter, root: &Path) -> io::Result<()> {
    let mut command = interpreter.command(&interpreter.program);
    command.args(["-I", "-S", "-B", "-c", COMPILE]).arg(root);
    command.args(BOOTSTRAP.iter().map(|(file, _)| format!("var/runtime/{file}")));
    run(&mut command, COMPILE_PATIENCE)?.success().map(drop)
}

/// The interpreter where it can be run; one that can only be read is copied first.
pub fn at_hand(trees: &Trees, runtime: Runtime, interpreter: &Interpreter) -> io::Result<Interpreter> {
    if !interpreter.is_held() {
        return Ok(interpreter.clone());
    }
    let name = named(runtime);
    let copy = copied(trees, interpreter, &name)?;
    Ok(interpreter.moved(&copy.path, &copy.path.join("bin").join(&name)))
}

/// The interpreter as a tree of its own, made once.
fn copied(trees: &Trees, interpreter: &Interpreter, name: &str) -> io::Result<Tree> {
    let place = format!("{name}-{}", &crate::runtimes::hash(&interpreter.facts())[..32]);
    trees.make(&place, |folder| {
        let (bin, lib) = (folder.join("bin"), folder.join("lib"));
        fs::create_dir(&bin)?;
        fs::create_dir(&lib)?;
        fs::copy(&interpreter.program, bin.join(name))?;
        symlink(name, bin.join("python3"))?;
        symlink(name, bin.join("python"))?;
        for library in shared_libraries(&interpreter.lib())? {
            // What a link leads to: one folder holds all.
            fs::copy(&library, lib.join(library.file_name().unwrap_or_default()))?;
        }
        let mut unwanted = vec!["site-packages", "test", "idlelib", "turtledemo"];
        if !interpreter.is_held() {
            unwanted.push("ensurepip");
        }
        // Else the copy is what packages are installed by.
        copy_tree(&interpreter.lib().join(name), &lib.join(name), &unwanted)
    })
}

/// Libraries beside an interpreter that is linked to them.
fn shared_libraries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let shared = |path: &PathBuf| {
        path.is_file()
            && path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("lib") && n.contains(".so"))
    };
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(shared).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_of_a_home_is_copied_with_its_libraries_and_without_what_is_installed_there() {
        let (home, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| home.path().join(path);
        for folder in ["bin", "lib/python3.11/json", "lib/python3.11/test", "lib/python3.11/site-packages"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["bin/python3.11", "lib/libpython3.11.so.1.0", "lib/python3.11/os.py", "lib/python3.11/test/t.py"] {
            fs::write(at(file), file).unwrap();
        }
        symlink("libpython3.11.so.1.0", at("lib/libpython3.11.so")).unwrap();
        let interpreter = Interpreter::at(at("bin/python3.11"), home.path().to_owned(), "3.11.2".to_owned());
        assert!(!interpreter.is_public());

        let trees = Trees::open(cache.path(), u64::MAX).unwrap();
        let copy = copied(&trees, &interpreter, "python3.11").unwrap().path;
        drop(home);
        assert_eq!(fs::read_to_string(copy.join("bin/python3")).unwrap(), "bin/python3.11");
        assert_eq!(fs::read_to_string(copy.join("lib/libpython3.11.so")).unwrap(), "lib/libpython3.11.so.1.0");
        assert!(!copy.join("lib/libpython3.11.so").is_symlink());
        let mut names: Vec<_> =
            fs::read_dir(copy.join("lib/python3.11")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["json", "os.py"]);
    }
}
