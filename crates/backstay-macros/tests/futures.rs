//! The attributes on functions that return a future guard the future, not the call that creates it.
#![allow(clippy::unwrap_used, clippy::manual_async_fn)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backstay::{CallError, CircuitBreaker, CircuitState, RateLimiter, circuit_breaker, rate_limiter};

type Answer = Result<u32, CallError<&'static str>>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A period that a test cannot outlast by accident; a test that does wait for it still ends.
const LONG: Duration = Duration::from_secs(60);

fn limiter() -> RateLimiter {
    RateLimiter::builder(1).per(LONG).build().unwrap()
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder().max_failures(1).build().unwrap()
}

/// Polls once.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match poll(future) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[async_trait::async_trait]
trait Api {
    async fn limited(&mut self, n: u32) -> u32;
    async fn rejected(&self, n: u32) -> Answer;
    async fn guarded(&self, answer: Answer) -> Answer;

    #[rate_limiter(limiter = self.limiter())]
    async fn by_default(&self) -> u32 {
        7
    }
    fn limiter(&self) -> &RateLimiter;
}

/// Both traits, and a function of each kind, go through the same two.
struct Client {
    limiter: RateLimiter,
    breaker: CircuitBreaker,
}

#[async_trait::async_trait]
impl Api for Client {
    #[rate_limiter(limiter = self.limiter)]
    async fn limited(&mut self, n: u32) -> u32 {
        n
    }

    #[rate_limiter(limiter = self.limiter, timeout = "1s")]
    async fn rejected(&self, n: u32) -> Answer {
        Ok(n)
    }

    #[circuit_breaker(breaker = self.breaker)]
    async fn guarded(&self, answer: Answer) -> Answer {
        let answer = answer?;
        if answer == 0 {
            return Err(CallError::Inner("zero"));
        }
        Ok(answer)
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }
}

trait Native {
    fn limited(&self, n: u32) -> impl Future<Output = u32> + Send;
    async fn guarded(&self, answer: Answer) -> Answer;
}

impl Native for Client {
    #[rate_limiter(limiter = self.limiter)]
    async fn limited(&self, n: u32) -> u32 {
        n
    }

    #[circuit_breaker(breaker = self.breaker)]
    async fn guarded(&self, answer: Answer) -> Answer {
        answer
    }
}

static LIMITERS: LazyLock<[RateLimiter; 4]> = LazyLock::new(|| [limiter(), limiter(), limiter(), limiter()]);

#[rate_limiter(limiter = LIMITERS[0])]
fn plain(n: u32) -> impl Future<Output = u32> {
    async move { n }
}

#[rate_limiter(limiter = LIMITERS[1])]
fn pinned(text: &str) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
    let bytes = text.as_bytes();
    Box::pin(async { bytes.len() })
}

#[rate_limiter(limiter = LIMITERS[2])]
fn under_another_name(n: u32) -> Boxed<'static, u32> {
    Pin::from(Box::new(async move { n }))
}

#[rate_limiter(limiter = LIMITERS[3])]
fn in_a_block(n: &u32) -> Boxed<'static, u32> {
    let n = *n;
    #[allow(unused_braces)]
    {
        Box::pin(async move { n })
    }
}

/// The first call takes the only token. The second takes none before its first poll, and then waits without blocking
/// the thread. When it is dropped, it leaves the queue.
fn waits_in_the_future<T>(limiter: &RateLimiter, mut call: impl FnMut() -> Poll<T>, mut make: impl FnMut()) {
    make();
    assert_eq!(limiter.stats().acquired, 0, "made, not polled");
    assert!(call().is_ready());
    assert!(call().is_pending());
    make();
    assert_eq!(limiter.stats().acquired, 1);
    assert!(limiter.time_until_token() <= LONG, "the dropped waiter is gone");
}

