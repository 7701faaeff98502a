//! The configuration of a process. Each test runs a child process, so the environment of this one does not change.

use std::process::Command;
use std::sync::Mutex;

use backstay::config::{Config, InstallError};
use backstay::{CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::Folder;

/// Runs the ignored test `name` of this file in a child process with the working folder `work` and the home folder
/// `home`. Returns its output lines that begin with `> `.
fn child(name: &str, folder: &Folder, variables: &[(&str, &str)]) -> Vec<String> {
    child_of(name, folder, variables, None)
}

/// [`child`] as the user of this number.
#[cfg_attr(not(unix), allow(unused_variables))]
pub(crate) fn child_of(name: &str, folder: &Folder, variables: &[(&str, &str)], user: Option<u32>) -> Vec<String> {
    for inner in ["work", "home"] {
        std::fs::create_dir_all(folder.path(inner)).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("process::{name}"), "--ignored", "--nocapture", "--test-threads=1"]);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("BACKSTAY_") {
            command.env_remove(variable);
        }
    }
    command.current_dir(folder.path("work")).env("HOME", folder.path("home")).envs(variables.iter().copied());
    #[cfg(unix)]
    if let Some(user) = user {
        std::os::unix::process::CommandExt::uid(&mut command, user);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| Some(folder.relative(&line[line.find("> ")? + 2..]))).collect()
}

fn say(text: impl std::fmt::Display) {
    println!("> {text}");
}

/// Prints every event of this crate.
#[derive(Default)]
struct Ear(Mutex<u64>);

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "backstay"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        let mut next = self.0.lock().unwrap();
        *next += 1;
        span::Id::from_u64(*next)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Message;
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    say(format_args!("{value:?}"));
                }
            }
        }
        event.record(&mut Message);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn listen() {
    tracing::subscriber::set_global_default(Ear::default()).unwrap();
}

fn timeout() -> String {
    match Config::load() {
        Ok(config) => {
            let setting = crate::setting(&config, "watchdog.timeout");
            format!("{} from {}", setting.value.unwrap(), setting.origin)
        }
        Err(error) => error.to_string().lines().next().unwrap().to_owned(),
    }
}

#[test]
#[ignore = "run by others"]
fn says_the_timeout() {
    say(timeout());
}

#[test]
#[ignore = "run by others"]
fn says_warnings_and_the_timeout() {
    listen();
    say(timeout());
}

pub(crate) fn section(timeout: &str) -> String {
    format!("resilience: {{watchdog: {{timeout: {timeout}}}}}")
}

// CF-1: the search order in a real process; in each folder `backstay.yml` takes precedence, and the files merge by key.
#[test]
fn the_search_begins_in_the_working_folder_and_ends_in_the_home_folder() {
    let variable = [("BACKSTAY_WATCHDOG__TIMEOUT", "11")];
    let mut folder = Folder::new();
    assert_eq!(child("says_the_timeout", &folder, &[]), ["30 from default"]);
    let mut timeout = 20;
    for place in ["home/.config", "home", "work"] {
        for file in ["kstlib.conf.yml", "backstay.yml"] {
            timeout -= 1;
            folder = folder.with(&format!("{place}/{file}"), section(&timeout.to_string()));
            let shown = place.replace("work", ".");
            assert_eq!(
                child("says_the_timeout", &folder, &[]),
                [format!("{timeout} from {shown}/{file}:1:34")],
                "{place}/{file}"
            );
        }
    }
    folder = folder.with("work/backstay.yml", "resilience: {heartbeat: {interval: 5}}");
    assert_eq!(child("says_the_timeout", &folder, &[]), ["15 from ./kstlib.conf.yml:1:34"], "merged by key");
    assert_eq!(
        child("says_the_timeout", &folder, &variable),
        ["11 from environment variable BACKSTAY_WATCHDOG__TIMEOUT"]
    );
    folder = folder.with("named.yml", section("15"));
    let named = folder.path("named.yml");
    let named = named.to_str().unwrap();
    assert_eq!(child("says_the_timeout", &folder, &[("BACKSTAY_CONFIG", named)]), ["15 from named.yml:1:34"]);
    assert_eq!(
        child("says_the_timeout", &folder, &[("BACKSTAY_CONFIG", "nowhere.yml")]),
        ["nowhere.yml: no such file, but BACKSTAY_CONFIG names it"]
    );
    // Without `HOME`, only the working folder is searched.
    std::fs::remove_dir_all(folder.path("work")).unwrap();
    assert_eq!(child("says_the_timeout", &folder, &[("HOME", "")]), ["30 from default"]);
}

#[test]
#[ignore = "run by others"]
fn loads_a_path() {
    listen();
    let timeout = |path: &str| match Config::from_path(path) {
        Ok(config) => crate::value(&config, "watchdog.timeout"),
        Err(error) => error.to_string(),
    };
    say(timeout("given.yml"));
    say(timeout("nowhere.yml"));
}

