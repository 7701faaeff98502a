//! `#[rate_limiter]`: takes a token before the body runs.

use backstay_core::rate_limiter as rules;
use darling::FromMeta;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use crate::arguments::{Number, Time, Value, parse, reference};
use crate::function::guard;

const NAME: &str = "rate_limiter";

#[derive(Default, FromMeta)]
#[darling(default)]
struct Arguments {
    rate: Option<Number>,
    per: Option<Time>,
    burst: Option<Number>,
    blocking: Option<bool>,
    timeout: Option<Time>,
    name: Option<String>,
    limiter: Option<Value>,
}

impl Arguments {
    /// Checks the arguments together with the defaults of those that are missing.
    fn check(&self) -> syn::Result<()> {
        let rate = self.rate.map_or(rules::DEFAULT_RATE, |rate| rate.0);
        let per = self.per.map_or(rules::DEFAULT_PER, |per| per.0);
        let checked = rules::Quota::new(rate, per, self.burst.map(|burst| burst.0));
        checked.map(drop).map_err(|error| syn::Error::new(Span::call_site(), error))
    }

    /// Returns an expression for a reference to the limiter: the given one, or a static of this function.
    fn limiter(&self, function: &Ident) -> syn::Result<TokenStream> {
        let rate = self.rate.map(|Number(rate)| quote!(.rate(#rate)));
        let per = self.per.map(Time::tokens).map(|per| quote!(.per(#per)));
        let burst = self.burst.map(|Number(burst)| quote!(.burst(#burst)));
        let name = self.name.as_ref().map(|name| quote!(.name(#name)));
        reference(
            function,
            self.limiter.as_ref(),
            [rate, per, burst, name],
            &quote!(::backstay::RateLimiter),
            &quote!(::backstay::attributes::limiter),
            &quote!(<::backstay::rate_limiter::RateLimiterBuilder as ::core::default::Default>::default()),
        )
    }
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let (arguments, function) = parse::<Arguments>(arguments, item, NAME)?;
    arguments.check()?;
    let limiter = arguments.limiter(&function.sig.ident)?;
    let (blocking, timeout) = (arguments.blocking.unwrap_or(true), arguments.timeout.map(Time::tokens));
    if !blocking && timeout.is_some() {
        let message = "`timeout` has no effect with `blocking = false`: choose one";
        return Err(syn::Error::new(Span::call_site(), message));
    }
    guard(function, NAME, |work| {
        let take = take(&limiter, blocking, timeout.as_ref(), work.is_async());
        // A block of its own: an item at its start would trigger clippy's `items_after_statements` otherwise.
        let body = work.block();
        quote!(#take #body)
    })
}

/// Returns code that takes a token, or returns the rejection from the function.
fn take(limiter: &TokenStream, blocking: bool, timeout: Option<&TokenStream>, is_async: bool) -> TokenStream {
    let taken = match (blocking, timeout, is_async) {
        (true, None, false) => return quote!(::backstay::RateLimiter::acquire(#limiter);),
        (true, None, true) => return quote!(::backstay::RateLimiter::acquire_async(#limiter).await;),
        (true, Some(timeout), false) => quote!(::backstay::RateLimiter::acquire_timeout(#limiter, #timeout)),
        (true, Some(timeout), true) => quote!(::backstay::RateLimiter::acquire_timeout_async(#limiter, #timeout).await),
        (false, ..) => quote!(::backstay::RateLimiter::check(#limiter)),
    };
    quote! {
        if let ::core::result::Result::Err(error) = #taken {
            return ::core::result::Result::Err(::backstay::attributes::HoldsRateLimit::hold(error));
        }
    }
}
