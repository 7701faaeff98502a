//! Rules of the rate limiter: a token bucket in integer arithmetic, and its queue of waiters.
//!
//! The state of a bucket is one number, `full_at`: the time at which it will be full again if nothing is taken. Time
//! is counted in *units*. A unit is a fraction of a token and a fraction of a nanosecond, so tokens are exact; only
//! the conversion of a time is rounded, always down, and errors don't accumulate.
//!
//! At `now` the bucket holds `capacity - max(0, full_at - now)`. Taking tokens sets `full_at` to `max(full_at, now) +
//! cost`, which must not exceed `now + capacity`. A waiter reserves tokens in the same way, beyond `now + capacity`;
//! they are due when time has caught up.

mod bucket;
mod fenwick;
mod queue;
mod quota;
mod table;

pub use bucket::{FULL_AT_MAX, Reserved, Scale, Shortage, Take};
pub use queue::{WaiterId, WaiterQueue, WakeSource};
pub use quota::{DEFAULT_PER, DEFAULT_RATE, PER_MAX, Quota};
pub use table::Table;
