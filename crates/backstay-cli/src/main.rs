//! `backstay`: supervises, probes and watches programs in any language.

mod arguments;
mod config;
mod heartbeats;
mod manual;
mod output;
mod probe;
mod run;
mod serve;
mod status;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};

/// signal-hook does not define this signal.
const SIGXFSZ: i32 = libc::SIGXFSZ;

fn main() -> ExitCode {
    survive_file_size_limits();
    let code = match Arguments::try_parse() {
        Ok(arguments) => match arguments.command {
            Command::Run(arguments) => run::run(*arguments),
            Command::Completions(arguments) => manual::completions(&arguments, Arguments::command()),
            Command::Man(arguments) => manual::man(&arguments, Arguments::command()),
            Command::Guard(arguments) => run::guard(&arguments),
            // The exit code of these two does not depend on whether their output could be written.
            Command::Probe(arguments) => return probe::probe(&arguments),
            Command::Serve(arguments) => return serve::serve(&arguments),
            Command::Status(arguments) => status::status(&arguments),
            Command::Config(arguments) => config::config(&arguments),
        },
        Err(error) => help_or_error(&error),
    };
    if output::has_failed() { ExitCode::FAILURE } else { code }
}

/// Makes a write beyond `RLIMIT_FSIZE` fail with EFBIG instead of ending this process. This uses a handler because a child
/// process inherits an ignored signal but no handler: the supervised program keeps the default action.
fn survive_file_size_limits() {
    let is_ignored = run::ignored_signals() >> (SIGXFSZ - 1) & 1 == 1;
    if !is_ignored {
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    }
}

/// Prints help and version to standard output, and errors to standard error.
fn help_or_error(error: &clap::Error) -> ExitCode {
    let text = output::printable_lines(&error.render().to_string());
    if error.use_stderr() {
        let _ = io::stderr().write_all(text.as_bytes());
    } else {
        output::text(&text);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
