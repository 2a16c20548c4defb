//! The program: server, launcher and command line in one file.

mod cli;
mod client;
mod doctor;
mod documents;
mod keys;
mod pack;
mod serve;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: this process may have been started as the launcher, or to read a package.
    hearth_sandbox::launcher::main_if_asked();
    hearth_images::main_if_asked();
    let cli::Cli { global, command } = cli::parse();
    let done = match command {
        cli::Command::Serve(arguments) => serve::run(arguments),
        command => cli::run(&global, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
