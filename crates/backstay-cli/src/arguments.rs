//! The command line, assembled from the arguments of each command.

use clap::{Parser, Subcommand};

use crate::config::ConfigCommand;
use crate::manual::{CompletionsArguments, ManArguments};
use crate::probe::ProbeArguments;
use crate::run::{GuardArguments, RunArguments};
use crate::serve::ServeArguments;
use crate::status::StatusArguments;

/// Fault tolerance from the outside, for unchanged programs in any language
#[derive(Debug, Parser)]
#[command(
    name = "backstay",
    version,
    arg_required_else_help = true,
    max_term_width = 120,
    after_help = "\
Examples:
  backstay run -- python bot.py            supervise a program: restart it on a crash or a freeze
  backstay probe /run/bot.heartbeat        check one heartbeat file; the exit code names the state
  backstay status --watch /run             watch all heartbeat files of a folder
  backstay serve                           the same in the browser, with metrics for Prometheus
  backstay config show                     print every setting and where it comes from"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArguments>),
    Probe(ProbeArguments),
    Status(StatusArguments),
    Serve(ServeArguments),
    #[command(subcommand)]
    Config(ConfigCommand),
    Completions(CompletionsArguments),
    Man(ManArguments),
    #[command(hide = true)]
    Guard(GuardArguments),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_refresh_interval_has_a_lower_bound() {
        let Command::Serve(serve) = Arguments::parse_from(["backstay", "serve", "--every", "1e-9"]).command else {
            panic!("another command")
        };
        assert_eq!(serve.every, Duration::from_millis(20));
        let Command::Status(status) = Arguments::parse_from(["backstay", "status", "--every", "0"]).command else {
            panic!("another command")
        };
        assert_eq!(status.every, Duration::from_millis(20));
    }

    // One option, one self-contained line: a noun phrase without a full stop, which no other option continues.
    #[test]
    fn every_option_has_a_help_line_of_its_own() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let name = format!("{} {}", command.get_name(), argument.get_id());
                assert!(help.chars().next().is_some_and(char::is_uppercase), "{name}: {help:?}");
                assert!(!help.contains("..") && !help.ends_with('.'), "{name}: {help:?}");
                assert!(help.chars().count() <= 110, "{name}: {help:?}");
            }
            command.get_subcommands().filter(|command| !command.is_hide_set()).for_each(check);
        }
        check(&Arguments::command());
    }
}
