//! Decides when the program may be restarted: a backoff, a rate limiter, and a circuit breaker for crash loops.

use std::time::Duration;

use backstay::circuit_breaker::Permit;
use backstay::clock::{Clock, Moment};
use backstay::{BuildError, CircuitBreaker, RateLimiter};

/// Maximum timeout that the circuit breaker accepts.
const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The limits on restarts.
#[derive(Clone, Debug)]
pub(crate) struct RestartLimits {
    /// The initial backoff; doubles after each start that did not reach the minimum uptime.
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
    /// Minimum uptime for a start to count as successful.
    pub(crate) min_uptime: Duration,
    /// Maximum number of restarts within `per`.
    pub(crate) restarts: u32,
    pub(crate) per: Duration,
    /// Number of consecutive crashes that open the circuit.
    pub(crate) crashes: u32,
    /// How long the circuit stays open.
    pub(crate) cooldown: Duration,
}

/// Why a start has to wait, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    pub(crate) reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Pause,
    RateLimit,
    CircuitOpen,
}

#[derive(Debug)]
pub(crate) struct RestartLimiter {
    limits: RestartLimits,
    limiter: RateLimiter,
    breaker: CircuitBreaker,
    /// Number of starts in a row that did not reach the minimum uptime.
    short_starts: u32,
    random: u64,
}

/// A permit for one start. Its outcome is known when the program reaches the minimum uptime, or ends.
#[derive(Debug)]
pub(crate) struct StartPermit {
    permit: Option<Permit>,
    min_uptime: Duration,
}

impl StartPermit {
    /// When a program that was started at `started` reaches the minimum uptime.
    pub(crate) fn succeeds_at(&self, started: Moment) -> Moment {
        if self.permit.is_some() { started + self.min_uptime } else { Moment::NEVER }
    }

    /// Whether a program that was started at `started` has reached the minimum uptime.
    pub(crate) fn has_succeeded(&self, started: Moment, now: Moment) -> bool {
        self.permit.is_none() || now >= started + self.min_uptime
    }

    /// Notes that the program reached the minimum uptime. Returns false if that is already known.
    pub(crate) fn succeed(&mut self) -> bool {
        let permit = self.permit.take();
        permit.map(Permit::success).is_some()
    }
}

impl RestartLimiter {
    /// `seed` decides the jitter.
    pub(crate) fn new(limits: RestartLimits, clock: &Clock, seed: u64) -> Result<Self, BuildError> {
        let limiter = RateLimiter::builder(limits.restarts)
            .per(limits.per)
            .burst(limits.restarts)
            .clock(clock.clone())
            .build()?;
        let breaker = CircuitBreaker::builder()
            .max_failures(limits.crashes)
            .reset_timeout(limits.cooldown)
            .half_open_max_calls(1)
            // The half-open call must not time out before the program reaches the minimum uptime.
            .half_open_timeout(
                limits.cooldown.max(limits.min_uptime).saturating_add(Duration::from_secs(3600)).min(MAX_TIMEOUT),
            )
            .clock(clock.clone())
            .build()?;
        Ok(Self { limits, limiter, breaker, short_starts: 0, random: seed | 1 })
    }

    /// Acquires a permit to start now.
    pub(crate) fn acquire(&self, is_restart: bool) -> Result<StartPermit, Wait> {
        let permit =
            self.breaker.try_acquire_owned().map_err(|open| Wait::because(Reason::CircuitOpen, open.remaining))?;
        if is_restart {
            self.limiter.check().map_err(|refused| Wait::because(Reason::RateLimit, refused.retry_after()))?;
        }
        Ok(StartPermit { permit: Some(permit), min_uptime: self.limits.min_uptime })
    }

    /// Notes that a program that had this permit has ended.
    pub(crate) fn ended(&mut self, start: StartPermit, success: bool, proven: bool) {
        if proven {
            self.short_starts = 0;
        } else {
            self.short_starts = self.short_starts.saturating_add(1);
        }
        match start.permit {
            Some(permit) if success || proven => permit.success(),
            Some(permit) => permit.failure(),
            None => {}
        }
    }

    /// Resets the backoff: the program has reached the minimum uptime.
    pub(crate) fn reset(&mut self) {
        self.short_starts = 0;
    }

    /// Returns how long to wait before the next start.
    pub(crate) fn next_wait(&mut self) -> Wait {
        // An open circuit is logged at once, not when the backoff is over.
        if let Err(open) = self.breaker.try_acquire() {
            return Wait::because(Reason::CircuitOpen, open.remaining);
        }
        let doublings = self.short_starts.saturating_sub(1).min(31);
        let full = self.limits.backoff.saturating_mul(1 << doublings).min(self.limits.max_backoff);
        // 50 % jitter, so that programs that crashed together do not restart together.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let jitter = f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        Wait::because(Reason::Pause, full.mul_f64(0.5 + jitter / 2.0))
    }
}

impl Wait {
    fn because(reason: Reason, time: Duration) -> Self {
        Self { time, reason }
    }
}