// RL-4, RL-6: the limiter's attribute waits inside the future of an async_trait method, of a trait's own async fn, and
// of a function that returns a future.
#[test]
fn a_limiter_waits_in_the_future() {
    let mut client = Client { limiter: limiter(), breaker: breaker() };
    let limiter = client.limiter.clone();
    let client = std::cell::RefCell::new(&mut client);
    waits_in_the_future(
        &limiter,
        || poll(Api::limited(&mut **client.borrow_mut(), 1)),
        || drop(Api::limited(&mut **client.borrow_mut(), 1)),
    );
    let client = Client { limiter: self::limiter(), breaker: breaker() };
    waits_in_the_future(&client.limiter, || poll(client.by_default()), || drop(client.by_default()));
    let client = Client { limiter: self::limiter(), breaker: breaker() };
    waits_in_the_future(&client.limiter, || poll(Native::limited(&client, 1)), || drop(Native::limited(&client, 1)));
    waits_in_the_future(&LIMITERS[0], || poll(plain(1)), || drop(plain(1)));
    waits_in_the_future(&LIMITERS[1], || poll(pinned("text")), || drop(pinned("text")));
    waits_in_the_future(&LIMITERS[2], || poll(under_another_name(1)), || drop(under_another_name(1)));
    waits_in_the_future(&LIMITERS[3], || poll(in_a_block(&1)), || drop(in_a_block(&1)));
}

// RL-5: the rejection is the output of the future.
#[test]
fn a_limiter_rejects_in_the_future() {
    let client = Client { limiter: limiter(), breaker: breaker() };
    assert_eq!(ready(client.rejected(3)), Ok(3));
    assert!(matches!(ready(client.rejected(3)), Err(CallError::Rejected(_))));
}

static BREAKERS: LazyLock<[CircuitBreaker; 3]> = LazyLock::new(|| [breaker(), breaker(), breaker()]);

#[circuit_breaker(breaker = BREAKERS[0])]
fn guarded_plain(answer: Answer) -> impl Future<Output = Answer> {
    async move { answer }
}

#[circuit_breaker(breaker = BREAKERS[1])]
fn guarded_alias(answer: Answer) -> Boxed<'static, Answer> {
    Box::pin(async move { answer })
}

/// A future that only the guard sees pending.
#[circuit_breaker(breaker = BREAKERS[2])]
fn guarded_never(_: Answer) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async move { std::future::pending().await })
}

/// A failure counts when the future returns it; the open breaker does not poll the inner future.
fn guards_the_future<F: Future<Output = Answer>>(breaker: &CircuitBreaker, call: impl Fn(Answer) -> F) {
    drop(call(Err(CallError::Inner("down"))));
    assert_eq!(breaker.stats().total, 0, "made, not polled");
    assert_eq!(ready(call(Ok(1))), Ok(1));
    assert!(matches!(ready(call(Err(CallError::Inner("down")))), Err(CallError::Inner("down"))));
    assert_eq!(breaker.state(), CircuitState::Open);
    assert!(matches!(ready(call(Ok(1))), Err(CallError::Rejected(_))));
}

// CB-12, CB-2, CB-7: the breaker's attribute guards the future, of any of these kinds; a dropped future is ignored.
#[test]
fn a_breaker_guards_the_future() {
    let client = Client { limiter: limiter(), breaker: breaker() };
    guards_the_future(&client.breaker, |answer| Api::guarded(&client, answer));
    client.breaker.reset();
    assert!(matches!(ready(Api::guarded(&client, Ok(0))), Err(CallError::Inner("zero"))));
    assert_eq!(client.breaker.state(), CircuitState::Open);
    let client = Client { limiter: limiter(), breaker: breaker() };
    guards_the_future(&client.breaker, |answer| Native::guarded(&client, answer));
    guards_the_future(&BREAKERS[0], guarded_plain);
    guards_the_future(&BREAKERS[1], guarded_alias);
    assert!(poll(guarded_never(Ok(1))).is_pending());
    assert_eq!(BREAKERS[2].stats().ignored, 1);
}
