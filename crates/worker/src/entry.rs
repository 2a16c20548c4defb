//! What is started first in an environment, and how it is called: a runtime's bootstrap, or the process of an image.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use hearth_model::{ErrorType, ImageProgram, PlatformRecord, Root, Runtime, RuntimeEntry, RuntimeTree};
use hearth_sandbox::Exit;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::failure::Cause;

const EXEC_WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";
/// Where a program without a slash in its name is looked for, when nothing says so (as container engines have it).
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) enum Entry {
    Runtime {
        /// As the function has it; the tree may be another's, by substitution.
        asked: Runtime,
        tree: Arc<RuntimeTree>,
    },
    Image {
        program: ImageProgram,
        root: Arc<Root>,
        /// The root stays on disk.
        _lease: Arc<dyn std::any::Any + Send + Sync>,
    },
}

impl Entry {
    pub fn root(&self) -> &Arc<Root> {
        match self {
            Entry::Runtime { tree, .. } => &tree.root,
            Entry::Image { root, .. } => root,
        }
    }

    /// Commands to try, in order, while the program is not there.
    pub fn commands(&self, variables: &[(String, String)]) -> Vec<Vec<String>> {
        match self {
            Entry::Runtime { tree, .. } => match &tree.entry {
                RuntimeEntry::OfPackage => {
                    vec![vec!["/var/task/bootstrap".to_owned()], vec!["/opt/bootstrap".to_owned()]]
                }
                RuntimeEntry::Own(command) => vec![command.clone()],
                RuntimeEntry::Hearths(command) => {
                    let wrapper = wrapper(variables).map(str::to_owned);
                    vec![wrapper.into_iter().chain(command.iter().cloned()).collect()]
                }
            },
            Entry::Image { program, .. } => {
                let (entry_point, command) = image_command(program);
                let mut words = entry_point.iter().chain(command);
                let Some(name) = words.next() else { return Vec::new() };
                let arguments: Vec<String> = words.cloned().collect();
                let places = places(name, &self.working_directory(), variable(variables, "PATH").unwrap_or(PATH));
                places.into_iter().map(|place| [vec![place], arguments.clone()].concat()).collect()
            }
        }
    }

    pub fn working_directory(&self) -> Cow<'_, str> {
        let Entry::Image { program, .. } = self else { return "/var/task".into() };
        let given = program.overrides.working_directory.as_ref().filter(|given| !given.is_empty());
        let text = given.unwrap_or(&program.image.process.working_directory);
        if text.starts_with('/') { text.into() } else { format!("/{text}").into() }
    }

    /// Variables that came with a language; extensions do not see them.
    pub fn is_of_language(&self, key: &str, value: &str) -> bool {
        match self {
            Entry::Runtime { tree, .. } if matches!(tree.entry, RuntimeEntry::Hearths(_)) => {
                tree.variables.iter().any(|(k, v)| (k.as_str(), v.as_str()) == (key, value))
            }
            Entry::Runtime { .. } | Entry::Image { .. } => false,
        }
    }

    /// Why none of the commands could be started, when no program was there.
    pub fn nothing_to_execute(&self, tried: &[Vec<String>], variables: &[(String, String)]) -> Cause {
        let missing = io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
        match self {
            Entry::Runtime { tree, .. } => {
                if matches!(tree.entry, RuntimeEntry::Hearths(_)) && wrapper(variables).is_some() {
                    // AWS starts a wrapper from a shell, which ends like this.
                    return Cause::exit(Exit::Code(127));
                }
                let programs: Vec<String> = tried.iter().filter_map(|command| command.first().cloned()).collect();
                Cause::no_bootstrap(&programs)
            }
            Entry::Image { program, root, .. } => {
                let directory = self.working_directory();
                if !is_folder(root, &directory) {
                    let message = format!("chdir {directory}: no such file or directory");
                    return Cause::platform(ErrorType::INVALID_WORKING_DIRECTORY, message);
                }
                let (entry_point, command) = image_command(program);
                let name = entry_point.iter().chain(command).next().map_or("", String::as_str);
                Cause::not_executable(ErrorType::INVALID_ENTRYPOINT, name, &missing)
            }
        }
    }

    /// Said when a runtime other than the one asked for runs the function.
    pub fn substituted(&self) -> Option<PlatformRecord> {
        match self {
            Entry::Runtime { asked, tree } => {
                (*asked != tree.runtime).then_some(PlatformRecord::Substituted { asked: *asked, running: tree.runtime })
            }
            Entry::Image { .. } => None,
        }
    }
}

