//! Names of variables that are proven to do nothing when an interpreter starts.
//!
//! What a program reads from its environment it asks for by name, and the name is in what it is made of: the program, the
//! libraries that it is linked to, and the modules that are imported before it waits. So a name that occurs in none of
//! them, in either way that they hold text, is read by nobody. Names that are put together while a program runs are not
//! found like this: whole families of names are taken to act.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hearth_model::{Root, RuntimeEntry, RuntimeTree};

use super::Outside;

/// Hearth sets these for each environment, and its bootstraps read them when a function is there.
pub const OF_ONE_ENVIRONMENT: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "_HANDLER",
];

/// Names that act whatever is found, and beginnings of such: interpreters, the loader and libraries put some of them
/// together.
const FAMILIES: &[&str] = &[
    "ASAN_*",
    "AWS_LAMBDA_*",
    "CARES_*",
    "DEBUGINFOD*",
    "GCONV*",
    "GLIBC*",
    "GOMP_*",
    "HOME",
    "HOSTALIASES",
    "ICU_*",
    "JEMALLOC*",
    "KMP_*",
    "LAMBDA_*",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LD_*",
    "LIBC_*",
    "LOCALDOMAIN",
    "LOCPATH",
    "LSAN_*",
    "MALLOC_*",
    "MSAN_*",
    "NGHTTP2_*",
    "NLSPATH",
    "NODE*",
    "NO_COLOR",
    "NPM_*",
    "OMP_*",
    "OPENSSL*",
    "PATH",
    "PWD",
    "PYTHON*",
    "RES_*",
    "RESOLV*",
    "SSL*",
    "TERM",
    "TMPDIR",
    "TSAN_*",
    "TZ*",
    "UBSAN_*",
    "UV_*",
    "V8_*",
    "XDG_*",
];

/// The only ones of those, with what was found by name, that are part of a recipe when a function has them: they hold
/// words and numbers. The others name files, which nobody has before it is known whose a runtime is.
const PLAIN: &[&str] = &["NODE_ENV", "NODE_OPTIONS", "TZ", "UV_THREADPOOL_SIZE"];

/// Options of Node.js that may be part of a recipe: alone, and with a number.
const NODE_FLAGS: &[&str] = &[
    "--enable-source-maps",
    "--no-deprecation",
    "--no-experimental-require-module",
    "--no-warnings",
    "--trace-deprecation",
    "--trace-uncaught",
    "--trace-warnings",
];
const NODE_NUMBERS: &[&str] =
    &["--max-http-header-size", "--max-old-space-size", "--max-semi-space-size", "--stack-trace-limit"];

/// Shortest run of letters that is kept of a program: shorter names are not looked up.
const SHORTEST: usize = 4;
/// Longest; names have at most that many characters.
const LONGEST: usize = 256;
/// Bytes of a file that are read at one time.
const PIECE: usize = 1 << 18;
/// Files of one interpreter.
const FILES_MAX: usize = 200;
/// Answers that are remembered of one interpreter.
const KNOWN_MAX: usize = 4096;
/// Modules of Python's library that are imported before a runtime waits, where they are not part of the program.
const MODULES: &[&str] = &[
    "_collections_abc.py",
    "_sitebuiltins.py",
    "abc.py",
    "codecs.py",
    "encodings/__init__.py",
    "encodings/aliases.py",
    "encodings/utf_8.py",
    "genericpath.py",
    "importlib/__init__.py",
    "importlib/_abc.py",
    "importlib/machinery.py",
    "io.py",
    "os.py",
    "posixpath.py",
    "site.py",
    "sitecustomize.py",
    "stat.py",
    "types.py",
    "warnings.py",
];

/// An interpreter that is being read, was read, or cannot be.
type Reading = Arc<OnceLock<Option<Program>>>;

/// What is known of each interpreter. A cheap handle.
#[derive(Clone, Default)]
pub struct Names {
    known: Arc<Mutex<HashMap<PathBuf, Reading>>>,
}

/// Every run of capitals, digits and underlines in what an interpreter is made of.
#[derive(Default)]
struct Program {
    runs: HashSet<Vec<u8>>,
    /// What was asked for before.
    answers: Mutex<HashMap<String, bool>>,
}

impl Names {
    /// Whether a name does nothing when this runtime starts. It is not known before the interpreter was read, which takes
    /// part of a second, once, in the background.
    pub fn is_inert(&self, tree: &RuntimeTree, name: &str) -> Result<bool, Outside> {
        if !may_be_inert(name) {
            return Ok(false);
        }
        let RuntimeEntry::Hearths(command) = &tree.entry else { return Ok(false) };
        let found = self.known(tree, command);
        match found.get() {
            Some(Some(program)) => Ok(!program.may_read(name)),
            Some(None) => Err("its interpreter cannot be read for the names that it knows".into()),
            None => Err(format!("whether {name} acts when it starts is being found out").into()),
        }
    }