// CF-1: a path replaces the search and `BACKSTAY_CONFIG`; variables take precedence over it. Warnings are logged.
#[test]
fn a_path_replaces_the_search() {
    let folder = Folder::new()
        .with("work/backstay.yml", section("5"))
        .with("work/named.yml", section("6"))
        .with("work/given.yml", "resilience: {watchdog: {timeout: 0}}");
    let named = ("BACKSTAY_CONFIG", "named.yml");
    let warning = "given.yml:1:34: `resilience.watchdog.timeout` is 0, outside 1 to 3600; 1 is used";
    let missing = "nowhere.yml: no such file";
    assert_eq!(child("loads_a_path", &folder, &[named]), [warning, "1", missing]);
    assert_eq!(child("loads_a_path", &folder, &[named, ("BACKSTAY_WATCHDOG__TIMEOUT", "7")]), ["7", missing]);
}

#[test]
#[ignore = "run by others"]
fn loads_again_and_again() {
    say(timeout());
    std::fs::write("backstay.yml", section("7")).unwrap();
    say(timeout());
    std::fs::write("backstay.yml", section("8")).unwrap();
    say(timeout());
}

// CF-4: a loaded configuration is a value; it is not cached.
#[test]
fn each_load_reads_anew() {
    let folder = Folder::new().with("work/backstay.yml", section("soon"));
    let broken = "./backstay.yml:1:34: `resilience.watchdog.timeout` is the text \"soon\", but must be seconds from 1 to \
                  3600, or a text such as \"1m 30s\"";
    let said = child("loads_again_and_again", &folder, &[]);
    assert_eq!(said, [broken, "7 from ./backstay.yml:1:34", "8 from ./backstay.yml:1:34"]);
}

#[test]
#[ignore = "run by others"]
fn builds_without_a_configuration() {
    let limiter = RateLimiter::builder(10).name("search").build().unwrap();
    say(format_args!("{:?} {}", limiter.per(), limiter.burst()));
    let keyed = backstay::KeyedRateLimiter::<u32>::builder(10).name("search").build().unwrap();
    say(format_args!("{:?}", keyed.quota().per()));
    say(format_args!("{:?}", GracefulShutdown::new().timeout()));
    say(format_args!("{:?}", Heartbeat::builder().state_file("beat").build().unwrap().interval()));
    say(format_args!("{:?}", Watchdog::builder().build().unwrap().timeout()));
    say(failures(&CircuitBreaker::builder().build().unwrap()));
    say(failures(&CircuitBreaker::named("a").unwrap()));
    say(RateLimiter::named("search").unwrap().rate());
    say(format_args!("{:?}", Watchdog::named("a").unwrap().timeout()));
}

// CF-4: no builder and no named instance reads a file or a variable by itself, valid or not.
#[test]
fn nothing_is_read_without_a_call_of_load() {
    let folder = Folder::new()
        .with(
            "work/kstlib.conf.yml",
            "\
resilience:
  circuit_breaker: {max_failures: 2}
  rate_limiter: {default_rate: 7, default_per: 60, instances: {search: {rate: 3, per: 9, burst: 4}}}
  shutdown: {timeout: 60}
  heartbeat: {interval: 20}
  watchdog: {timeout: 20}
",
        )
        .with("work/broken.yml", "resilience: [");
    let defaults = ["1s 10", "1s", "30s", "10s", "30s", "5", "5", "10", "30s"];
    let told = [("BACKSTAY_WATCHDOG__TIMEOUT", "5"), ("BACKSTAY_RATE_LIMITER__DEFAULT_RATE", "2")];
    assert_eq!(child("builds_without_a_configuration", &folder, &told), defaults);
    assert_eq!(child("builds_without_a_configuration", &folder, &[("BACKSTAY_CONFIG", "broken.yml")]), defaults);
}

/// Returns how many failures open the circuit.
fn failures(breaker: &CircuitBreaker) -> usize {
    let fails = || breaker.call(|| Err::<(), _>("failed"));
    (1..=100).find(|_| fails().is_err() && breaker.state() == backstay::CircuitState::Open).unwrap()
}

#[test]
#[ignore = "run by others"]
fn installs_and_asks_for_named_ones() {
    Config::load().unwrap().install().unwrap();
    let breaker = CircuitBreaker::named("payment-api").unwrap();
    say(format_args!("{} {}", breaker.name().unwrap(), failures(&breaker)));
    say(format_args!("the same: {:?}", CircuitBreaker::named("payment-api").unwrap().state()));
    say(format_args!("another: {}", failures(&CircuitBreaker::named("other").unwrap())));
    say(format_args!("built: {}", failures(&CircuitBreaker::builder().name("payment-api").build().unwrap())));
    let limiter = RateLimiter::named("search").unwrap();
    say(format_args!("{} in {:?}, {} at once", limiter.rate(), limiter.per(), limiter.burst()));
    assert!(limiter.try_acquire() && RateLimiter::named("search").unwrap().stats().acquired == 1);
    let limiter = RateLimiter::named_with("mail", |builder| builder.rate(1).build()).unwrap();
    say(format_args!("{} in {:?}, {} at once", limiter.rate(), limiter.per(), limiter.burst()));
    let [worker, other] = ["worker", "other"].map(|name| Watchdog::named(name).unwrap().timeout());
    say(format_args!("{worker:?} {other:?}"));
}

