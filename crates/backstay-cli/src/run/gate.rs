//! When the program may be started again: a wait that grows, a rate limiter, and a circuit breaker on crash loops.

use std::time::Duration;

use backstay::circuit_breaker::Permit;
use backstay::clock::{Clock, Moment};
use backstay::{BuildError, CircuitBreaker, RateLimiter};

/// The breaker's own bound.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How restarts are held back.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Before the first restart; twice as long before each further one, as long as the program does not last.
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
    /// Minimum uptime for a start to count as successful.
    pub(crate) min_uptime: Duration,
    /// At most so many restarts in `per`.
    pub(crate) restarts: u32,
    pub(crate) per: Duration,
    /// So many crashes in a row open the circuit,
    pub(crate) crashes: u32,
    /// for so long.
    pub(crate) cooldown: Duration,
}

/// Why, and how long, a start has to wait.
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
pub(crate) struct Gate {
    pace: Pace,
    limiter: RateLimiter,
    breaker: CircuitBreaker,
    /// Starts in a row that did not last.
    short: u32,
    random: u64,
}

/// The leave to start once. It is judged as soon as the program has lasted, or has ended.
#[derive(Debug)]
pub(crate) struct Pass {
    permit: Option<Permit>,
    min_uptime: Duration,
}

impl Pass {
    /// When a program that was started at `started` has shown that it does not crash at once.
    pub(crate) fn proven_at(&self, started: Moment) -> Moment {
        if self.permit.is_some() { started + self.min_uptime } else { Moment::NEVER }
    }

    /// Whether a program that was started at `started` has lasted.
    pub(crate) fn is_proven(&self, started: Moment, now: Moment) -> bool {
        self.permit.is_none() || now >= started + self.min_uptime
    }

    /// It lasted. False where that is known already.
    pub(crate) fn prove(&mut self) -> bool {
        let permit = self.permit.take();
        permit.map(Permit::success).is_some()
    }
}

impl Gate {
    /// `seed` decides the jitter.
    pub(crate) fn new(pace: Pace, clock: &Clock, seed: u64) -> Result<Self, BuildError> {
        let limiter =
            RateLimiter::builder(pace.restarts).per(pace.per).burst(pace.restarts).clock(clock.clone()).build()?;
        let breaker = CircuitBreaker::builder()
            .max_failures(pace.crashes)
            .reset_timeout(pace.cooldown)
            .half_open_max_calls(1)
            // The trial is judged when it has lasted, and not given to another before.
            .half_open_timeout(
                pace.cooldown.max(pace.min_uptime).saturating_add(Duration::from_secs(3600)).min(LONGEST),
            )
            .clock(clock.clone())
            .build()?;
        Ok(Self { pace, limiter, breaker, short: 0, random: seed | 1 })
    }

    /// Leave to start now.
    pub(crate) fn pass(&self, is_restart: bool) -> Result<Pass, Wait> {
        let permit =
            self.breaker.try_acquire_owned().map_err(|open| Wait::because(Reason::CircuitOpen, open.remaining))?;
        if is_restart {
            self.limiter.check().map_err(|refused| Wait::because(Reason::RateLimit, refused.retry_after()))?;
        }
        Ok(Pass { permit: Some(permit), min_uptime: self.pace.min_uptime })
    }

    /// A program that had this leave has ended.
    pub(crate) fn ended(&mut self, pass: Pass, well: bool, proven: bool) {
        if proven {
            self.short = 0;
        } else {
            self.short = self.short.saturating_add(1);
        }
        match pass.permit {
            Some(permit) if well || proven => permit.success(),
            Some(permit) => permit.failure(),
            None => {}
        }
    }

    /// The program lasts.
    pub(crate) fn reset(&mut self) {
        self.short = 0;
    }

    /// How long to wait before the next start.
    pub(crate) fn next_wait(&mut self) -> Wait {
        // To be told at once, not when the pause is over.
        if let Err(open) = self.breaker.try_acquire() {
            return Wait::because(Reason::CircuitOpen, open.remaining);
        }
        let doublings = self.short.saturating_sub(1).min(31);
        let full = self.pace.backoff.saturating_mul(1 << doublings).min(self.pace.max_backoff);
        // Many that fell together do not rise together: half is certain, half is chance.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let chance = f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        Wait::because(Reason::Pause, full.mul_f64(0.5 + chance / 2.0))
    }
}

impl Wait {
    fn because(reason: Reason, time: Duration) -> Self {
        Self { time, reason }
    }
}
