//! The two-step form: ask first, report later.

use std::borrow::Borrow;

use super::{CircuitBreaker, Pass, Verdict};
use crate::error::CircuitOpenError;

/// The right to make one call, and the duty to say what became of it.
///
/// Dropped without a verdict it is neutral: it changes no state and returns its trial place. It is a failure if it is
/// dropped by a panic that began after it was given, or where the breaker counts cancellation as failure.
///
/// ```
/// use backstay::CircuitBreaker;
///
/// let breaker = CircuitBreaker::builder().max_failures(1).build()?;
/// let permit = breaker.try_acquire()?;
/// permit.failure();
/// assert!(breaker.try_acquire().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a permit that is dropped at once gives no verdict"]
pub struct Permit<B: Borrow<CircuitBreaker> = CircuitBreaker> {
    breaker: B,
    pass: Pass,
    fate: Fate,
}

/// What is known of the call when its permit goes.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It ended with this verdict.
    Judged(Verdict),
    /// It panicked, unless somebody says otherwise.
    Panicked,
    /// It was given up, unless somebody says otherwise.
    Cancelled,
    /// It panicked if the thread is panicking, and was given up if not.
    Open,
}

impl CircuitBreaker {
    /// Asks to make one call; for code that cannot be put into a closure.
    ///
    /// # Errors
    /// [`CircuitOpenError`] with the time to wait, if the call must not be made.
    #[inline(always)]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, CircuitOpenError> {
        self.permit(Fate::at_hand())
    }

    /// [`try_acquire`](Self::try_acquire) with a permit that owns its handle, to be sent to another task or stored.
    ///
    /// # Errors
    /// [`CircuitOpenError`] with the time to wait, if the call must not be made.
    #[inline(always)]
    pub fn try_acquire_owned(&self) -> Result<Permit, CircuitOpenError> {
        let pass = self.0.pass()?;
        Ok(Permit { breaker: self.clone(), pass, fate: Fate::at_hand() })
    }

    #[inline(always)]
    pub(super) fn permit(&self, fate: Fate) -> Result<Permit<&Self>, CircuitOpenError> {
        Ok(Permit { breaker: self, pass: self.0.pass()?, fate })
    }
}

impl Fate {
    /// A permit given while the thread already panics (in a destructor) cannot be blamed for that panic.
    #[inline(always)]
    fn at_hand() -> Self {
        if std::thread::panicking() { Self::Cancelled } else { Self::Open }
    }
}

impl<B: Borrow<CircuitBreaker>> Permit<B> {
    /// The call succeeded.
    #[inline(always)]
    pub fn success(self) {
        self.judge(Verdict::Success);
    }

    /// The call failed.
    #[inline(always)]
    pub fn failure(self) {
        self.judge(Verdict::Failure);
    }

    /// The call ended with `verdict`.
    #[inline(always)]
    pub fn judge(mut self, verdict: Verdict) {
        self.fate = Fate::Judged(verdict);
    }

    #[inline(always)]
    pub(super) fn expect(&mut self, fate: Fate) {
        self.fate = fate;
    }
}

impl Permit<&CircuitBreaker> {
    /// Turns it into a permit that owns its handle, to be sent to another task or stored. The call goes on.
    ///
    /// ```
    /// use backstay::CircuitBreaker;
    ///
    /// let breaker = CircuitBreaker::builder().max_failures(1).build()?;
    /// let permit = breaker.try_acquire()?.into_owned();
    /// assert_eq!(breaker.stats().total, 0);
    /// std::thread::spawn(move || permit.failure()).join().unwrap();
    /// assert_eq!(breaker.stats().failed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_owned(self) -> Permit {
        let owned = Permit { breaker: self.breaker.clone(), pass: self.pass, fate: self.fate };
        std::mem::forget(self); // it reports nothing, and owns nothing
        owned
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for Permit<B> {
    #[inline(always)]
    fn drop(&mut self) {
        let inner = &self.breaker.borrow().0;
        let verdict = match self.fate {
            Fate::Judged(verdict) => verdict,
            Fate::Panicked => Verdict::Failure,
            Fate::Open if std::thread::panicking() => Verdict::Failure,
            Fate::Cancelled | Fate::Open => inner.policy.on_cancellation(),
        };
        inner.judge(self.pass, verdict);
    }
}

impl<B: Borrow<CircuitBreaker>> std::fmt::Debug for Permit<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("breaker", self.breaker.borrow()).finish_non_exhaustive()
    }
}