    /// What is known of a runtime's interpreter; its reading begins where nobody has asked before.
    fn known(&self, tree: &RuntimeTree, command: &[String]) -> Reading {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&tree.root.skeleton) {
            return found.clone();
        }
        let found = known.entry(tree.root.skeleton.clone()).or_default().clone();
        drop(known);
        let (root, program, reading) = (tree.root.clone(), command.first().cloned().unwrap_or_default(), found.clone());
        tokio::task::spawn_blocking(move || {
            let read = Program::read(&root, Path::new(&program)).inspect_err(|error| {
                tracing::warn!(%error, program, "an interpreter cannot be read for the names it knows");
            });
            // Without it nothing is proven, ever.
            let _ = reading.set(read.ok());
        });
        found
    }
}

fn may_be_inert(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let length = SHORTEST..=LONGEST;
    length.contains(&name.len()) && name.bytes().all(is_plain) && !is_of_a_family(name)
}

fn is_of_a_family(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.strip_suffix('*').map_or(name == *family, |start| name.starts_with(start)))
}

/// Whether a variable that acts holds no more than words and numbers.
pub fn says_no_file(name: &str, value: &str) -> bool {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte));
    match name {
        "TZ" => {
            let zone = value.strip_prefix(':').unwrap_or(value);
            !zone.starts_with('/') && zone.split('/').all(|part| is_word(part) && !part.is_empty())
        }
        // Of options only those that name no module or file, and that nothing waits for: a debugger's do.
        "NODE_OPTIONS" => value.split_ascii_whitespace().all(|option| match option.split_once('=') {
            Some((option, value)) => NODE_NUMBERS.contains(&option) && value.bytes().all(|byte| byte.is_ascii_digit()),
            None => NODE_FLAGS.contains(&option),
        }),
        _ if PLAIN.contains(&name) => is_word(value),
        _ if is_of_a_family(name) => false,
        _ => is_word(value),
    }
}

impl Program {
    /// The program, the libraries that it names, and those that these name.
    fn read(root: &Root, program: &Path) -> io::Result<Self> {
        let mut found = Program::default();
        let mut waiting = VecDeque::from([program.to_owned()]);
        waiting.extend(modules(root, program));
        let mut seen: HashSet<PathBuf> = waiting.iter().cloned().collect();
        let folders = folders(root);
        let mut is_first = true;
        while let Some(path) = waiting.pop_front() {
            if seen.len() > FILES_MAX {
                return Err(io::Error::other("it has too many libraries"));
            }
            let file = match File::open(on_host(root, &path)) {
                Ok(file) => file,
                Err(error) if is_first || error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) => continue,
            };
            is_first = false;
            let mut libraries = HashSet::new();
            let mut reader = Runs {
                runs: &mut found.runs,
                libraries: &mut libraries,
                narrow: Vec::new(),
                wide: Vec::new(),
                file: Vec::new(),
                last: 1,
            };
            reader.read(file)?;
            for library in libraries {
                for folder in &folders {
                    let place = folder.join(&library);
                    if on_host(root, &place).is_file() && seen.insert(place.clone()) {
                        waiting.push_back(place);
                    }
                }
            }
        }
        Ok(found)
    }

    fn may_read(&self, name: &str) -> bool {
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers().get(name) {
            return *answer;
        }
        // Whatever stands before or behind it: ends of texts are shared, and lengths stand before some.
        let mut longer = self.runs.iter().filter(|run| run.len() >= name.len());
        let answer = longer.any(|run| run.windows(name.len()).any(|part| part == name.as_bytes()));
        let mut answers = answers();
        if answers.len() < KNOWN_MAX {
            answers.insert(name.to_owned(), answer);
        }
        answer
    }
}

/// Where the loader finds libraries, inside a root.
fn folders(root: &Root) -> Vec<PathBuf> {
    let of_root = root.binds.iter().map(|bind| Path::new("/").join(&bind.target));
    of_root.chain(["/var/lang/lib".into(), "/lib64".into(), "/usr/lib64".into()]).collect()
}

fn modules(root: &Root, program: &Path) -> Vec<PathBuf> {
    let name = program.file_name().unwrap_or_default();
    let library = Path::new("/var/lang/lib").join(name);
    if !on_host(root, &library).is_dir() {
        return Vec::new();
    }
    MODULES.iter().map(|module| library.join(module)).collect()
}

/// Where a file of a root is.
fn on_host(root: &Root, path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    let bound = root.binds.iter().filter_map(|bind| Some((bind, below.strip_prefix(&bind.target).ok()?)));
    match bound.max_by_key(|(bind, _)| bind.target.as_os_str().len()) {
        Some((bind, rest)) if rest.as_os_str().is_empty() => bind.source.clone(),
        Some((bind, rest)) => bind.source.join(rest),
        None => root.skeleton.join(below),
    }
}

/// Takes runs of name characters out of bytes: one byte a character, and two.
struct Runs<'a> {
    runs: &'a mut HashSet<Vec<u8>>,
    /// What looks like the name of a shared library.
    libraries: &'a mut HashSet<String>,
    narrow: Vec<u8>,
    wide: Vec<u8>,
    file: Vec<u8>,
    last: u8,
}

