//! What holds for a whole process, each in one of its own: nothing here changes this one's environment.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use backstay::config::Config;
use backstay::{BuildError, CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::Folder;

/// Runs the test `name` of this file, which is ignored otherwise, in a process whose working folder is `work` and home
/// folder `home`; gives back what it said on lines that begin with `> `.
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

/// Says every event of this crate.
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
    match Config::current() {
        Ok(config) => {
            let setting = crate::setting(config, "watchdog.timeout");
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

// CF-1: the whole order, in a real process.
#[test]
fn the_search_goes_from_here_to_home() {
    let variable = [("BACKSTAY_WATCHDOG__TIMEOUT", "11")];
    let mut folder = Folder::new();
    assert_eq!(child("says_the_timeout", &folder, &[]), ["30 from default"]);
    folder = folder.with("home/.config/kstlib.conf.yml", section("14"));
    assert_eq!(child("says_the_timeout", &folder, &[]), ["14 from home/.config/kstlib.conf.yml:1:34"]);
    folder = folder.with("home/kstlib.conf.yml", section("13"));
    assert_eq!(child("says_the_timeout", &folder, &[]), ["13 from home/kstlib.conf.yml:1:34"]);
    folder = folder.with("work/kstlib.conf.yml", section("12"));
    assert_eq!(child("says_the_timeout", &folder, &[]), ["12 from ./kstlib.conf.yml:1:34"]);
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
    // No home, no files there.
    std::fs::remove_file(folder.path("work/kstlib.conf.yml")).unwrap();
    assert_eq!(child("says_the_timeout", &folder, &[("HOME", "")]), ["30 from default"]);
}

#[test]
#[ignore = "run by others"]
fn asks_from_many_threads() {
    listen();
    let together = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                (0..10).for_each(|_| assert_eq!(Config::current().unwrap().warnings().len(), 2));
            });
        }
    });
}

// CF-4: each warning is logged once, however many ask and however often the file is found.
#[test]
fn each_warning_is_logged_once() {
    // Long enough to read that all are at it before one is done.
    let other: String = (0..2000).map(|i| format!("k{i}: v\n")).collect();
    let text = format!("resilience: {{watchdog: {{timeout: 0, timeuot: 5}}}}\n{other}");
    let folder = Folder::new().with("work/kstlib.conf.yml", text);
    let home = folder.path("work");
    assert_eq!(
        child("asks_from_many_threads", &folder, &[("HOME", home.to_str().unwrap())]),
        [
            "./kstlib.conf.yml:1:37: `resilience.watchdog.timeuot` is not known and is ignored; did you mean `timeout`?",
            "./kstlib.conf.yml:1:34: `resilience.watchdog.timeout` is 0, outside 1 to 3600; 1 is used",
        ]
    );
}

#[test]
#[ignore = "run by others"]
fn corrects_the_file() {
    let file = Path::new("kstlib.conf.yml");
    say(timeout());
    say(timeout());
    std::fs::write(file, section("7")).unwrap();
    say(timeout());
    std::fs::write(file, section("8")).unwrap();
    say(timeout());
}

// CF-4: a broken file is broken for everyone who asks, until it is corrected; what was read is kept.
#[test]
fn errors_are_not_kept_and_values_are() {
    let folder = Folder::new().with("work/kstlib.conf.yml", section("soon"));
    let broken = "./kstlib.conf.yml:1:34: `resilience.watchdog.timeout` is the text \"soon\", but must be seconds from 1 \
                  to 3600, or a text such as \"1m 30s\"";
    let read = "7 from ./kstlib.conf.yml:1:34";
    assert_eq!(child("corrects_the_file", &folder, &[]), [broken, broken, read, read]);
}

/// The first line of what came of building something.
fn built<T>(result: Result<T, BuildError>) -> String {
    result.map_or_else(|error| error.to_string().lines().next().unwrap().to_owned(), |_| "built".to_owned())
}

