//! The attributes of Backstay. Use them through the crate `backstay`, which documents them with examples.

mod arguments;
mod circuit_breaker;
mod rate_limiter;

use proc_macro::TokenStream;

/// Calls the function through a circuit breaker of its own.
#[proc_macro_attribute]
pub fn circuit_breaker(arguments: TokenStream, item: TokenStream) -> TokenStream {
    circuit_breaker::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Lets the function run at a limited rate.
#[proc_macro_attribute]
pub fn rate_limiter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    rate_limiter::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
