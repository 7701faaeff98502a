//! Parsing for both attributes: argument lists, durations, and the annotated function.

use std::time::Duration;

use darling::FromMeta;
use darling::ast::NestedMeta;
use jiff::SignedDuration;
use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{Expr, Item, ItemFn, Lit, TraitItemFn};

/// Parses the attribute's arguments and the function. Errors have the span of the wrong code.
pub(crate) fn parse<A: FromMeta>(arguments: TokenStream, item: TokenStream, name: &str) -> syn::Result<(A, ItemFn)> {
    let arguments = NestedMeta::parse_meta_list(arguments)?;
    let arguments = A::from_list(&arguments).map_err(plain_error)?;
    let function: ItemFn = syn::parse2(item.clone()).map_err(|error| misplaced(item, name, &error))?;
    if let Some(constness) = &function.sig.constness {
        return Err(syn::Error::new_spanned(constness, format!("`#[{name}]` does not support a `const fn`")));
    }
    Ok((arguments, function))
}

/// Returns an error that says where to put the attribute.
fn misplaced(item: TokenStream, name: &str, error: &syn::Error) -> syn::Error {
    let advice = match syn::parse2(item.clone()) {
        Ok(Item::Impl(_) | Item::Trait(_)) => Some("put it on the methods in here, below `#[async_trait]`"),
        _ => match syn::parse2::<TraitItemFn>(item) {
            Ok(_) => Some("this method has no body, so put it on the method in the `impl`"),
            Err(_) => None,
        },
    };
    let message = advice.map_or_else(|| error.to_string(), str::to_owned);
    syn::Error::new(error.span(), format!("`#[{name}]` needs a function: {message}"))
}

/// Converts an error of darling: its "field" is an argument for the author of the attribute.
fn plain_error(error: darling::Error) -> syn::Error {
    let convert = |error: syn::Error| {
        let text = error.to_string().replacen("Unknown field", "unknown argument", 1);
        syn::Error::new(error.span(), text.replacen(" field", " argument", 1))
    };
    let error = syn::Error::from(error);
    let each = error.clone().into_iter().map(convert).reduce(|mut all, error| {
        all.combine(error);
        all
    });
    each.unwrap_or(error)
}

/// A duration: `"30s"`, `"1h 30m"`, `"500ms"`, or a number of seconds.
#[derive(Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    pub(crate) fn tokens(self) -> TokenStream {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        quote!(::core::time::Duration::new(#seconds, #nanos))
    }
}

impl FromMeta for Time {
    fn from_value(value: &Lit) -> darling::Result<Self> {
        let allowed = || {
            darling::Error::custom(
                "expected a duration such as \"30s\", \"500ms\" or \"1h 30m\", or a number of seconds",
            )
        };
        let time = match value {
            Lit::Str(text) => {
                text.value().parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok())
            }
            Lit::Int(seconds) => seconds.base10_parse().ok().map(Duration::from_secs),
            Lit::Float(seconds) => seconds.base10_parse().ok().and_then(|time| Duration::try_from_secs_f64(time).ok()),
            _ => None,
        };
        time.map(Self).ok_or_else(|| allowed().with_span(value))
    }
}

/// A number such as `10` or `0.5`.
#[derive(Clone, Copy)]
pub(crate) struct Number(pub(crate) f64);

impl FromMeta for Number {
    fn from_value(value: &Lit) -> darling::Result<Self> {
        let number = match value {
            Lit::Int(number) => number.base10_parse().ok(),
            Lit::Float(number) => number.base10_parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| darling::Error::unexpected_lit_type(value))
    }
}

/// Any expression; a string is a string literal.
pub(crate) struct Value(pub(crate) Expr);

impl FromMeta for Value {
    fn from_expr(expression: &Expr) -> darling::Result<Self> {
        Ok(Self(expression.clone()))
    }
}

/// Returns an expression for a reference to the breaker or limiter of `function`: the `given` one, or a static of type
/// `kind` that `build` makes of `builder` with these `settings`.
pub(crate) fn reference(
    function: &Ident,
    given: Option<&Value>,
    settings: impl IntoIterator<Item = Option<TokenStream>>,
    kind: &TokenStream,
    build: &TokenStream,
    builder: &TokenStream,
) -> syn::Result<TokenStream> {
    let settings: Vec<_> = settings.into_iter().flatten().collect();
    let name = function.to_string();
    match given {
        None => Ok(quote! {{
            static INSTANCE: ::backstay::attributes::BuiltOnce<#kind> = ::backstay::attributes::BuiltOnce::new();
            INSTANCE.get(|| #build(#builder #(#settings)*, ::core::concat!(::core::module_path!(), "::", #name)))
        }}),
        Some(Value(given)) if settings.is_empty() => Ok(quote!(&#given)),
        Some(Value(given)) => {
            let message = "an existing instance takes no other arguments: set its name and numbers where it is built";
            Err(syn::Error::new_spanned(given, message))
        }
    }
}
