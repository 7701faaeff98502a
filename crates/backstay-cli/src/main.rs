//! `backstay`: the five components for programs in any language, from the outside.

mod arguments;
mod config;
mod manual;
mod output;
mod places;
mod probe;
mod run;
mod serve;
mod status;
mod values;
mod verdict;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    let code = match Arguments::try_parse() {
        Ok(arguments) => match arguments.command {
            Command::Run(arguments) => run::run(*arguments),
            Command::Completions(arguments) => manual::completions(&arguments),
            Command::Man(arguments) => manual::man(&arguments),
            Command::Guard(arguments) => run::guard(&arguments),
            // These two are there for something else than what they print.
            Command::Probe(arguments) => return probe::probe(&arguments),
            Command::Serve(arguments) => return serve::serve(&arguments),
            Command::Status(arguments) => status::status(&arguments),
            Command::Config(arguments) => config::config(&arguments),
        },
        Err(error) => help_or_error(&error),
    };
    if output::has_failed() { ExitCode::FAILURE } else { code }
}

/// Help and version are asked for, and go to standard output.
fn help_or_error(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if !error.use_stderr() {
        output::written(printed);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
