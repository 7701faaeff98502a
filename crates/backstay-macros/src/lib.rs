//! The attributes of Backstay. Use them through the crate `backstay`, which documents them with examples.

mod arguments;
mod circuit_breaker;
mod function;
mod rate_limiter;

use proc_macro::TokenStream;

/// Calls the function through a circuit breaker of its own.
///
/// The function returns a `Result`, whose `Err` is a failure. While the circuit is open it returns the rejection, so its
/// error type implements `From<CircuitOpenError>`, as `CallError<E>` does.
///
/// ```
/// use backstay::{CallError, CircuitBreaker, circuit_breaker};
///
/// #[circuit_breaker(max_failures = 3, reset_timeout = "30s", name = "prices")]
/// fn price(symbol: &str) -> Result<f64, CallError<std::io::Error>> {
///     Ok(symbol.len() as f64)
/// }
///
/// struct Client {
///     breaker: CircuitBreaker,
/// }
///
/// impl Client {
///     /// Each client has its own breaker. Without `breaker` all clients share the one of the method.
///     #[circuit_breaker(breaker = self.breaker)]
///     async fn fetch(&self) -> Result<(), CallError<std::io::Error>> {
///         Ok(())
///     }
/// }
///
/// assert_eq!(price("BTC")?, 3.0);
/// # Ok::<(), CallError<std::io::Error>>(())
/// ```
///
/// # Arguments
/// `max_failures`, `reset_timeout`, `half_open_max_calls`, `half_open_timeout`, `cancellation_is_failure`, `failure_rate`,
/// `window` (a duration) or `window_calls`, `minimum_calls`, `slow_call`, `slow_call_rate` and `name`, as those of
/// `CircuitBreaker::builder()`; for those that are missing, the installed configuration (`Config::install`) or else the
/// defaults apply. `excluded` is a predicate for errors that are neither success nor failure; or `classify`, a function of
/// `&Result<T, E>`, decides about each result. `breaker` is a place that holds a breaker, and excludes the others.
/// Durations are written `"30s"`, `"500ms"`, `"1h 30m"`, or as a number of seconds.
///
/// # Async functions
/// In an `async fn` the future is guarded: it asks for admission when it is first polled, and one that is dropped is
/// ignored. The same holds for a function that ends with an async block, bare or boxed (`Box::pin(async move { .. })`,
/// `async move { .. }.boxed()`); statements before that block run when the future is made. So the attribute works on
/// the methods of an `#[async_trait]` impl. Any other function that returns a future does not compile.
///
/// # Several attributes
/// Rust expands the upper attribute first, so the lowest is the outermost. With `#[rate_limiter]` above
/// `#[circuit_breaker]`, the wait for a token is part of the guarded call, and a refusal of the limiter a failure.
#[proc_macro_attribute]
pub fn circuit_breaker(arguments: TokenStream, item: TokenStream) -> TokenStream {
    circuit_breaker::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Takes a token of a rate limiter of its own before the function runs.
///
/// ```
/// use backstay::{RateLimitExceededError, rate_limiter};
///
/// #[rate_limiter(rate = 100, per = "60s")]
/// async fn call_api() {}
///
/// #[rate_limiter(rate = 1, blocking = false)]
/// fn at_once(n: u32) -> Result<u32, RateLimitExceededError> {
///     Ok(n)
/// }
///
/// assert_eq!(at_once(1)?, 1);
/// assert!(at_once(2).is_err());
/// # Ok::<(), RateLimitExceededError>(())
/// ```
///
/// # Arguments
/// `rate` (default 10), `per` (default 1 s), `burst` (default `rate`) and `name`, as those of `RateLimiter::builder()`;
/// for those that are missing, the installed configuration (`Config::install`) or else the defaults apply. `limiter` is a place that holds a limiter, such as `self.limiter`, and excludes the others. It
/// waits for a token, for at most `timeout` where that is given; with `blocking = false` it does not wait. In both cases
/// the function returns a `Result` whose error type implements `From<RateLimitExceededError>`, as `CallError<E>` does.
/// Durations are written `"30s"`, `"500ms"`, `"1h 30m"`, or as a number of seconds.
///
/// # Async functions
/// An `async fn` waits inside its future: no thread is blocked, and a future that is not polled takes no token. The same
/// holds for a function that ends with an async block, bare or boxed (`Box::pin(async move { .. })`,
/// `async move { .. }.boxed()`); statements before that block run when the future is made. So the attribute works on
/// the methods of an `#[async_trait]` impl. Any other function that returns a future does not compile.
///
/// When not to use it: on a plain function that runs in a task. It blocks its thread while it waits.
#[proc_macro_attribute]
pub fn rate_limiter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    rate_limiter::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
