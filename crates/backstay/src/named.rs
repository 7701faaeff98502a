//! Named instances: configured by name, and the same for everyone who asks.

use crate::error::BuildError;
use crate::registry::Registry;
use crate::watchdog::WatchdogBuilder;
use crate::{CircuitBreaker, RateLimiter, Watchdog};

impl CircuitBreaker {
    /// The process's breaker of this name, the same for everyone who asks.
    ///
    /// The first to ask has it built: from the configuration's `resilience.circuit_breaker.instances.NAME`, then
    /// from `resilience.circuit_breaker`, then from the defaults. It stays for as long as the process lives, so names
    /// should not be made from requests.
    ///
    /// ```
    /// use backstay::CircuitBreaker;
    ///
    /// let here = CircuitBreaker::named("payment-api")?;
    /// let there = CircuitBreaker::named("payment-api")?;
    /// here.isolate();
    /// assert_eq!(there.state(), here.state());
    /// # Ok::<_, backstay::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] for a broken configuration; the next to ask tries again.
    pub fn named(name: &str) -> Result<Self, BuildError> {
        static NAMED: Registry<CircuitBreaker> = Registry::new();
        NAMED.named(name, || Self::builder().name(name).build())
    }
}

impl RateLimiter {
    /// The process's limiter of this name, the same for everyone who asks.
    ///
    /// The first to ask has it built: from the configuration's `resilience.rate_limiter.instances.NAME`, then from
    /// `default_rate` and `default_per`, then from the defaults. It stays for as long as the process lives, so names
    /// should not be made from requests: a limiter for each key is for those.
    ///
    /// ```
    /// use backstay::RateLimiter;
    ///
    /// let here = RateLimiter::named("search")?;
    /// assert!(here.try_acquire());
    /// assert!(RateLimiter::named("search")?.tokens() < here.burst());
    /// # Ok::<_, backstay::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] for a broken configuration, or a configured rate beyond what can be counted; the next to ask
    /// tries again.
    pub fn named(name: &str) -> Result<Self, BuildError> {
        static NAMED: Registry<RateLimiter> = Registry::new();
        NAMED.named(name, || Self::configured().name(name).build())
    }
}

impl Watchdog {
    /// The process's watchdog of this name, the same for everyone who asks; whoever is to run it starts it.
    ///
    /// The first to ask has it built: from the configuration's `resilience.watchdog.instances.NAME`, then from
    /// `resilience.watchdog`, then from the defaults. It stays for as long as the process lives.
    ///
    /// ```
    /// use backstay::Watchdog;
    ///
    /// Watchdog::named("worker")?.ping();
    /// # Ok::<_, backstay::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] for a broken configuration; the next to ask tries again.
    pub fn named(name: &str) -> Result<Self, BuildError> {
        Self::named_with(name, |builder| builder)
    }

    /// As [`named`](Self::named); should it be built now, `and` tells the builder what the configuration cannot say.
    ///
    /// ```
    /// use backstay::Watchdog;
    ///
    /// let watchdog = Watchdog::named_with("loop", |builder| builder.on_timeout(|report| eprintln!("{report}")))?;
    /// assert_eq!(watchdog.name(), Some("loop"));
    /// # Ok::<_, backstay::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As [`named`](Self::named), and what the builder then refuses.
    pub fn named_with(name: &str, and: impl FnOnce(WatchdogBuilder) -> WatchdogBuilder) -> Result<Self, BuildError> {
        static NAMED: Registry<Watchdog> = Registry::new();
        NAMED.named(name, || and(Self::builder().name(name)).build())
    }
}
