//! Measures the async forms, polled once: with nothing to wait for, they are ready at once.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{breaker, limiter};
use crate::harness::{Contestant, Side};

/// Whether `future` is ready when it is first polled, with an output that is `expected`.
#[inline(always)]
fn at_once<T>(future: impl Future<Output = T>, expected: impl FnOnce(T) -> bool) -> bool {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => expected(output),
        Poll::Pending => false,
    }
}

/// Waits for a token that is there.
pub(crate) fn acquire() -> Vec<Contestant> {
    const FAST: u32 = limiter::FAST;
    let (ours, governor) = (limiter::ours(FAST, FAST), limiter::governor(FAST, FAST));
    let millisecond = std::time::Duration::from_millis(1);
    let leaky = limiter::leaky_bucket(FAST as usize / 1000, millisecond, FAST as usize, FAST as usize);
    vec![
        Contestant::new(Side::Ours, "backstay", move || at_once(black_box(&ours).acquire_async(), |()| true)),
        Contestant::new(Side::Peer, "governor", move || at_once(black_box(&governor).until_ready(), |()| true)),
        Contestant::new(Side::Peer, "leaky-bucket", move || at_once(black_box(&leaky).acquire_one(), |()| true)),
    ]
}

/// Futures that succeed at once, through a closed breaker.
pub(crate) fn call() -> Vec<Contestant> {
    let (ours, nobreak) = (breaker::ours(None), breaker::nobreak());
    let recloser = recloser::AsyncRecloser::from(breaker::recloser());
    let service = || std::future::ready(breaker::succeed());
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            at_once(black_box(&ours).call_async(service), |result| result.is_ok())
        }),
        Contestant::new(Side::Peer, "recloser", move || {
            at_once(black_box(&recloser).call(service()), |result| result.is_ok())
        }),
        Contestant::new(Side::Peer, "nobreak", move || {
            at_once(black_box(&nobreak).call_async(service), |result| result.is_ok())
        }),
    ]
}
