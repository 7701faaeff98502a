//! `#[circuit_breaker]`: the body becomes a closure or future that a static breaker calls.

use std::time::Duration;

use backstay_core::circuit_breaker as rules;
use darling::FromMeta;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ReturnType;

use crate::arguments::{Time, Value, parse, reference};
use crate::function::{Kind, guard};

const NAME: &str = "circuit_breaker";

#[derive(Default, FromMeta)]
#[darling(default)]
struct Arguments {
    max_failures: Option<u32>,
    reset_timeout: Option<Time>,
    half_open_max_calls: Option<u32>,
    half_open_timeout: Option<Time>,
    cancellation_is_failure: Option<bool>,
    excluded: Option<Value>,
    name: Option<String>,
    breaker: Option<Value>,
}

impl Arguments {
    /// The numbers must make sense together with the defaults for those that are missing.
    fn check(&self) -> syn::Result<()> {
        let time = |time: Option<Time>, default: Duration| time.map_or(default, |time| time.0);
        let checked = rules::Policy::new(
            self.max_failures.unwrap_or(rules::DEFAULT_MAX_FAILURES),
            time(self.reset_timeout, rules::DEFAULT_RESET_TIMEOUT),
            self.half_open_max_calls.unwrap_or(rules::DEFAULT_HALF_OPEN_MAX_CALLS),
            time(self.half_open_timeout, rules::DEFAULT_RESET_TIMEOUT),
        );
        checked.map(drop).map_err(|error| syn::Error::new(Span::call_site(), error))
    }

    /// The expression for a reference to the breaker: one that is given, or a static of this function.
    fn breaker(&self, function: &Ident) -> syn::Result<TokenStream> {
        let max_failures = self.max_failures.map(|failures| quote!(.max_failures(#failures)));
        let reset_timeout = self.reset_timeout.map(Time::tokens).map(|time| quote!(.reset_timeout(#time)));
        let half_open_max_calls = self.half_open_max_calls.map(|calls| quote!(.half_open_max_calls(#calls)));
        let half_open_timeout = self.half_open_timeout.map(Time::tokens).map(|time| quote!(.half_open_timeout(#time)));
        let cancellation = self.cancellation_is_failure.map(|is| quote!(.cancellation_is_failure(#is)));
        let name = self.name.as_ref().map(|name| quote!(.name(#name)));
        let settings = [max_failures, reset_timeout, half_open_max_calls, half_open_timeout, cancellation, name];
        reference(
            function,
            self.breaker.as_ref(),
            settings,
            &quote!(::backstay::CircuitBreaker),
            &quote!(::backstay::attributes::breaker),
            &quote!(::backstay::CircuitBreaker::builder()),
        )
    }
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let (arguments, function) = parse::<Arguments>(arguments, item, NAME)?;
    arguments.check()?;
    if let ReturnType::Default = &function.sig.output {
        let message = "`#[circuit_breaker]` stands on a function that returns a `Result`: its `Err` is the failure";
        return Err(syn::Error::new_spanned(&function.sig, message));
    }
    let breaker = arguments.breaker(&function.sig.ident)?;
    let excluded = match &arguments.excluded {
        Some(Value(predicate)) => quote!(#predicate),
        None => quote!(|_| false),
    };
    guard(function, NAME, |work| {
        let output = work.output.as_ref().map(|output| quote!(-> #output));
        let body = work.block();
        match &work.kind {
            Kind::Sync => quote!(::backstay::attributes::call(#breaker, #excluded, move || #output #body)),
            Kind::Async(capture) => quote! {
                ::backstay::attributes::call_async(#breaker, #excluded, async #capture || #output #body).await
            },
        }
    })
}
