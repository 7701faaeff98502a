//! The command line: every command with its own arguments.

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::manual::{Completions, Man};
use crate::probe::Probe;
use crate::run::{Guard, Run};
use crate::serve::Serve;
use crate::status::Status;

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
    Run(Box<Run>),
    Probe(Probe),
    Status(Status),
    Serve(Serve),
    #[command(subcommand)]
    Config(Config),
    Completions(Completions),
    Man(Man),
    #[command(hide = true)]
    Guard(Guard),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;
    use crate::run::Health;

    fn run(line: &[&str]) -> Result<Box<Run>, clap::Error> {
        match Arguments::try_parse_from([&["backstay", "run"], line].concat())?.command {
            Command::Run(run) => Ok(run),
            other => panic!("another command: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_comma_is_part_of_a_url() {
        let run = run(&["--health", "http://127.0.0.1:1/a,http", "--health", "output", "x"]).unwrap();
        assert!(matches!(&run.health[..], [Health::Http(_), Health::Output]), "{:?}", run.health);
    }

    #[test]
    fn an_invalid_health_url_is_rejected() {
        for url in ["http://h:0/", "https://h/", "HTTP://[zz]/"] {
            let error = run(&["--health", url, "x"]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("--health") && error.to_string().contains(url), "{error}");
        }
        assert!(run(&["--health", "HTTP://h/", "x"]).is_ok());
    }

    // CL-1: a misspelt option must not be executed as the program.
    #[test]
    fn an_unknown_option_before_the_program_is_an_error_with_a_suggestion() {
        for (line, meant) in [
            (&["--timout", "5", "--", "true"][..], "--timeout"),
            (&["--timout=5", "true"], "--timeout"),
            (&["--name", "x", "--backof", "1s", "--", "true"], "--backoff"),
        ] {
            let error = run(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("unexpected argument '") && text.contains(&format!("'{meant}'")), "{text}");
        }
        assert!(run(&["-x", "true"]).is_err());
    }

    #[test]
    fn options_after_the_program_are_its_own() {
        for line in [&["sh", "--timeout", "x", "-c"][..], &["--", "sh", "--timeout", "x", "-c"]] {
            assert_eq!(run(line).unwrap().command, ["sh", "--timeout", "x", "-c"]);
        }
        assert_eq!(run(&["--", "--odd-name", "-q"]).unwrap().command, ["--odd-name", "-q"]);
        assert_eq!(run(&["sh", "--", "-q"]).unwrap().command, ["sh", "--", "-q"]);
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
