//! `backstay`: supervises, probes and watches programs in any language.

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
use std::sync::Arc;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};

/// signal-hook has no name for it.
const SIGXFSZ: i32 = libc::SIGXFSZ;

fn main() -> ExitCode {
    survive_file_size_limits();
    let code = match Arguments::try_parse() {
        Ok(arguments) => match arguments.command {
            Command::Run(arguments) => run::run(*arguments),
            Command::Completions(arguments) => manual::completions(&arguments, Arguments::command()),
            Command::Man(arguments) => manual::man(&arguments, Arguments::command()),
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

/// Makes a write beyond `RLIMIT_FSIZE` fail (EFBIG) rather than end this process. A handler, unlike an ignored signal, is
/// not inherited: a program that is started has the default action back.
fn survive_file_size_limits() {
    let is_ignored = run::ignored_signals() >> (SIGXFSZ - 1) & 1 == 1;
    if !is_ignored {
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    }
}

/// Help and version are asked for, and go to standard output.
fn help_or_error(error: &clap::Error) -> ExitCode {
    let text = output::printable_lines(&error.render().to_string());
    if error.use_stderr() {
        let _ = io::stderr().write_all(text.as_bytes());
    } else {
        output::text(&text);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