#[test]
#[ignore = "run by others"]
fn builds_what_is_told_everything() {
    let second = Duration::from_secs(1);
    let breaker = || CircuitBreaker::builder().max_failures(1).reset_timeout(second).half_open_max_calls(1);
    say(built(breaker().half_open_timeout(second).cancellation_is_failure(false).build()));
    say(built(RateLimiter::builder(10).per(second).build()));
    say(built(RateLimiter::builder(10).per(second).burst(5).name("a").build()));
    say(built(GracefulShutdown::builder().timeout(second).drain_delay(second).force_exit_code(1).build()));
    say(built(Heartbeat::builder().state_file("beat").interval(second).build()));
    say(built(Watchdog::builder().timeout(second).build()));
}

#[test]
#[ignore = "run by others"]
fn builds_what_is_not() {
    let second = Duration::from_secs(1);
    say(built(CircuitBreaker::builder().max_failures(1).reset_timeout(second).build()));
    say(built(CircuitBreaker::builder().max_failures(1).half_open_max_calls(1).build()));
    say(built(CircuitBreaker::builder().half_open_max_calls(1).reset_timeout(second).build()));
    say(built(RateLimiter::configured().build()));
    say(built(RateLimiter::configured().per(second).build()));
    say(built(GracefulShutdown::builder().timeout(second).drain_delay(second).build()));
    say(built(GracefulShutdown::builder().timeout(second).force_exit_code(1).build()));
    say(built(GracefulShutdown::builder().drain_delay(second).force_exit_code(1).build()));
    say(built(Heartbeat::builder().state_file("beat").build()));
    say(built(Watchdog::builder().build()));
    say(built(CircuitBreaker::named("a")));
    say(built(RateLimiter::named("a")));
    say(built(Watchdog::named("a")));
}

// CF-4: what is told every value never looks at a file; what is not does, and says that it is broken.
#[test]
fn files_are_read_only_when_a_value_is_missing() {
    let folder = Folder::new().with("work/broken.yml", "resilience: [");
    let variables = [("BACKSTAY_CONFIG", "broken.yml")];
    let told = child("builds_what_is_told_everything", &folder, &variables);
    assert!(!told.is_empty() && told.iter().all(|said| said == "built"), "{told:?}");
    let not = child("builds_what_is_not", &folder, &variables);
    assert!(!not.is_empty() && not.iter().all(|said| said == "broken.yml:1:13: unclosed bracket '['"), "{not:?}");
}

#[test]
#[ignore = "run by others"]
fn builds_one_of_each() {
    for _ in 0..2 {
        say(built(CircuitBreaker::builder().build()));
        say(built(GracefulShutdown::builder().build()));
        say(built(Heartbeat::builder().build()));
        say(built(Watchdog::builder().build()));
        say(built(RateLimiter::configured().build()));
    }
    say(Config::current().map_or_else(|error| error.to_string().lines().next().unwrap().to_owned(), |_| "read".into()));
}

// CF-4: what is wrong with one component breaks whoever needs that one, and nobody else; the whole is broken all the same.
#[test]
fn a_broken_section_breaks_those_who_read_it() {
    let text = "resilience: {heartbeat: {interval: soon}, watchdog: {timeout: 0}}";
    let folder = Folder::new().with("work/kstlib.conf.yml", text);
    let interval = "./kstlib.conf.yml:1:36: `resilience.heartbeat.interval` is the text \"soon\", but must be seconds from \
                    1 to 300, or a text such as \"1m 30s\"";
    let drain = "environment variable BACKSTAY_SHUTDOWN__DRAIN_DELAY: `resilience.shutdown.drain_delay` is the text \"x\", \
                 but must be seconds from 0 to 86400, or a text such as \"1m 30s\"";
    let each = ["built", drain, interval, "built", "built"];
    let said = child("builds_one_of_each", &folder, &[("BACKSTAY_SHUTDOWN__DRAIN_DELAY", "x")]);
    assert_eq!(said, [&each[..], &each[..], &[drain]].concat());
}

