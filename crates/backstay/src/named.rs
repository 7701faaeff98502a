//! Named instances: configured by name, and the same for everyone who asks.

use crate::error::BuildError;
use crate::registry::Registry;
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
        static NAMED: Registry<Watchdog> = Registry::new();
        NAMED.named(name, || Self::builder().name(name).build())
    }
}
