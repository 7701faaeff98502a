//! Circuit breaker: stops calling a service that fails, and finds out by a few half-open calls when it works again.
//!
//! ```text
//!          too many failures                     reset_timeout later
//!  CLOSED ───────────────────────────▶ OPEN ─────────────────────────▶ HALF-OPEN
//!     ▲                                 ▲                               │     │
//!     │                                 └───── a half-open call fails ──┘     │
//!     └────────────────────── half_open_max_calls of them succeed ────────────┘
//! ```
//!
//! # Which policy
//! - **Consecutive failures** (the default, five): for a service that works or does not. Cheapest; it needs no clock.
//! - **Failure rate** ([`failure_rate`](CircuitBreakerBuilder::failure_rate)): for a service that fails now and then, or
//!   for some requests: of 100 calls 60 may fail without five in a row. A [time window](Window::time) where the rate of calls
//!   varies; a [window of calls](Window::calls) where calls are rare, so that old outcomes still count.
//! - **Slow calls** ([`slow_call`](CircuitBreakerBuilder::slow_call)): for a service that becomes slow before it fails.
//!
//! When not to use it: for errors that are the caller's own (invalid input). Exclude or [classify](CircuitBreaker::classify)
//! them, or they open the circuit for all callers.
//!
//! # Memory ordering
//! The state is one word. It is read with acquire and exchanged with sequential consistency: a half-open call takes its slot
//! and then reads the word, and the call that ends the period exchanges the word and then frees slots, so one of the two
//! sees the other. `generations`, `state_changes` and the counters are relaxed: nothing is published by them. The windows
//! describe their own orderings.

mod admission;
mod builder;
mod call;
mod decision;
mod inspection;
mod listeners;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
mod meter;
mod permit;
#[cfg(all(test, not(backstay_loom)))]
mod tests;
mod window;

use std::fmt;

use backstay_core::circuit_breaker::{BreakerState, HalfOpenSlot, Policy};
pub use backstay_core::circuit_breaker::{Cause, CircuitMode, CircuitState, Outcome, Window, WindowCounts};
use once_cell::race::OnceBox;

pub use builder::CircuitBreakerBuilder;
pub use call::{Classifying, Excluding};
pub use inspection::{CircuitSnapshot, CircuitStats};
pub use listeners::Transition;
pub use meter::CompletedCall;
pub use permit::Permit;

use crate::clock::Clock;
use crate::striped::Striped;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use listeners::Listeners;
use meter::{CallListener, Meter};

/// A handle on a circuit breaker; clones share it, threads and tasks alike.
///
/// ```
/// use backstay::{CallError, CircuitBreaker};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder().max_failures(3).reset_timeout(Duration::from_secs(30)).build()?;
/// # fn fetch_data(symbol: &str) -> Result<f64, std::io::Error> { Ok(1.0) }
/// # fn cached() -> f64 { 0.0 }
/// let price = match breaker.call(|| fetch_data("BTC/USDT")) {
///     Ok(price) => price,
///     Err(CallError::Rejected(_)) => cached(),  // open: `fetch_data` was not called
///     Err(CallError::Inner(error)) => return Err(error.into()),
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// No lock is held while a call, a classifier or a listener runs, so calls may nest. A breaker without listeners takes no
/// lock at all: it may be called from a destructor, or from a signal handler that interrupts one of its own calls.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Inner>);

/// 176 bytes with the two reference counts. 32 of them are the counters for threads that find no free stripes, without which
/// each call would have to lock the bus.
struct Inner {
    shared: SharedState,
    policy: Policy,
    clock: Clock,
    counters: Striped<4>,
    /// What measures each call: a window, or listeners for calls. Most breakers have none.
    meter: OnceBox<Meter>,
    /// What calls do not need, and many breakers do not have.
    extras: OnceBox<Extras>,
}

/// What decides about calls: one block of atomics without pointers, which can lie in memory that processes share.
#[repr(C)]
struct SharedState {
    /// A packed [`BreakerState`].
    word: AtomicU64,
    /// The generation of the next closed period.
    generations: AtomicU64,
    /// The first [`HalfOpenSlot`], packed.
    slot: AtomicU64,
    /// Half-open calls that ended ignored, in a row.
    ignored: AtomicU32,
    /// Wraps around after 4,294,967,296 changes.
    state_changes: AtomicU32,
}

impl SharedState {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(BreakerState::START.pack()),
            generations: AtomicU64::new(1),
            slot: AtomicU64::new(HalfOpenSlot::FREE.pack()),
            ignored: AtomicU32::new(0),
            state_changes: AtomicU32::new(0),
        }
    }
}

#[derive(Default)]
struct Extras {
    name: Option<std::sync::Arc<str>>,
    listeners: Listeners,
    /// Packed [`HalfOpenSlot`]s beyond the first.
    more_slots: Box<[AtomicU64]>,
}

impl Extras {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.listeners.is_empty() && self.more_slots.is_empty()
    }
}

impl CircuitBreaker {
    /// Returns a builder with the built-in defaults.
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::default()
    }

    /// Closes the circuit, whatever its state was, and forgets failures. Outcomes of calls that were admitted before decide
    /// nothing any more.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Holds the circuit open until [`reset`](Self::reset): for maintenance, or a service that is known to be down.
    pub fn isolate(&self) {
        self.0.isolate();
    }

    /// Adds a listener, which is told each change of state once, in order, after it happened; on the thread whose call
    /// made the change, or on one that is telling an earlier change at that moment. A panic in it is logged.
    ///
    /// Listeners can be added at any time, also to a [named](Self::named) breaker, and stay as long as the breaker.
    ///
    /// ```
    /// # use backstay::CircuitBreaker;
    /// let breaker = CircuitBreaker::builder().max_failures(1).build()?;
    /// breaker.on_state_change(|change| eprintln!("{} -> {}: {}", change.from, change.to, change.cause));
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    pub fn on_state_change(&self, listener: impl Fn(&Transition) + Send + Sync + 'static) {
        self.0.extras.get_or_init(Box::default).listeners.add(Box::new(listener));
    }

    /// Adds a listener, which is told each call that ends, with its outcome and duration; on the thread that reports the
    /// outcome, after it was counted. Rejections are not calls. A panic in it is logged.
    ///
    /// Two exact readings of the clock a call are the price of the first listener; without one there is none. Calls that were
    /// admitted before it was added are not told.
    ///
    /// ```
    /// # use backstay::CircuitBreaker;
    /// let breaker = CircuitBreaker::builder().build()?;
    /// breaker.on_call(|call| eprintln!("{:?} after {:?}", call.outcome, call.duration));
    /// breaker.call(|| Ok::<_, ()>(1)).unwrap();
    /// # Ok::<(), backstay::BuildError>(())
    /// ```
    pub fn on_call(&self, listener: impl Fn(&CompletedCall<'_>) + Send + Sync + 'static) {
        self.add_call_listener(Box::new(listener));
    }

    fn add_call_listener(&self, listener: CallListener) {
        self.0.meter.get_or_init(|| Box::new(Meter::default())).add(listener);
    }
}

impl Inner {
    fn state(&self) -> BreakerState {
        BreakerState::unpack(self.shared.word.load(Ordering::Acquire))
    }

    fn name(&self) -> Option<&std::sync::Arc<str>> {
        self.extras.get()?.name.as_ref()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        f.debug_struct("CircuitBreaker").field("name", &self.0.name()).field("state", &state).finish_non_exhaustive()
    }
}
