//! The attributes of Backstay. Use them through the crate `backstay`, which documents them with examples.

mod arguments;
mod circuit_breaker;
mod function;
mod rate_limiter;

use proc_macro::TokenStream;

/// Calls the function through a circuit breaker of its own.
///
/// The function must return a `Result`; an `Err` is a failure. While the circuit is open, the function returns the
/// rejection, so its error type must implement `From<CircuitOpenError>`, as `CallError<E>` does.
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
///     /// Each client has its own breaker. Without `breaker`, all clients share that of the method.
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
/// `max_failures`, `reset_timeout`, `half_open_max_calls`, `half_open_timeout`, `cancellation_is_failure`,
/// `failure_rate`, `window` (a duration) or `window_calls` (a number of calls), `minimum_calls`, `slow_call`,
/// `slow_call_rate` and `name` are those of `CircuitBreaker::builder()`; the installed configuration
/// (`Config::install`) or else the defaults apply to those that are missing. `excluded` is a predicate for errors that
/// are neither success nor failure; `classify` instead is a function that returns the `Outcome` of a `&Result`.
/// `breaker` is an expression for an existing breaker, such as `self.breaker`, and excludes the settings. Durations are
/// written `"30s"`, `"500ms"`, `"1h 30m"`, or as a number of seconds.
///
/// # Async functions
/// In an `async fn` the breaker guards the future: the first poll asks for admission, and a future that is dropped is
/// ignored. The same holds for a function that ends with an async block, bare or boxed (`Box::pin(async move { .. })`,
/// `async move { .. }.boxed()`); statements before that block run when the function is called. So the attribute also
/// works on the methods of an `#[async_trait]` impl. On any other function that returns a future, it is a compile
/// error.
///
/// # Several attributes
/// Rust expands the upper attribute first, so the lowest is the outermost guard. With `#[rate_limiter]` above
/// `#[circuit_breaker]`, the wait for a token is part of the guarded call, and a rejection by the limiter is a failure.
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
/// the installed configuration (`Config::install`) or else the defaults apply to those that are missing. `limiter` is
/// an expression for an existing limiter, such as `self.limiter`, and excludes the settings. The function waits for a
/// token, for at most `timeout` if that is set; with `blocking = false` it does not wait. With either of these it must
/// return a `Result` with an error type that implements `From<RateLimitExceededError>`, as `CallError<E>` does.
/// Durations are written `"30s"`, `"500ms"`, `"1h 30m"`, or as a number of seconds.
///
/// # Async functions
/// An `async fn` waits inside its future: it blocks no thread, and a future that is not polled takes no token. The same
/// holds for a function that ends with an async block, bare or boxed (`Box::pin(async move { .. })`,
/// `async move { .. }.boxed()`); statements before that block run when the function is called. So the attribute also
/// works on the methods of an `#[async_trait]` impl. On any other function that returns a future, it is a compile
/// error.
///
/// # When not to use it
/// On a sync function that runs in a task: it blocks the thread while it waits.
#[proc_macro_attribute]
pub fn rate_limiter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    rate_limiter::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
