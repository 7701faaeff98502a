//! The windows over which a breaker computes rates.

mod calls;
#[cfg(all(test, backstay_loom))]
mod loom_tests;
#[cfg(all(test, not(backstay_loom)))]
mod tests;
mod time;
