//! The operations and their contestants.

pub(crate) mod breaker;
pub(crate) mod clock;
pub(crate) mod keyed;
pub(crate) mod limiter;
pub(crate) mod tasks;
pub(crate) mod watchdog;
pub(crate) mod windows;
