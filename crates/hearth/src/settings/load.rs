//! From flags, variables, file and defaults to [`Settings`], in that order of precedence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Default, OTHER_VARIABLES, Settings, TABLE, file, flag_of, keys, nearest, variable_of};

/// Where the file is looked for when nobody names one.
const FILES: [&str; 2] = ["hearth.toml", "/etc/hearth/hearth.toml"];
/// Longest configuration file, bytes.
const FILE_MAX: u64 = 1 << 20;

/// The process environment, as a port.
pub trait Variables {
    /// `None` also when the variable is empty.
    fn get(&self, name: &str) -> Option<String>;
    /// Names that begin with `HEARTH_`.
    fn hearth_names(&self) -> Vec<String>;
}

/// The variables of this process.
pub struct ProcessVariables;

impl Variables for ProcessVariables {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
    }

    fn hearth_names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("HEARTH_"))
            .collect();
        names.sort();
        names
    }
}

/// What defaults depend on.
pub struct Host {
    pub root: bool,
    pub home: Option<PathBuf>,
    /// `XDG_DATA_HOME` and its like, absolute ones only.
    pub xdg: BTreeMap<&'static str, PathBuf>,
    /// `DOCKER_CONFIG`, a folder.
    pub docker: Option<PathBuf>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

impl Host {
    pub fn of(variables: &dyn Variables) -> Self {
        let path = |name| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Host {
            root: rustix::process::geteuid().is_root(),
            home: path("HOME"),
            xdg: ["XDG_DATA_HOME", "XDG_CACHE_HOME"].into_iter().filter_map(|n| Some((n, path(n)?))).collect(),
            docker: path("DOCKER_CONFIG"),
            memory: std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_memory),
        }
    }

    pub(super) fn folder(&self, of_root: &str, xdg: &'static str, below_home: &str) -> Result<String, String> {
        let base = match (self.root, self.xdg.get(xdg), &self.home) {
            (true, ..) => return Ok(of_root.to_owned()),
            (false, Some(base), _) => base.clone(),
            (false, None, Some(home)) => home.join(below_home),
            (false, None, None) => return Err(format!("neither {xdg} nor HOME is set")),
        };
        Ok(base.join("hearth").to_string_lossy().into_owned())
    }

    /// Root's own are not read: the server becomes another.
    pub(super) fn docker_credentials(&self) -> String {
        let folder = self.docker.clone().or_else(|| Some(self.home.as_ref()?.join(".docker")));
        match folder.filter(|_| !self.root) {
            Some(folder) => folder.join("config.json").to_string_lossy().into_owned(),
            None => String::new(),
        }
    }

    pub(super) fn memory_percent(&self, percent: u64) -> Result<String, String> {
        let memory = self.memory.ok_or("the host's memory is not known")?;
        Ok((memory / 100 * percent).to_string())
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Where settings come from.
pub struct Sources<'a> {
    /// (key, text) of the flags that were given.
    pub flags: Vec<(&'static str, String)>,
    /// `--config`.
    pub config: Option<PathBuf>,
    pub variables: &'a dyn Variables,
    pub host: Host,
}

/// The settings, and what the operator should hear about them.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// Why the server cannot be configured. All are wrong usage: status 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("{path}: unknown setting {key}; the nearest is {nearest}")]
    UnknownKey { path: String, key: String, nearest: &'static str },
    #[error("{origin}: {text:?} {reason} (setting {key})")]
    BadValue { origin: String, key: &'static str, text: String, reason: String },
    #[error("the setting {key} has no default here: {reason}")]
    NoDefault { key: &'static str, reason: String },
}

/// A value as it may be shown: of a URL, without user, password and parameters.
fn without_credentials(text: &str) -> String {
    let text = if text.contains("://") { text.split('?').next().unwrap_or_default() } else { text };
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}…@{after}")
        }
        None => text.to_owned(),
    }
}

struct Given {
    origin: String,
    text: String,
}

/// Flag, variable, file, default.
pub fn load(sources: Sources<'_>) -> Result<Loaded, SettingsError> {
    let mut given: BTreeMap<&'static str, Given> = BTreeMap::new();
    let file = config_file(&sources)?;
    if let Some((path, text)) = &file {
        let path = path.display().to_string();
        for (key, text) in file::leaves(&path, text)? {
            let key = known(&path, &key)?;
            given.insert(key, Given { origin: path.clone(), text });
        }
    }
    let warnings = take_variables(sources.variables, &mut given)?;
    for (key, text) in sources.flags {
        let origin = format!("--{}", flag_of(key));
        given.insert(key, Given { origin, text });
    }
    let settings = build(&sources.host, &given)?;
    Ok(Loaded { settings, file: file.map(|(path, _)| path), warnings })
}

fn build(host: &Host, given: &BTreeMap<&'static str, Given>) -> Result<Settings, SettingsError> {
    let text_of = |key| match given.get(key) {
        Some(given) => Ok(given.text.clone()),
        None => default_of(key, host).map_err(|reason| SettingsError::NoDefault { key, reason }),
    };
    let bad = |key, reason| match given.get(key) {
        Some(Given { origin, text }) => {
            SettingsError::BadValue { origin: origin.clone(), key, text: without_credentials(text), reason }
        }
        None => SettingsError::NoDefault { key, reason },
    };
    Settings::build(text_of, bad)
}

fn default_of(key: &str, host: &Host) -> Result<String, String> {
    let setting = TABLE.iter().find(|setting| setting.key == key).ok_or("it is not in the table")?;
    match &setting.default {
        Default::Text(text) => Ok((*text).to_owned()),
        Default::OfHost { find, .. } => find(host),
    }
}

/// The file that was named, else the first of the usual ones that is there.
fn config_file(sources: &Sources<'_>) -> Result<Option<(PathBuf, String)>, SettingsError> {
    let named = sources.config.clone().or_else(|| sources.variables.get("HEARTH_CONFIG").map(PathBuf::from));
    if let Some(path) = named {
        return match read(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(e) => Err(SettingsError::File { path: path.display().to_string(), reason: e.to_string() }),
        };
    }
    for path in FILES.map(PathBuf::from) {
        match read(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(SettingsError::File { path: path.display().to_string(), reason: e.to_string() }),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other("the file is larger than 1 MiB"));
    }
    Ok(text)
}

fn known(path: &str, key: &str) -> Result<&'static str, SettingsError> {
    if let Some(setting) = TABLE.iter().find(|setting| setting.key == key) {
        return Ok(setting.key);
    }
    let nearest = nearest(key, keys()).unwrap_or_default();
    Err(SettingsError::UnknownKey { path: path.to_owned(), key: key.to_owned(), nearest })
}

/// Takes the variables that are settings; answers a warning for each that is nothing.
fn take_variables(
    variables: &dyn Variables,
    given: &mut BTreeMap<&'static str, Given>,
) -> Result<Vec<String>, SettingsError> {
    for setting in TABLE {
        let origin = setting.variable();
        if let Some(text) = variables.get(&origin) {
            given.insert(setting.key, Given { origin, text });
        }
    }
    let others = OTHER_VARIABLES.iter().map(|name| (*name).to_owned());
    let known: Vec<String> = keys().map(variable_of).chain(others).collect();
    let warnings = variables
        .hearth_names()
        .into_iter()
        .filter(|name| !known.contains(name))
        .map(|name| {
            let nearest = nearest(&name, known.iter().map(String::as_str)).unwrap_or_default();
            format!("the variable {name} is not known and has no effect; the nearest is {nearest}")
        })
        .collect();
    Ok(warnings)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
