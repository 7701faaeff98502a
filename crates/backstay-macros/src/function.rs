//! The annotated function: finds the code to guard, in a body or in a future.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Block, Expr, ExprAsync, GenericArgument, ItemFn, PathArguments, ReturnType, Stmt, Token, Type, TypeParamBound,
};

/// The code of a function that a guard wraps.
pub(crate) struct FunctionBody {
    pub(crate) kind: BodyKind,
    /// The type of its result, unless that is an `impl Trait`, which cannot be named a second time.
    pub(crate) output: Option<Type>,
    body: Vec<Stmt>,
}

/// How the body runs.
pub(crate) enum BodyKind {
    /// The body runs when the function is called.
    Sync,
    /// The body runs in a future, which captures by value if it is an `async move` block.
    Async(Option<Token![move]>),
}

impl FunctionBody {
    /// Returns whether the body runs in a future, in which a guard can wait.
    pub(crate) fn is_async(&self) -> bool {
        matches!(self.kind, BodyKind::Async(_))
    }

    /// Returns the body as a block with new braces: the user's own, moved to another place, would trigger
    /// `unused_braces`.
    pub(crate) fn block(&self) -> TokenStream {
        let body = &self.body;
        quote!({ #(#body)* })
    }
}

/// Replaces the code to guard by the output of `wrap`.
///
/// In a function that ends with an async block, as those of `#[async_trait]` do, the code is that block; in any other
/// function, the body.
pub(crate) fn guard(
    mut function: ItemFn,
    name: &str,
    wrap: impl FnOnce(&FunctionBody) -> TokenStream,
) -> syn::Result<TokenStream> {
    let returned = match &function.sig.output {
        ReturnType::Type(_, output) => Some(Type::clone(output)),
        ReturnType::Default => None,
    };
    let is_named = |output: &Type| !contains(output.to_token_stream(), "impl");
    if function.sig.asyncness.is_some() {
        let body = std::mem::take(&mut function.block.stmts);
        let work = FunctionBody {
            kind: BodyKind::Async(Some(<Token![move]>::default())),
            output: returned.filter(is_named),
            body,
        };
        fill(&mut function.block, &wrap(&work))?;
    } else if let Some(future) = last_future(&mut function.block) {
        let (body, capture) = (std::mem::take(&mut future.block.stmts), future.capture);
        reject_early_return(&function.block, name)?;
        let output = returned.as_ref().and_then(output_of_future).filter(|output| is_named(output)).cloned();
        let wrapped = wrap(&FunctionBody { kind: BodyKind::Async(capture), output, body });
        if let Some(future) = last_future(&mut function.block) {
            fill(&mut future.block, &wrapped)?;
        }
    } else if let Some(returned) = returned.as_ref().filter(|returned| output_of_future(returned).is_some()) {
        let message = format!(
            "`#[{name}]` cannot wait in this future: write an `async fn`, or let the function end with \
             `Box::pin(async move {{ .. }})` or `async move {{ .. }}`, in which the future is awaited"
        );
        return Err(syn::Error::new_spanned(returned, message));
    } else {
        let body = std::mem::take(&mut function.block.stmts);
        let work = FunctionBody { kind: BodyKind::Sync, output: returned.filter(is_named), body };
        let no_future = work
            .output
            .as_ref()
            .filter(|output| !matches!(output, Type::Never(_)))
            .map(|output| quote!(<#output as ::backstay::attributes::ReturnsNoFuture<_>>::check();));
        let wrapped = wrap(&work);
        fill(&mut function.block, &quote!(#no_future #wrapped))?;
    }
    Ok(function.into_token_stream())
}

fn fill(block: &mut Block, body: &TokenStream) -> syn::Result<()> {
    *block = syn::parse2(quote!({ #body }))?;
    Ok(())
}

/// Finds the async block at the end of a function: bare, boxed, or pinned.
fn last_future(block: &mut Block) -> Option<&mut ExprAsync> {
    match block.stmts.last_mut()? {
        Stmt::Expr(last, None) => future_in(last),
        _ => None,
    }
}

fn future_in(expression: &mut Expr) -> Option<&mut ExprAsync> {
    match expression {
        Expr::Async(future) => Some(future),
        Expr::Paren(inner) => future_in(&mut inner.expr),
        Expr::Group(inner) => future_in(&mut inner.expr),
        Expr::Block(inner) if inner.label.is_none() => last_future(&mut inner.block),
        Expr::Call(call) if call.args.len() == 1 && boxes(&call.func) => call.args.first_mut().and_then(future_in),
        Expr::MethodCall(call) if call.method == "boxed" || call.method == "boxed_local" => {
            future_in(&mut call.receiver)
        }
        _ => None,
    }
}

/// Returns whether `function` is `Box::pin`, `Box::new` or `Pin::from`.
fn boxes(function: &Expr) -> bool {
    let Expr::Path(function) = function else { return false };
    let mut names = function.path.segments.iter().rev().map(|segment| &segment.ident);
    let (Some(name), Some(kind)) = (names.next(), names.next()) else { return false };
    (kind == "Box" && (name == "pin" || name == "new")) || (kind == "Pin" && name == "from")
}

/// Returns an error if the function returns before its last async block: that future would not be guarded.
fn reject_early_return(block: &Block, name: &str) -> syn::Result<()> {
    match find(block.to_token_stream(), "return") {
        Some(early) => {
            let message = format!("`#[{name}]` guards the async block at the end: return from within that block");
            Err(syn::Error::new_spanned(early, message))
        }
        None => Ok(()),
    }
}

/// Returns the output type of a returned future, if the type shows it: `impl Future<Output = T>`,
/// `Pin<Box<dyn Future<..>>>`, `BoxFuture<'_, T>`.
fn output_of_future(returned: &Type) -> Option<&Type> {
    match returned {
        Type::Paren(inner) => output_of_future(&inner.elem),
        Type::Group(inner) => output_of_future(&inner.elem),
        Type::ImplTrait(future) => future.bounds.iter().find_map(output_of_bound),
        Type::TraitObject(future) => future.bounds.iter().find_map(output_of_bound),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
            let mut types = arguments.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(argument) => Some(argument),
                _ => None,
            });
            match last.ident.to_string().as_str() {
                "Pin" | "Box" => output_of_future(types.next()?),
                "BoxFuture" | "LocalBoxFuture" => types.next(),
                _ => None,
            }
        }
        _ => None,
    }
}

fn output_of_bound(bound: &TypeParamBound) -> Option<&Type> {
    let TypeParamBound::Trait(bound) = bound else { return None };
    let last = bound.path.segments.last().filter(|last| last.ident == "Future")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(&output.ty),
        _ => None,
    })
}

fn contains(tokens: TokenStream, word: &str) -> bool {
    find(tokens, word).is_some()
}

fn find(tokens: TokenStream, word: &str) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match &token {
        TokenTree::Ident(ident) if ident == word => Some(token),
        TokenTree::Group(group) => find(group.stream(), word),
        _ => None,
    })
}
