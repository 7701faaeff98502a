//! Configuration: `backstay.yml` or `kstlib.conf.yml`, and `BACKSTAY_*` variables.
//!
//! Nothing is read unless the program asks for it. [`Config::load`] reads the files and variables below into a plain
//! value. Pass it to builders, or install it once for the named instances and the functions under attributes:
//!
//! ```
//! use backstay::{CircuitBreaker, config::Config};
//!
//! let config = Config::load()?;
//! let breaker = CircuitBreaker::builder().max_failures(3).config(&config).build()?;
//!
//! config.install()?; // for `CircuitBreaker::named("payment-api")` and `#[circuit_breaker]`
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! A value comes from the first of these that has it, key by key:
//!
//! 1. the builder's own argument;
//! 2. the environment: `BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES=3`;
//! 3. the files `./backstay.yml`, `./kstlib.conf.yml`, then those in `~` and in `~/.config`;
//! 4. the built-in default.
//!
//! `BACKSTAY_CONFIG` names one file that is read in place of these files, and must exist.
//!
//! ```yaml
//! resilience:
//!   circuit_breaker:
//!     max_failures: 5              # 1 to 100
//!     reset_timeout: 60            # seconds, 1 to 3600; or a text: "1m 30s"
//!     half_open_max_calls: 3       # 1 to 10
//!     half_open_timeout: 60        # seconds, 1 to 3600; default: the reset_timeout
//!     cancellation_is_failure: false
//!     instances:                   # `named("payment-api")`, or a builder with this name
//!       payment-api: {max_failures: 3}
//!   rate_limiter:
//!     default_rate: 10             # above 0
//!     default_per: 1.0             # seconds, above 0
//!     instances:
//!       search: {rate: 100, per: 60, burst: 5}   # default burst: the rate
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
//!   run:                           # the command line's supervisor; times in seconds
//!     timeout: 30                  # also start_timeout, on_freeze_timeout, grace, backoff, max_backoff, min_uptime, per, cooldown
//!     restart: on-failure          # or always, never
//!     max_restarts: 20             # also max_crashes
//!     instances:
//!       bot: {grace: 60}           # `backstay run --name bot`
//! ```
//!
//! Settings of an instance take precedence over those of its section, including those from the environment. There are
//! no variables for instances.
//!
//! A key without a value and an empty variable are ignored. Out-of-range numbers are clamped and unknown keys are
//! ignored, each with a [`Warning`]; so is a file without a section `resilience`, if it is called `backstay.yml` or was
//! named explicitly. Anything else that is invalid in the section, or not YAML, is a [`ConfigError`]. Other sections of
//! the files are not read.
//!
//! A file that the search finds is not trusted if its owner, or the owner of a link to it, is neither this user nor
//! root, if every user can write it, or if every user can replace it in its folder (a sticky folder such as `/tmp`
//! prevents that). Root rejects such a file with a [`ConfigError`]; other users get a warning. A file that was named
//! explicitly gets a warning only. Group-writable files are trusted.

mod document;
mod error;
mod install;
mod keys;
mod reading;
mod settings;
mod sources;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{ConfigError, ConfigErrors, InstallError, Origin, Place, Warning};
pub use keys::Value;
pub(crate) use settings::Configured;
pub use sources::{FILE_NAMES, MAX_FILE_SIZE, Sources};

/// Settings from files and the environment, each with its origin.
///
/// A builder's `config` method takes it; the builder uses it for the values that are not set. Clones share the
/// settings. The default is empty: built-in defaults apply.
///
/// ```
/// use backstay::{RateLimiter, config::{Config, Sources}};
///
/// let sources = Sources::none().variable("BACKSTAY_RATE_LIMITER__DEFAULT_PER", "60");
/// let config = Config::from_sources(&sources)?;
/// let limiter = RateLimiter::builder(10).config(&config).build()?;
/// assert_eq!(limiter.per().as_secs(), 60);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Config(Arc<Content>);

