//! The grammar of the command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::Failure;
use super::deploy::DeployOptions;
use super::doctor::DoctorOptions;
use super::events::EventsCommand;
use super::explain::ExplainArguments;
use super::invoke::InvokeOptions;
use super::keys::KeysCommand;
use super::logs::LogsCommand;
use super::runtimes::RuntimesCommand;
use crate::settings::{self, TABLE};

/// AWS Lambda on your own machine.
///
/// Start a server with `hearth serve`, put a folder or zip into it with `hearth deploy PATH`, run it with
/// `hearth invoke NAME`. AWS's own tools work too: see `hearth env`.
#[derive(Parser)]
#[command(name = "hearth", version = super::version::TEXT, disable_help_subcommand = true, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Understood in any position.
#[derive(Args, Clone, Default)]
pub struct Global {
    /// The server [HEARTH_ENDPOINT, AWS_ENDPOINT_URL] [default: http://127.0.0.1:4566]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub endpoint: Option<String>,
    /// The region [AWS_REGION, AWS_DEFAULT_REGION] [default: us-east-1]
    #[arg(long, global = true, value_name = "REGION", help_heading = "Everywhere")]
    pub region: Option<String>,
    /// Answer with one JSON document
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Ask nothing
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub yes: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArguments),
    /// Create or update a function from a folder or zip
    Deploy(DeployOptions),
    /// Run a function and print its answer
    Invoke(InvokeOptions),
    /// Print a function's log, or search logs
    Logs(LogsCommand),
    /// List asynchronous events and what became of them
    #[command(subcommand)]
    Events(EventsCommand),
    /// List the functions
    List,
    /// Delete a function
    Delete {
        /// Name or ARN of the function
        name: String,
    },
    /// Print the variables that point AWS's tools at the server
    Env,
    /// Say why something is as it is
    Explain(ExplainArguments),
    /// List the runtimes that can run here; add, update and remove those of images and packages
    Runtimes {
        #[command(subcommand)]
        command: Option<RuntimesCommand>,
    },
    /// Say what this host enforces and what not
    Doctor(DoctorOptions),
    /// Make and change the key that encrypts a data folder
    #[command(subcommand)]
    Keys(KeysCommand),
    /// List every operation of AWS Lambda, and what Hearth does of it
    Coverage {
        /// Print the page docs/coverage.md
        #[arg(long, hide = true)]
        markdown: bool,
    },
    /// Print the version
    Version,
    /// Print a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

/// The flags of `serve`, one for each setting of the table.
#[derive(Clone, Default)]
pub struct ServeArguments {
    pub config: Option<PathBuf>,
    /// (key, text) of the settings that were given.
    pub flags: Vec<(&'static str, String)>,
}

impl Args for ServeArguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("The configuration file\n[HEARTH_CONFIG] [default: ./hearth.toml, else /etc/hearth/hearth.toml]");
        let settings = TABLE.iter().map(|setting| {
            Arg::new(setting.key)
                .long(setting.flag())
                .value_name(setting.kind)
                .allow_negative_numbers(true)
                .help(settings::help_of_flag(setting))
                .help_heading("Settings")
        });
        // Scripts append flags to their own: the last one counts.
        command.args_override_self(true).next_line_help(true).arg(config).args(settings)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(ServeArguments {
            config: matches.get_one::<String>("config").map(PathBuf::from),
            flags: settings::keys().filter_map(|key| Some((key, matches.get_one::<String>(key)?.clone()))).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Prints help, or what is wrong, and ends: status 0 or 2. An unknown flag of `serve` is answered with the nearest.
pub fn end_with(error: clap::Error) -> ! {
    let serving = std::env::args_os().any(|argument| argument == "serve");
    let unknown = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string);
    if let (ErrorKind::UnknownArgument, true, Some(flag)) = (error.kind(), serving, unknown) {
        let flags: Vec<String> = settings::keys().map(|key| format!("--{}", settings::flag_of(key))).collect();
        let nearest = settings::nearest(&flag, flags.iter().map(String::as_str)).unwrap_or_default();
        eprintln!("hearth: unknown flag {flag}; the nearest is {nearest} (hearth serve --help lists all)");
        std::process::exit(2);
    }
    error.exit()
}

pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hearth", &mut script);
    super::output::write(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            ["hearth", "--json", "--region", "eu-west-1", "list"],
            ["hearth", "list", "--json", "--region", "eu-west-1"],
        ] {
            let global = Cli::try_parse_from(line).ok().unwrap().global;
            assert!(global.json);
            assert_eq!(global.region.as_deref(), Some("eu-west-1"));
        }
    }

    #[test]
    fn every_setting_is_a_flag_of_serve() {
        for setting in TABLE {
            let flag = format!("--{}", setting.flag());
            let cli = Cli::try_parse_from(["hearth", "serve", &flag, "x"]).ok().unwrap();
            let Command::Serve(arguments) = cli.command else { panic!("not serve") };
            assert_eq!(arguments.flags, [(setting.key, "x".to_owned())]);
        }
    }
}
