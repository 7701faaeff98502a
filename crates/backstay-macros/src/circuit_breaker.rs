//! `#[circuit_breaker]`: calls the body, as a closure or a future, through a breaker.

use std::time::Duration;

use backstay_core::circuit_breaker as rules;
use darling::FromMeta;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ReturnType;

use crate::arguments::{Number, Time, Value, parse, reference};
use crate::function::{BodyKind, guard};

const NAME: &str = "circuit_breaker";

#[derive(Default, FromMeta)]
#[darling(default)]
struct Arguments {
    max_failures: Option<u32>,
    reset_timeout: Option<Time>,
    half_open_max_calls: Option<u32>,
    half_open_timeout: Option<Time>,
    cancellation_is_failure: Option<bool>,
    failure_rate: Option<Number>,
    window: Option<Time>,
    window_calls: Option<u32>,
    minimum_calls: Option<u32>,
    slow_call: Option<Time>,
    slow_call_rate: Option<Number>,
    excluded: Option<Value>,
    classify: Option<Value>,
    name: Option<String>,
    breaker: Option<Value>,
}

impl Arguments {
    /// Checks the arguments together with the defaults of those that are missing.
    fn check(&self) -> syn::Result<()> {
        let time = |time: Option<Time>, default: Duration| time.map_or(default, |time| time.0);
        let checked = rules::Policy::new(
            self.max_failures.or(Some(rules::DEFAULT_MAX_FAILURES)),
            time(self.reset_timeout, rules::DEFAULT_RESET_TIMEOUT),
            self.half_open_max_calls.unwrap_or(rules::DEFAULT_HALF_OPEN_MAX_CALLS),
            time(self.half_open_timeout, rules::DEFAULT_RESET_TIMEOUT),
        );
        let error = |error: &dyn std::fmt::Display| syn::Error::new(Span::call_site(), error);
        checked.map_err(|invalid| error(&invalid))?;
        if self.window.is_some() && self.window_calls.is_some() {
            return Err(error(&"`window` and `window_calls` exclude each other"));
        }
        if self.excluded.is_some() && self.classify.is_some() {
            return Err(error(
                &"`excluded` has no effect with `classify`: let the classifier return `Outcome::Ignored`",
            ));
        }
        let rates = rules::Rates {
            failure_rate: self.failure_rate.map(|rate| rate.0),
            window: self.window.map(|time| rules::Window::Time(time.0)).or(self.window_calls.map(rules::Window::Calls)),
            minimum_calls: self.minimum_calls,
            slow_call: self.slow_call.map(|time| time.0),
            slow_call_rate: self.slow_call_rate.map(|rate| rate.0),
        };
        rules::RatePolicy::new(&rates).map(drop).map_err(|invalid| error(&invalid))
    }

    /// Returns an expression for a reference to the breaker: the given one, or a static of this function.
    fn breaker(&self, function: &Ident) -> syn::Result<TokenStream> {
        let max_failures = self.max_failures.map(|failures| quote!(.max_failures(#failures)));
        let reset_timeout = self.reset_timeout.map(Time::tokens).map(|time| quote!(.reset_timeout(#time)));
        let half_open_max_calls = self.half_open_max_calls.map(|calls| quote!(.half_open_max_calls(#calls)));
        let half_open_timeout = self.half_open_timeout.map(Time::tokens).map(|time| quote!(.half_open_timeout(#time)));
        let cancellation = self.cancellation_is_failure.map(|is| quote!(.cancellation_is_failure(#is)));
        let failure_rate = self.failure_rate.map(|Number(rate)| quote!(.failure_rate(#rate)));
        let kind = quote!(::backstay::circuit_breaker::Window);
        let window = self.window.map(Time::tokens).map(|time| quote!(.window(#kind::time(#time))));
        let window_calls = self.window_calls.map(|calls| quote!(.window(#kind::calls(#calls))));
        let minimum_calls = self.minimum_calls.map(|calls| quote!(.minimum_calls(#calls)));
        let slow_call = self.slow_call.map(Time::tokens).map(|time| quote!(.slow_call(#time)));
        let slow_call_rate = self.slow_call_rate.map(|Number(rate)| quote!(.slow_call_rate(#rate)));
        let name = self.name.as_ref().map(|name| quote!(.name(#name)));
        let settings = [
            max_failures,
            reset_timeout,
            half_open_max_calls,
            half_open_timeout,
            cancellation,
            failure_rate,
            window,
            window_calls,
            minimum_calls,
            slow_call,
            slow_call_rate,
            name,
        ];
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
        let message = "`#[circuit_breaker]` needs a function that returns a `Result`: an `Err` is a failure";
        return Err(syn::Error::new_spanned(&function.sig, message));
    }
    let breaker = arguments.breaker(&function.sig.ident)?;
    let (decides, call, call_async) = match (&arguments.classify, &arguments.excluded) {
        (Some(Value(classifier)), _) => (quote!(#classifier), quote!(call_classified), quote!(call_classified_async)),
        (None, Some(Value(predicate))) => (quote!(#predicate), quote!(call), quote!(call_async)),
        (None, None) => (quote!(|_| false), quote!(call), quote!(call_async)),
    };
    guard(function, NAME, |work| {
        let output = work.output.as_ref().map(|output| quote!(-> #output));
        let body = work.block();
        match &work.kind {
            BodyKind::Sync => quote!(::backstay::attributes::#call(#breaker, #decides, move || #output #body)),
            BodyKind::Async(capture) => quote! {
                ::backstay::attributes::#call_async(#breaker, #decides, async #capture || #output #body).await
            },
        }
    })
}