#[derive(Debug, Default)]
struct Content {
    /// By component, instance (`None` for the component's own section) and key.
    values: BTreeMap<(&'static str, Option<String>, &'static str), StoredValue>,
    warnings: Vec<Warning>,
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct StoredValue {
    value: Value,
    origin: Origin,
    /// The warning, if the value was clamped.
    clamped: Option<String>,
}

/// One key of the configuration, with its value and origin.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// The key's path within the section `resilience`: `circuit_breaker.instances.payment-api.max_failures`.
    pub key: String,
    /// The value; `None` if none is set and the default depends on other values.
    pub value: Option<Value>,
    /// The origin of the value.
    pub origin: Origin,
}

impl Config {
    /// Reads this process's configuration: `BACKSTAY_*` variables, and the files that the search finds.
    ///
    /// Each call reads anew, and logs each warning at level `WARN`.
    ///
    /// # Errors
    /// The first [`ConfigError`] found, in any section.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_sources(&Sources::of_process()).inspect(Self::log_warnings)
    }

    /// Reads the file at `path` in place of the search, as if `BACKSTAY_CONFIG` named it.
    ///
    /// Variables take precedence over the file, as they do in [`load`](Self::load). For the file alone, use
    /// [`from_sources`](Self::from_sources) with [`Sources::none`] and [`Sources::only_file`].
    ///
    /// ```no_run
    /// use backstay::config::Config;
    ///
    /// let config = Config::from_path("/etc/quotes/backstay.yml")?;
    /// # Ok::<_, backstay::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// The file does not exist or cannot be read, or the first [`ConfigError`] found, in any section.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_sources(&Sources::of_process().only_file(path.as_ref())).inspect(Self::log_warnings)
    }

    /// Reads `sources`; logs nothing.
    ///
    /// # Errors
    /// The first [`ConfigError`] found, in any section.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        Self::check(sources).map_err(|mut invalid| invalid.errors.swap_remove(0))
    }

    /// Reads `sources` and reports every error, for tools; logs nothing.
    ///
    /// ```
    /// use backstay::config::{Config, Sources};
    ///
    /// let sources = Sources::none()
    ///     .variable("BACKSTAY_HEARTBEAT__INTERVAL", "often")
    ///     .variable("BACKSTAY_SHUTDOWN__TIMEOUT", "1h")
    ///     .variable("BACKSTAY_WATCHDOG__TIMEOUT", "soon");
    /// let invalid = Config::check(&sources).unwrap_err();
    /// assert_eq!(invalid.errors.len(), 2);
    /// assert_eq!(invalid.valid.warnings().len(), 1);
    /// ```
    ///
    /// # Errors
    /// Every error, and the settings that are valid. Reading ends at a file that cannot be read or is not YAML; the
    /// files after it are not reported.
    pub fn check(sources: &Sources) -> Result<Self, ConfigErrors> {
        reading::read(sources)
    }

    /// Logs each warning.
    fn log_warnings(&self) {
        for warning in self.warnings() {
            tracing::warn!(target: "backstay", "{warning}");
        }
    }

    /// Lists every key, and every key that a named instance sets.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        keys::all().flat_map(|key| {
            let id = (key.component, None, key.name());
            let (value, origin) = match self.0.values.get(&id) {
                Some(given) => (Some(given.value), given.origin.clone()),
                None => (key.default, Origin::Default),
            };
            let own = Setting { key: format!("{}.{}", key.component, key.name()), value, origin };
            let own = (!key.section.is_empty()).then_some(own);
            let instances = self.0.values.iter().filter_map(|((component, instance, name), given)| {
                let (instance, spelling) = (instance.as_ref()?, key.instance?);
                (*component == key.component && *name == key.name()).then(|| Setting {
                    key: format!("{component}.instances.{instance}.{spelling}"),
                    value: Some(given.value),
                    origin: given.origin.clone(),
                })
            });
            own.into_iter().chain(instances)
        })
    }

    /// Returns the warnings: unknown keys, clamped numbers, a file without the section `resilience`.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    /// Returns the files that were read, in order of precedence, also those without a section `resilience`.
    ///
    /// ```
    /// use backstay::config::{Config, Sources};
    ///
    /// assert!(Config::from_sources(&Sources::none())?.files().is_empty());
    /// # Ok::<(), backstay::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.0.files
    }
}
