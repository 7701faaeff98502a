use backstay::{circuit_breaker, rate_limiter};

struct Mine;

#[circuit_breaker(max_failures = 3)]
fn fetch() -> Result<u32, Mine> {
    Ok(1)
}

#[circuit_breaker]
async fn fetch_async() -> Result<u32, Mine> {
    Ok(1)
}

#[rate_limiter(rate = 1, blocking = false)]
fn limited() -> Result<u32, Mine> {
    Ok(1)
}

fn main() {}
