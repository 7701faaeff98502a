//! Configuration: `kstlib.conf.yml` and `BACKSTAY_*` variables.
//!
//! A builder takes what it is not told from here: first from the environment
//! (`BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES=3`), then from `./kstlib.conf.yml`, `~/kstlib.conf.yml` and
//! `~/.config/kstlib.conf.yml`, key by key, then from the built-in defaults. `BACKSTAY_CONFIG` names one file that is
//! read in place of these three, and must be there.
//!
//! ```yaml
//! resilience:
//!   circuit_breaker:
//!     max_failures: 5              # 1 to 100
//!     reset_timeout: 60            # seconds, 1 to 3600; or a text: "1m 30s"
//!     half_open_max_calls: 3       # 1 to 10
//!     half_open_timeout: 60        # seconds, 1 to 3600; the reset_timeout where it is not given
//!     cancellation_is_failure: false
//!     instances:                   # what `named("payment-api")` has in place of the above
//!       payment-api: {max_failures: 3}
//!   rate_limiter:
//!     default_rate: 10             # above 0
//!     default_per: 1.0             # seconds, above 0
//!     instances:
//!       search: {rate: 100, per: 60, burst: 5}   # the burst is the rate where it is not given
//!   shutdown:
//!     default_timeout: 30          # seconds, 5 to 300; `timeout` is the same
//!     drain_delay: 0               # seconds, up to a day
//!     force_exit_code: 1           # 0 to 255
//!   heartbeat:
//!     interval: 10                 # seconds, 1 to 300
//!   watchdog:
//!     timeout: 30                  # seconds, 1 to 3600
//!     instances:
//!       worker: {timeout: 5}
//!   run:                           # the command line's supervisor; the times are in seconds
//!     timeout: 30                  # also start_timeout, on_freeze_timeout, grace, backoff, max_backoff, min_uptime, per, cooldown
//!     restart: on-failure          # or always, never
//!     max_restarts: 20             # also max_crashes
//!     instances:
//!       bot: {grace: 60}           # `backstay run --name bot`
//! ```
//!
//! What a named instance is told comes before what its section is told, wherever that stands; there are no variables
//! for instances.
//!
//! A key without a value, and a variable that is empty, say nothing. A number outside its bounds is brought to the
//! nearer one, and an unknown key is ignored; both with a warning, logged once. A file that `BACKSTAY_CONFIG` names, and
//! that has no section `resilience`, is warned about as well. Everything else that is wrong in our section, or that is
//! not YAML, is a [`ConfigError`]. What is wrong with one component is that component's: the others are built. Other
//! sections of the files are not looked at.
//!
//! A file that is found is not trusted where others than this user and root can write it: where its owner, or the owner
//! of a link to it, is another user, where every user may write it, or where every user can replace it in its folder (a
//! sticky folder such as `/tmp` prevents that). A process of root refuses it with a [`ConfigError`]; other users get a
//! warning. A file that `BACKSTAY_CONFIG` names gives a warning only. Group-writable files are trusted.
//!
//! All is read when a value is first needed, and kept for as long as the process lives. An error is not kept: whoever
//! builds something after the file was corrected gets it built.

mod document;
mod error;
mod keys;
mod reading;
mod sources;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::per_process::PerProcess;
use crate::settings::{
    CircuitBreakerSettings, HeartbeatSettings, RateLimiterSettings, ShutdownSettings, WatchdogSettings,
};
use crate::sync::Mutex;

pub use error::{Broken, ConfigError, Origin, Place, Warning};
use keys::Key;
pub use keys::Value;
pub use sources::{FILE_NAME, MAX_FILE_SIZE, Sources};

/// What all sources together say, and where each value comes from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What was said: by component, instance (none for the component's own section) and key.
    values: BTreeMap<(&'static str, Option<String>, &'static str), Said>,
    warnings: Vec<Warning>,
    files: Vec<PathBuf>,
    /// The components about which something was said that is wrong, in the order in which it was found.
    broken: Vec<(&'static str, ConfigError)>,
}

/// Set without a lock, so that a process forked meanwhile can read its own.
static CURRENT: OnceBox<Config> = OnceBox::new();

