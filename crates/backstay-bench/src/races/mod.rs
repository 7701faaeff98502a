//! The operations, and who competes in each.

pub(crate) mod breaker;
pub(crate) mod clock;
pub(crate) mod keyed;
pub(crate) mod limiter;
pub(crate) mod tasks;
pub(crate) mod watchdog;
pub(crate) mod windows;