/// Entry point and command; what a function gives takes the place of what its image says, each by itself.
fn image_command(program: &ImageProgram) -> (&[String], &[String]) {
    let (overrides, process) = (&program.overrides, &program.image.process);
    let entry_point = overrides.entry_point.as_ref().unwrap_or(&process.entry_point);
    (entry_point, overrides.command.as_ref().unwrap_or(&process.command))
}

/// Where a program may be that is called by this name.
fn places(name: &str, directory: &str, path: &str) -> Vec<String> {
    if name.starts_with('/') {
        return vec![name.to_owned()];
    }
    let below = |folder: &str| format!("{}/{name}", folder.trim_end_matches('/'));
    if name.contains('/') {
        return vec![below(directory)];
    }
    path.split(':').filter(|folder| folder.starts_with('/')).map(below).collect()
}

/// Whether something else than the runtime's own command is executed.
pub(crate) fn is_wrapped(variables: &[(String, String)]) -> bool {
    wrapper(variables).is_some()
}

/// A managed runtime's command line is executed by this program, if there is one (spec 3.1).
fn wrapper(variables: &[(String, String)]) -> Option<&str> {
    variable(variables, EXEC_WRAPPER).filter(|value| !value.is_empty())
}

fn variable<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether a path is a folder inside a root; links lead where they lead there.
fn is_folder(root: &Root, path: &str) -> bool {
    let open = || {
        let root = rustix::fs::open(&root.skeleton, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    open().is_ok()
}

#[cfg(test)]
mod tests {
    use hearth_model::{CodeHash, Image, ImageOverrides, ImageProcess};

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn image(entry_point: &[&str], command: &[&str], overrides: ImageOverrides) -> Entry {
        let process = ImageProcess {
            entry_point: texts(entry_point),
            command: texts(command),
            working_directory: "/app".to_owned(),
            ..ImageProcess::default()
        };
        let image = Image { uri: "h/n".to_owned(), digest: CodeHash([0; 32]), layers: Vec::new(), process };
        let root = Arc::new(Root { skeleton: "/nowhere".into(), binds: Vec::new(), whole: true });
        Entry::Image { program: ImageProgram { image: Arc::new(image), overrides }, root, _lease: Arc::new(()) }
    }

    #[test]
    fn an_entry_point_is_followed_by_the_command_and_each_is_replaced_by_itself() {
        let run = |overrides| image(&["/e", "x"], &["c"], overrides).commands(&[]);
        assert_eq!(run(ImageOverrides::default()), [texts(&["/e", "x", "c"])]);
        let command = ImageOverrides { command: Some(texts(&["d", "e"])), ..ImageOverrides::default() };
        assert_eq!(run(command), [texts(&["/e", "x", "d", "e"])]);
        let entry_point = ImageOverrides { entry_point: Some(texts(&["/f"])), ..ImageOverrides::default() };
        assert_eq!(run(entry_point), [texts(&["/f", "c"])]);
    }

    #[test]
    fn a_program_is_found_by_its_path_its_folder_or_the_variable() {
        let at = |name: &str, variables: &[(String, String)]| {
            let commands = image(&[name], &[], ImageOverrides::default()).commands(variables);
            commands.into_iter().map(|command| command[0].clone()).collect::<Vec<_>>()
        };
        assert_eq!(at("/bin/app", &[]), ["/bin/app"]);
        assert_eq!(at("bin/app", &[]), ["/app/bin/app"]);
        assert_eq!(at("app", &[("PATH".to_owned(), "/a/:relative:/b".to_owned())]), ["/a/app", "/b/app"]);
        assert!(at("app", &[]).contains(&"/usr/bin/app".to_owned()));
        assert!(image(&[], &[], ImageOverrides::default()).commands(&[]).is_empty());
    }

    #[test]
    fn a_working_directory_is_absolute() {
        let of = |given: Option<&str>| {
            let overrides = ImageOverrides { working_directory: given.map(str::to_owned), ..ImageOverrides::default() };
            image(&["/e"], &[], overrides).working_directory().into_owned()
        };
        assert_eq!([None, Some("/srv"), Some("srv"), Some("")].map(of), ["/app", "/srv", "/srv", "/app"]);
    }
}