#[derive(Clone, Debug)]
struct Said {
    value: Value,
    origin: Origin,
    /// What was written, and what it was brought to.
    clamped: Option<String>,
}

/// One key of the configuration: what holds for it, and who says so.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// The key's path within the section `resilience`: `circuit_breaker.instances.payment-api.max_failures`.
    pub key: String,
    /// What holds; `None` where nobody says anything and the default depends on other values.
    pub value: Option<Value>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Config {
    /// What configures this process; read at the first call, then kept.
    ///
    /// # Errors
    /// A source is broken. The next call looks again.
    pub fn current() -> Result<&'static Self, ConfigError> {
        match CURRENT.get() {
            Some(config) => Ok(config),
            None => Ok(Self::load(&Sources::of_process())?.keep()),
        }
    }

    /// What `take` finds for a component of this process. What is wrong with others is for those who need them.
    fn of<T>(component: &str, take: impl FnOnce(&Self) -> T) -> Result<T, ConfigError> {
        if let Some(config) = CURRENT.get() {
            return Ok(take(config));
        }
        let mut read = Self::read(&Sources::of_process())?;
        if let Some(place) = read.broken.iter().position(|(broken, _)| *broken == component) {
            return Err(read.broken.swap_remove(place).1);
        }
        if read.broken.is_empty() {
            return Ok(take(read.keep()));
        }
        read.log_warnings();
        Ok(take(&read))
    }

    fn keep(self) -> &'static Self {
        self.log_warnings();
        CURRENT.get_or_init(|| Box::new(self))
    }

    /// Each once, however often it is read.
    fn log_warnings(&self) {
        static LOGGED: PerProcess<Mutex<BTreeSet<String>>> = PerProcess::new();
        let mut logged = LOGGED.get().lock();
        let new: Vec<_> =
            self.warnings.iter().map(ToString::to_string).filter(|text| logged.insert(text.clone())).collect();
        drop(logged);
        for warning in new {
            tracing::warn!(target: "backstay", "{warning}");
        }
    }

    /// Reads `sources` anew. Nothing is logged and nothing kept: this is for tests and tools.
    ///
    /// # Errors
    /// A source is broken.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = Self::read(sources)?;
        if config.broken.is_empty() { Ok(config) } else { Err(config.broken.swap_remove(0).1) }
    }

    /// As [`load`](Self::load), for whoever mends a configuration: says all that is wrong at once.
    ///
    /// ```
    /// use backstay::config::{Config, Sources};
    ///
    /// let sources = Sources::none()
    ///     .variable("BACKSTAY_HEARTBEAT__INTERVAL", "often")
    ///     .variable("BACKSTAY_SHUTDOWN__TIMEOUT", "1h")
    ///     .variable("BACKSTAY_WATCHDOG__TIMEOUT", "soon");
    /// let broken = Config::check(&sources).unwrap_err();
    /// assert_eq!(broken.errors.len(), 2);
    /// assert_eq!(broken.warnings.len(), 1);
    /// ```
    ///
    /// # Errors
    /// What is wrong, and what is probably not meant. Of a file that cannot be read at all, as where it is not YAML, one
    /// error is all; nothing is said of the files after it.
    pub fn check(sources: &Sources) -> Result<Self, Broken> {
        let mut config = Self::default();
        let unreadable = config.take_in(sources).err();
        let broken = std::mem::take(&mut config.broken);
        let errors: Vec<_> = broken.into_iter().map(|(_, error)| error).chain(unreadable).collect();
        if errors.is_empty() { Ok(config) } else { Err(Broken { errors, warnings: config.warnings }) }
    }

    /// Errors are those that are no component's.
    fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.take_in(sources).map(|()| config)
    }

    /// Keeps what it understood until something could not be read.
    fn take_in(&mut self, sources: &Sources) -> Result<(), ConfigError> {
        self.read_environment(sources);
        let read = self.read_documents(sources);
        for said in self.values.values() {
            if let Some(text) = &said.clamped {
                self.warnings.push(Warning { origin: said.origin.clone(), text: text.clone() });
            }
        }
        read
    }

    /// Every key, and every key that a named instance says something about.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        keys::all().flat_map(|key| {
            let id = (key.component, None, key.name());
            let (value, origin) = match self.values.get(&id) {
                Some(said) => (Some(said.value), said.origin.clone()),
                None => (key.default, Origin::Default),
            };
            let own = Setting { key: format!("{}.{}", key.component, key.name()), value, origin };
            let own = (!key.section.is_empty()).then_some(own);
            let instances = self.values.iter().filter_map(|((component, instance, name), said)| {
                let (instance, spelling) = (instance.as_ref()?, key.instance?);
                (*component == key.component && *name == key.name()).then(|| Setting {
                    key: format!("{component}.instances.{instance}.{spelling}"),
                    value: Some(said.value),
                    origin: said.origin.clone(),
                })
            });
            own.into_iter().chain(instances)
        })
    }

    /// What is probably not meant: unknown keys, numbers that were brought to a bound, a named file without our section.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the files that were read, in order of precedence, also those without a section `resilience`.
    ///
    /// ```
    /// use backstay::config::{Config, Sources};
    ///
    /// assert!(Config::load(&Sources::none())?.files().is_empty());
    /// # Ok::<(), backstay::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What holds for `key`: the instance's own value, or else the section's.
    fn value(&self, key: &'static Key, instance: Option<&str>) -> Option<Value> {
        let said = |instance: Option<&str>| {
            self.values.get(&(key.component, instance.map(str::to_owned), key.name())).map(|said| said.value)
        };
        instance.and_then(|name| said(Some(name))).or_else(|| said(None))
    }

    fn count(&self, key: &'static Key, instance: Option<&str>) -> Option<u32> {
        match self.value(key, instance)? {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }

    fn seconds(&self, key: &'static Key, instance: Option<&str>) -> Option<Duration> {
        match self.value(key, instance)? {
            Value::Seconds(duration) => Some(duration),
            _ => None,
        }
    }

    fn number(&self, key: &'static Key, instance: Option<&str>) -> Option<f64> {
        match self.value(key, instance)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn flag(&self, key: &'static Key, instance: Option<&str>) -> Option<bool> {
        match self.value(key, instance)? {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

pub(crate) fn circuit_breaker(name: Option<&str>) -> Result<CircuitBreakerSettings, ConfigError> {
    Config::of(keys::MAX_FAILURES.component, |config| CircuitBreakerSettings {
        max_failures: config.count(&keys::MAX_FAILURES, name),
        reset_timeout: config.seconds(&keys::RESET_TIMEOUT, name),
        half_open_max_calls: config.count(&keys::HALF_OPEN_MAX_CALLS, name),
        half_open_timeout: config.seconds(&keys::HALF_OPEN_TIMEOUT, name),
        cancellation_is_failure: config.flag(&keys::CANCELLATION_IS_FAILURE, name),
    })
}

pub(crate) fn rate_limiter(name: Option<&str>) -> Result<RateLimiterSettings, ConfigError> {
    Config::of(keys::RATE.component, |config| RateLimiterSettings {
        rate: config.number(&keys::RATE, name),
        per: config.seconds(&keys::PER, name),
        burst: config.number(&keys::BURST, name),
    })
}

pub(crate) fn shutdown() -> Result<ShutdownSettings, ConfigError> {
    Config::of(keys::SHUTDOWN_TIMEOUT.component, |config| ShutdownSettings {
        timeout: config.seconds(&keys::SHUTDOWN_TIMEOUT, None),
        drain_delay: config.seconds(&keys::DRAIN_DELAY, None),
        force_exit_code: config.count(&keys::FORCE_EXIT_CODE, None).and_then(|code| i32::try_from(code).ok()),
    })
}

pub(crate) fn heartbeat() -> Result<HeartbeatSettings, ConfigError> {
    Config::of(keys::INTERVAL.component, |config| HeartbeatSettings { interval: config.seconds(&keys::INTERVAL, None) })
}

pub(crate) fn watchdog(name: Option<&str>) -> Result<WatchdogSettings, ConfigError> {
    let key = &keys::WATCHDOG_TIMEOUT;
    Config::of(key.component, |config| WatchdogSettings { timeout: config.seconds(key, name) })
}
