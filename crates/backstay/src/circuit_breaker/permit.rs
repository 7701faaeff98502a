//! Permits: ask for admission first, report the outcome later.

use std::borrow::Borrow;

use super::admission::Pass;
use super::{CircuitBreaker, Outcome};
use crate::error::CircuitOpenError;

/// An admitted call, whose outcome its holder reports.
///
/// A permit that is dropped without a report is ignored: it changes no state and frees its slot. It is a failure if it is
/// dropped by a panic that began after it was given, or where the breaker counts cancelled calls as failures.
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
#[must_use = "a permit that is dropped at once is ignored"]
pub struct Permit<B: Borrow<CircuitBreaker> = CircuitBreaker> {
    breaker: B,
    pass: Pass,
    outcome: Option<Outcome>,
    if_dropped: IfDropped,
}

/// What a permit means that is dropped without a report.
#[derive(Clone, Copy)]
pub(super) enum IfDropped {
    /// The call panicked.
    Failed,
    /// The call was cancelled.
    Cancelled,
    /// The call panicked if the thread is panicking, and was cancelled if not.
    Either,
}

impl CircuitBreaker {
    /// Asks for admission of one call; for code that cannot be put into a closure.
    ///
    /// # Errors
    /// [`CircuitOpenError`] with the time to wait, if the circuit is open.
    #[inline(always)]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, CircuitOpenError> {
        self.permit(IfDropped::at_hand())
    }

    /// [`try_acquire`](Self::try_acquire) with a permit that owns its handle, to be sent to another task or stored.
    ///
    /// # Errors
    /// [`CircuitOpenError`] with the time to wait, if the circuit is open.
    #[inline(always)]
    pub fn try_acquire_owned(&self) -> Result<Permit, CircuitOpenError> {
        let pass = self.0.pass()?;
        Ok(Permit { breaker: self.clone(), pass, outcome: None, if_dropped: IfDropped::at_hand() })
    }

    #[inline(always)]
    pub(super) fn permit(&self, if_dropped: IfDropped) -> Result<Permit<&Self>, CircuitOpenError> {
        Ok(Permit { breaker: self, pass: self.0.pass()?, outcome: None, if_dropped })
    }
}

impl IfDropped {
    /// A permit given while the thread already panics (in a destructor) cannot be blamed for that panic.
    #[inline(always)]
    fn at_hand() -> Self {
        if std::thread::panicking() { Self::Cancelled } else { Self::Either }
    }
}

impl<B: Borrow<CircuitBreaker>> Permit<B> {
    /// Reports that the call succeeded.
    #[inline(always)]
    pub fn success(self) {
        self.report(Outcome::Success);
    }

    /// Reports that the call failed.
    #[inline(always)]
    pub fn failure(self) {
        self.report(Outcome::Failure);
    }

    /// Reports that the call says nothing about the service: it changes no state and frees its slot.
    #[inline(always)]
    pub fn ignore(self) {
        self.report(Outcome::Ignored);
    }

    /// Reports how the call ended.
    #[inline(always)]
    pub fn report(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    #[inline(always)]
    pub(super) fn if_dropped(&mut self, meaning: IfDropped) {
        self.if_dropped = meaning;
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
        let Self { pass, outcome, if_dropped, .. } = self; // copies: a pattern takes nothing out of what is dropped
        let owned = Permit { breaker: self.breaker.clone(), pass, outcome, if_dropped };
        std::mem::forget(self); // it reports nothing, and owns nothing
        owned
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for Permit<B> {
    #[inline(always)]
    fn drop(&mut self) {
        let inner = &self.breaker.borrow().0;
        let outcome = self.outcome.unwrap_or_else(|| match self.if_dropped {
            IfDropped::Failed => Outcome::Failure,
            IfDropped::Either if std::thread::panicking() => Outcome::Failure,
            IfDropped::Cancelled | IfDropped::Either => inner.policy.on_cancellation(),
        });
        inner.judge(self.pass, outcome);
    }
}

impl<B: Borrow<CircuitBreaker>> std::fmt::Debug for Permit<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("breaker", self.breaker.borrow()).finish_non_exhaustive()
    }
}
