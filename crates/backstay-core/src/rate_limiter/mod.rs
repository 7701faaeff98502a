//! Rules of the rate limiter: a token bucket in integers, and the queue of those who wait for it.
//!
//! The bucket is one number, `full_at`: the time at which it will be full again if nobody takes anything. Time is
//! counted in *units*, fractions of a token that are also fractions of a nanosecond, so that tokens are exact and only
//! the conversion of a time is rounded: down, and never accumulated. At `now` there are
//! `capacity - max(0, full_at - now)` tokens; taking some sets `full_at` to `max(full_at, now) + cost`, which may be at
//! most `now + capacity`. Waiting is taking all the same, beyond `now + capacity`, and being due when the time has come.

mod bucket;
mod queue;
mod quota;
mod sums;
mod table;

pub use bucket::{FULL_AT_MAX, Place, Scale, Shortage, Take};
pub use queue::{Alarm, Queue, Ticket};
pub use quota::{DEFAULT_PER, DEFAULT_RATE, PER_MAX, Quota};
pub use table::Table;
