//! The configuration of the process, for code without a builder: named instances and attributes.

use once_cell::race::OnceBox;

use super::{Config, InstallError};

/// Set once, by [`Config::install`] or by the first instance that needs it. Not behind a lock: a child forked while it
/// is locked would wait forever.
static PROCESS: OnceBox<Process> = OnceBox::new();

enum Process {
    Installed(Config),
    /// Nothing was installed before the first instance was built.
    Defaults {
        first: String,
    },
}

impl Config {
    /// Installs this configuration for the process: named instances and functions under attributes use it.
    ///
    /// Builders do not: they use the configuration that they are passed. Without an installed configuration, the
    /// built-in defaults apply. Install it early in `main`; a library should leave it to the program. A forked child
    /// inherits it.
    ///
    /// ```
    /// use backstay::{CircuitBreaker, config::{Config, Sources}};
    ///
    /// let sources = Sources::none().variable("BACKSTAY_CIRCUIT_BREAKER__MAX_FAILURES", "1");
    /// Config::from_sources(&sources)?.install()?;
    /// let breaker = CircuitBreaker::named("payment-api")?;
    /// breaker.call(|| Err::<(), _>("down")).unwrap_err();
    /// assert_eq!(breaker.state(), backstay::CircuitState::Open);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A configuration is already installed, or a named instance or a function under an attribute is already in use
    /// with the defaults. The process's configuration is then unchanged.
    pub fn install(&self) -> Result<(), InstallError> {
        let Err(_) = PROCESS.set(Box::new(Process::Installed(self.clone()))) else { return Ok(()) };
        Err(match PROCESS.get() {
            Some(Process::Defaults { first }) => InstallError::AlreadyInUse { by: first.clone() },
            _ => InstallError::AlreadyInstalled,
        })
    }

    /// Returns the installed configuration. From now on none can be installed; `user` is the instance that uses it.
    pub(crate) fn installed(user: impl FnOnce() -> String) -> Option<&'static Self> {
        match PROCESS.get_or_init(|| Box::new(Process::Defaults { first: user() })) {
            Process::Installed(config) => Some(config),
            Process::Defaults { .. } => None,
        }
    }
}
