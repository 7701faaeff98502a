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
mod verdict;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
        Command::Guard(arguments) => run::guard(&arguments),
        Command::Probe(arguments) => probe::probe(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Config(arguments) => config::config(&arguments),
    }
}
