use backstay::{circuit_breaker, rate_limiter};

#[circuit_breaker(max_failure = 3)]
fn misspelt() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(max_failures = 0)]
fn senseless() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(reset_timeout = "soon")]
fn no_time() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(breaker = SHARED, name = "x")]
fn built_already() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(failure_rate = 1.5)]
fn too_much() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(minimum_calls = 5)]
fn no_rate() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(failure_rate = 0.5, window = "10s", window_calls = 10)]
fn two_windows() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker(excluded = |_| true, classify = |_| panic!())]
fn two_judges() -> Result<u32, u32> {
    Ok(1)
}

#[circuit_breaker]
fn no_result() {}

#[circuit_breaker]
struct NoFunction;

#[rate_limiter(rate = -1)]
fn negative() {}

#[rate_limiter(rate = 0)]
fn zero() {}

#[rate_limiter(rate = 1, blocking = false, timeout = "1s")]
fn both() {}

fn main() {}