#[test]
#[ignore = "run by others"]
fn builds_nonsense() {
    say(built(CircuitBreaker::builder().max_failures(0).build()));
    say(built(GracefulShutdown::builder().force_exit_code(256).build()));
    say(built(Heartbeat::builder().state_file("/").build()));
    #[cfg(feature = "tokio")]
    say(built(Watchdog::builder().clock(backstay::clock::Clock::tokio()).build()));
}

// CF-5: a broken file hides no wrong argument.
#[test]
fn arguments_are_looked_at_before_files() {
    let folder = Folder::new().with("work/kstlib.conf.yml", "resilience: [");
    let said = child("builds_nonsense", &folder, &[]);
    let arguments: Vec<_> = said.iter().map(|said| said.split('`').nth(1)).collect();
    let expected = ["max_failures", "force_exit_code", "state_file", "clock"].map(Some);
    assert_eq!(arguments, expected[..if cfg!(feature = "tokio") { 4 } else { 3 }], "{said:?}");
}

/// How many failures open it.
fn failures(breaker: &CircuitBreaker) -> usize {
    let fails = || breaker.call(|| Err::<(), _>("failed"));
    (1..=100).find(|_| fails().is_err() && breaker.state() == backstay::CircuitState::Open).unwrap()
}

#[test]
#[ignore = "run by others"]
fn asks_for_named_ones() {
    let breaker = CircuitBreaker::named("payment-api").unwrap();
    say(format_args!("{} {}", breaker.name().unwrap(), failures(&breaker)));
    say(format_args!("the same: {:?}", CircuitBreaker::named("payment-api").unwrap().state()));
    say(format_args!("another: {}", failures(&CircuitBreaker::named("other").unwrap())));
    say(format_args!("built: {}", failures(&CircuitBreaker::builder().name("payment-api").build().unwrap())));
    say(format_args!("without a name: {}", failures(&CircuitBreaker::builder().build().unwrap())));
    let limiter = RateLimiter::named("search").unwrap();
    say(format_args!("{} in {:?}, {} at once", limiter.rate(), limiter.per(), limiter.burst()));
    assert!(limiter.try_acquire() && RateLimiter::named("search").unwrap().stats().acquired == 1);
    let limiter = RateLimiter::configured().build().unwrap();
    say(format_args!("{} in {:?}, {} at once", limiter.rate(), limiter.per(), limiter.burst()));
    say(format_args!(
        "{:?} {:?}",
        Watchdog::named("worker").unwrap().timeout(),
        Watchdog::named("x").unwrap().timeout()
    ));
}

// CF-3: a named instance has its own keys, then the section's, and is one for all.
#[test]
fn named_instances_are_configured_and_shared() {
    let folder = Folder::new().with(
        "work/kstlib.conf.yml",
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
        child("asks_for_named_ones", &folder, &[]),
        [
            "payment-api 3",
            "the same: Open",
            "another: 4",
            "built: 3",
            "without a name: 4",
            "7 in 60s, 8 at once",
            "6 in 60s, 6 at once",
            "7s 30s"
        ]
    );
    // Without an entry, and without a file: the defaults, and the name.
    assert_eq!(
        child("asks_for_named_ones", &Folder::new(), &[]),
        [
            "payment-api 5",
            "the same: Open",
            "another: 5",
            "built: 5",
            "without a name: 5",
            "10 in 1s, 10 at once",
            "10 in 1s, 10 at once",
            "30s 30s"
        ]
    );
}

#[cfg(feature = "macros")]
#[test]
#[ignore = "run by others"]
fn calls_a_limited_function() {
    #[backstay::rate_limiter]
    fn limited() -> &'static str {
        "called"
    }
    say(limited());
}

// ALL-1: an attribute's function is called, whatever the configuration: a rate that cannot be counted, or none.
#[cfg(feature = "macros")]
#[test]
fn no_configuration_makes_a_limited_function_panic() {
    for text in ["resilience: {rate_limiter: {default_rate: 1e300}}", "resilience: ["] {
        let folder = Folder::new().with("work/kstlib.conf.yml", text);
        assert_eq!(child("calls_a_limited_function", &folder, &[]), ["called"], "{text}");
    }
}