/// What a byte may be part of: a name, or no more than the name of a file.
const NAME: u8 = 2;
const FILE: u8 = 1;
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'A'..=b'Z' | b'0'..=b'9' | b'_' => NAME,
            b'a'..=b'z' | b'.' | b'+' | b'-' => FILE,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

impl Runs<'_> {
    fn read(&mut self, mut file: File) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => self.take(&buffer[..count]),
            }
        }
        // The end of the last run.
        self.take(&[0, 0, 0]);
        Ok(())
    }

    /// Most bytes of a program are part of nothing.
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let kind = KINDS[byte as usize];
            if kind == NAME {
                push(&mut self.narrow, byte);
                if self.last != 0 {
                    keep(&mut self.wide, self.runs);
                }
            } else {
                keep(&mut self.narrow, self.runs);
                if byte == 0 && KINDS[self.last as usize] == NAME {
                    push(&mut self.wide, self.last);
                } else {
                    keep(&mut self.wide, self.runs);
                }
            }
            if kind != 0 {
                push(&mut self.file, byte);
            } else if !self.file.is_empty() {
                self.end_file();
            }
            self.last = byte;
        }
    }

    fn end_file(&mut self) {
        if self.file.starts_with(b"lib") && self.file.windows(3).any(|part| part == b".so") {
            self.libraries.insert(String::from_utf8_lossy(&self.file).into_owned());
        }
        self.file.clear();
    }
}

/// What is longer is no name.
fn push(run: &mut Vec<u8>, byte: u8) {
    if run.len() == 2 * LONGEST {
        run.drain(..LONGEST);
    }
    run.push(byte);
}

fn keep(run: &mut Vec<u8>, runs: &mut HashSet<Vec<u8>>) {
    if run.is_empty() {
        return;
    }
    if run.len() >= SHORTEST && !runs.contains(run.as_slice()) {
        runs.insert(run.clone());
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use hearth_model::RootBind;

    use super::*;

    fn program(bytes: &[u8], libraries: &[(&str, &[u8])]) -> Program {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("program"), bytes).unwrap();
        for (name, bytes) in libraries {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let binds = vec![RootBind { source: folder.path().to_owned(), target: "usr/lib".into() }];
        let root = Root { skeleton: "/nowhere".into(), binds, whole: false };
        Program::read(&root, Path::new("/usr/lib/program")).unwrap()
    }

    #[test]
    fn a_name_is_found_however_it_is_held() {
        let wide: Vec<u8> = "READ_WIDE".bytes().flat_map(|byte| [byte, 0]).collect();
        let bytes = [b"\x01READ_NARROW\0zREAD_MORE\x04rXTAIL_SHARED\0".as_slice(), &wide, b"\xff libx.so.1\0"].concat();
        let found = program(&bytes, &[("libx.so.1", b"READ_BY_X\0liby.so\0"), ("liby.so", b"READ_BY_Y")]);
        for name in ["READ_NARROW", "READ_MORE", "TAIL_SHARED", "READ_WIDE", "READ_BY_X", "READ_BY_Y"] {
            assert!(found.may_read(name), "{name}");
        }
        assert!(!found.may_read("TABLE_NAME") && !found.may_read("READ_BY_Z"));
    }

    #[test]
    fn families_of_interpreters_and_the_loader_act_whatever_is_found() {
        let acting = [
            "NODE_EXTRA_CA_CERTS",
            "UV_THREADPOOL_SIZE",
            "TZ",
            "GLIBC_TUNABLES",
            "AWS_LAMBDA_EXEC_WRAPPER",
            "LD_PRELOAD",
            "PYTHONPATH",
            "LC_ALL",
            "OPENSSL_CONF",
            "SSL_CERT_FILE",
            "MALLOC_ARENA_MAX",
            "table",
            "A",
            "http_proxy",
            "_X",
        ];
        for name in acting {
            assert!(!may_be_inert(name), "{name}");
        }
        assert!(may_be_inert("TABLE_NAME") && may_be_inert("STAGE"));
    }

    #[test]
    fn only_words_and_numbers_are_part_of_a_recipe() {
        for (name, value) in [
            ("TZ", "Europe/Berlin"),
            ("TZ", ":UTC"),
            ("NODE_OPTIONS", "--enable-source-maps --max-old-space-size=400"),
            ("UV_THREADPOOL_SIZE", "8"),
            ("STAGE", "prod"),
            ("NODE_ENV", "production"),
        ] {
            assert!(says_no_file(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("TZ", "/var/task/zone"),
            ("TZ", "../zone"),
            ("NODE_OPTIONS", "--require ./x.js"),
            ("NODE_OPTIONS", "--inspect-brk"),
            ("NODE_OPTIONS", "--require=1"),
            ("NODE_OPTIONS", "--import=x"),
            ("NODE_OPTIONS", "-r x"),
            ("NODE_EXTRA_CA_CERTS", "ca"),
            ("LD_PRELOAD", "x"),
            ("PYTHONSTARTUP", "x"),
            ("STAGE", "a/b"),
            ("LANG", "C"),
        ] {
            assert!(!says_no_file(name, value), "{name}={value}");
        }
    }
}
