//! What a heartbeat follows.

use backstay_core::heartbeat::DegradedBy;

/// Something that can die while the process lives on: a watchdog, a worker, a connection.
///
/// ```
/// use backstay::heartbeat::Target;
///
/// let queue_stalled = || false;
/// assert!(!queue_stalled.is_dead());
/// ```
pub trait Target: Send + Sync {
    /// Whether it is dead now. Asked at every beat, on the beating thread: it should answer at once.
    fn is_dead(&self) -> bool;

    /// What to call it in the log and in alerts.
    fn name(&self) -> Option<String> {
        None
    }

    /// The cause that the state file names while this target is dead. Asked once, when it is given to the builder.
    ///
    /// A type that wraps a watchdog returns [`DegradedBy::Watchdog`], so that readers know a frozen service from one
    /// that has lost a part.
    fn degraded_by(&self) -> DegradedBy {
        DegradedBy::Target
    }
}

/// A target, and the cause that it stands for.
pub(super) struct Followed {
    pub(super) target: Box<dyn Target>,
    pub(super) cause: DegradedBy,
}

impl Followed {
    pub(super) fn new(target: impl Target + 'static) -> Self {
        let cause = target.degraded_by();
        Self { target: Box::new(target), cause }
    }
}

impl<F: Fn() -> bool + Send + Sync> Target for F {
    fn is_dead(&self) -> bool {
        self()
    }
}