// CF-3: with an installed configuration a named instance has its own settings, then the section's, and is shared; a
// builder does not use the installed configuration.
#[test]
fn named_instances_are_configured_and_shared() {
    let folder = Folder::new().with(
        "work/backstay.yml",
        "\
resilience:
  circuit_breaker:
    max_failures: 4
    instances:
      payment-api: {max_failures: 3}
  watchdog:
    instances: {worker: {timeout: 7}}
  rate_limiter:
    default_rate: 6
    default_per: 60
    instances: {search: {rate: 7, burst: 8}}
",
    );
    assert_eq!(
        child("installs_and_asks_for_named_ones", &folder, &[]),
        [
            "payment-api 3",
            "the same: Open",
            "another: 4",
            "built: 5",
            "7 in 60s, 8 at once",
            "1 in 60s, 1 at once",
            "7s 30s"
        ]
    );
}

#[test]
#[ignore = "run by others"]
fn installs_twice() {
    let config = Config::load().unwrap();
    say(format_args!("{:?}", config.install()));
    CircuitBreaker::named("a").unwrap();
    assert_eq!(Config::default().install(), Err(InstallError::AlreadyInstalled));
    say(Config::default().install().unwrap_err());
    say(failures(&CircuitBreaker::named("a").unwrap()));
}

#[test]
#[ignore = "run by others"]
fn installs_too_late() {
    let breaker = CircuitBreaker::named("payment-api").unwrap();
    CircuitBreaker::named("another").unwrap();
    let config = Config::load().unwrap();
    say(config.install().unwrap_err());
    say(config.install().unwrap_err());
    say(failures(&breaker));
    say(failures(&CircuitBreaker::named("later").unwrap()));
}

// CF-3: a configuration is installed once, before its first user; the error names that user.
#[test]
fn a_configuration_is_installed_once_and_first() {
    let folder = Folder::new().with("work/backstay.yml", "resilience: {circuit_breaker: {max_failures: 3}}");
    assert_eq!(child("installs_twice", &folder, &[]), ["Ok(())", "a configuration is already installed", "3"]);
    let late = "cannot install a configuration: circuit breaker \"payment-api\" is already in use with the defaults";
    assert_eq!(child("installs_too_late", &folder, &[]), [late, late, "5", "5"]);
}

#[cfg(feature = "macros")]
mod attributes {
    use super::*;

    #[backstay::rate_limiter]
    fn limited() -> &'static str {
        "called"
    }

    #[backstay::circuit_breaker(reset_timeout = 60)]
    fn fails() -> Result<(), backstay::CallError<&'static str>> {
        Err(backstay::CallError::Inner("failed"))
    }

    #[test]
    #[ignore = "run by others"]
    fn calls_after_an_installation() {
        Config::load().unwrap().install().unwrap();
        say(limited());
        say((1..).find(|_| fails().unwrap_err().rejection().is_some()).unwrap());
    }

    #[test]
    #[ignore = "run by others"]
    fn calls_before_an_installation() {
        say((1..).find(|_| fails().unwrap_err().rejection().is_some()).unwrap());
        say(Config::default().install().unwrap_err());
    }

    // CF-3: attributes use the installed configuration; without one the defaults, and then none can be installed.
    #[test]
    fn attributes_use_the_installed_configuration() {
        let folder = Folder::new().with("work/backstay.yml", "resilience: {circuit_breaker: {max_failures: 3}}");
        assert_eq!(child("attributes::calls_after_an_installation", &folder, &[]), ["called", "4"]);
        assert_eq!(
            child("attributes::calls_before_an_installation", &folder, &[]),
            [
                "6",
                "cannot install a configuration: function \"config::process::attributes::fails\" is already in use with \
                 the defaults"
            ]
        );
    }

    // ALL-1: an attribute's function is called, with any configuration: here with a rate that cannot be counted.
    #[test]
    fn no_configuration_makes_a_limited_function_panic() {
        let text = "resilience: {rate_limiter: {default_rate: 1e300}, circuit_breaker: {max_failures: 1}}";
        let folder = Folder::new().with("work/backstay.yml", text);
        assert_eq!(child("attributes::calls_after_an_installation", &folder, &[]), ["called", "2"]);
    }
}
