use std::future::Future;
use std::pin::Pin;

use backstay::{CallError, circuit_breaker, rate_limiter};

type Answer = Result<u32, CallError<std::fmt::Error>>;
type Boxed<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

async fn answer() -> Answer {
    Ok(1)
}

#[rate_limiter]
fn boxed_elsewhere() -> Pin<Box<dyn Future<Output = Answer>>> {
    Box::pin(answer())
}

#[circuit_breaker]
fn made_elsewhere() -> impl Future<Output = Answer> {
    answer()
}

#[rate_limiter]
fn under_another_name() -> Boxed<'static> {
    Box::pin(answer())
}

#[rate_limiter]
fn leaves_early(n: u32) -> Boxed<'static> {
    if n == 0 {
        return Box::pin(answer());
    }
    Box::pin(async move { Ok(n) })
}

trait Api {
    #[rate_limiter]
    async fn get(&self) -> Answer;
}

struct Client;

#[circuit_breaker]
impl Client {}

fn main() {}
