//! What a heartbeat follows.

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
}

impl<F: Fn() -> bool + Send + Sync> Target for F {
    fn is_dead(&self) -> bool {
        self()
    }
}
