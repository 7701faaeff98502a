//! The options of `run`, by precedence: command line, configuration of this name, configuration of `run`, defaults.

use std::time::Duration;

use backstay::config::{Config, Setting, Value};
use clap::ValueEnum;

use super::arguments::RunArguments;
use super::event::Restart;
use super::restart_limiter::RestartLimits;

pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) on_freeze_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) restart: Restart,
    pub(crate) restart_limits: RestartLimits,
}

impl Options {
    pub(crate) fn new(given: &RunArguments, name: &str, config: &Config) -> Self {
        let configured = Configured { settings: config.settings().collect(), name };
        // Every key except `start_timeout` has a default.
        let time = |given: Option<Duration>, key| given.or_else(|| configured.time(key)).unwrap_or_default();
        let count = |given: Option<u32>, key| given.or_else(|| configured.count(key)).unwrap_or(1);
        let timeout = time(given.timeout, "timeout");
        Self {
            timeout,
            start_timeout: given.start_timeout.or_else(|| configured.time("start_timeout")).unwrap_or(timeout),
            on_freeze_timeout: time(given.on_freeze_timeout, "on_freeze_timeout"),
            grace: time(given.grace, "grace"),
            restart: given.restart.or_else(|| configured.restart()).unwrap_or(Restart::OnFailure),
            restart_limits: RestartLimits {
                backoff: time(given.backoff, "backoff"),
                max_backoff: time(given.max_backoff, "max_backoff"),
                min_uptime: time(given.min_uptime, "min_uptime"),
                restarts: count(given.max_restarts, "max_restarts"),
                per: time(given.per, "per"),
                crashes: count(given.max_crashes, "max_crashes"),
                cooldown: time(given.cooldown, "cooldown"),
            },
        }
    }
}

struct Configured<'a> {
    settings: Vec<Setting>,
    name: &'a str,
}

impl Configured<'_> {
    fn value(&self, key: &str) -> Option<Value> {
        let find =
            |key: &str| self.settings.iter().find(|setting| setting.key == key).and_then(|setting| setting.value);
        find(&format!("run.instances.{}.{key}", self.name)).or_else(|| find(&format!("run.{key}")))
    }

    fn time(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Seconds(time) => Some(time),
            _ => None,
        }
    }

    fn count(&self, key: &str) -> Option<u32> {
        match self.value(key)? {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }

    fn restart(&self) -> Option<Restart> {
        match self.value("restart")? {
            Value::Word(word) => Restart::from_str(word, false).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay::Heartbeat;
    use backstay::clock::Clock;
    use backstay::config::Sources;

    use super::*;
    use crate::run::restart_limiter::RestartLimiter;

    fn options(line: &[&str], variables: &[(&str, &str)]) -> Options {
        let sources = variables.iter().fold(Sources::none(), |sources, (name, value)| sources.variable(name, value));
        let run = RunArguments::parse(&[line, &["x"]].concat()).unwrap();
        Options::new(&run, "bot", &Config::from_sources(&sources).unwrap())
    }

    // CF-1: argument, variable, default.
    #[test]
    fn the_command_line_takes_precedence() {
        let configured = [("BACKSTAY_RUN__GRACE", "40"), ("BACKSTAY_RUN__RESTART", "always")];
        assert_eq!(options(&["--grace", "5"], &configured).grace, Duration::from_secs(5));
        assert_eq!(options(&[], &configured).grace, Duration::from_secs(40));
        assert_eq!(options(&[], &configured).restart, Restart::Always);
        assert_eq!(options(&[], &[]).restart, Restart::OnFailure);
        assert_eq!(options(&["--timeout", "7"], &[]).start_timeout, Duration::from_secs(7));
    }

    #[test]
    fn out_of_range_values_are_rejected() {
        for (option, value) in [
            ("--per", "1e18"),
            ("--per", "1e-9"),
            ("--per", "0"),
            ("--cooldown", "1e18"),
            ("--cooldown", "1e-9"),
            ("--max-crashes", "2000000"),
            ("--max-crashes", "0"),
            ("--max-restarts", "4000000000"),
            ("--interval", "1e18"),
            ("--interval", "1e-9"),
        ] {
            let error = RunArguments::parse(&[option, value, "x"]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("'{option} <")), "{error}");
        }
    }

    #[test]
    fn accepted_values_can_be_used() {
        let clock = Clock::system();
        let times = ["1ms", "876000h"];
        let counts = ["1", "1000000"];
        for (per, open) in times.iter().flat_map(|per| times.map(|open| (per, open))) {
            for (restarts, crashes) in counts.iter().flat_map(|restarts| counts.map(|crashes| (restarts, crashes))) {
                let line = ["--per", per, "--cooldown", open, "--max-restarts", restarts, "--max-crashes", crashes];
                let limiter = RestartLimiter::new(options(&line, &[]).restart_limits, &clock, 1);
                assert!(limiter.is_ok(), "{line:?}: {limiter:?}");
            }
        }
        for interval in ["1ms", "24h"] {
            let run = RunArguments::parse(&["--interval", interval, "x"]).unwrap();
            assert!(Heartbeat::builder().state_file("x").interval(run.interval.unwrap()).build().is_ok(), "{interval}");
        }
    }

    // The help agrees with the table of configuration keys.
    #[test]
    fn the_help_shows_the_defaults() {
        let config = Config::from_sources(&Sources::none()).unwrap();
        let run = RunArguments::description();
        for setting in config.settings().filter(|setting| setting.key.starts_with("run.")) {
            let name = setting.key["run.".len()..].replace('_', "-");
            let help = run.get_arguments().find(|argument| argument.get_long() == Some(&name)).unwrap();
            let help = help.get_help().unwrap().to_string();
            let shown = match setting.value {
                None => continue,
                Some(Value::Seconds(time)) if time.as_secs() % 60 == 0 => format!("{}m", time.as_secs() / 60),
                Some(Value::Seconds(time)) => format!("{}s", time.as_secs()),
                Some(value) => value.to_string(),
            };
            assert!(help.ends_with(&format!("[default: {shown}]")), "{name}: {help}");
        }
    }
}
