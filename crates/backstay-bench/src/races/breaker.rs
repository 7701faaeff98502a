//! Measures the circuit breaker, closed and open.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backstay::{CallError, CircuitBreaker};
use failsafe::CircuitBreaker as _;
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer, CircuitState};
use tower_service::Service;

use crate::harness::{Contestant, Side};

/// Long enough that an open breaker stays open during the measurement.
const OPEN: Duration = Duration::from_secs(3600);
const FAILURES: u32 = 5;

/// The protected function: it does almost nothing, but the compiler must not know its result. The result stays in
/// registers: storing and reloading it would cost more than the breaker.
#[inline]
fn service(succeeds: bool) -> Result<u64, u64> {
    if black_box(succeeds) { Ok(black_box(1)) } else { Err(black_box(1)) }
}

#[inline]
pub(super) fn succeed() -> Result<u64, u64> {
    service(true)
}

pub(super) fn fail() -> Result<u64, u64> {
    service(false)
}

/// Calls that succeed, through a closed breaker.
pub(crate) fn closed() -> Vec<Contestant> {
    let (ours, recloser, failsafe, nobreak) = (ours(None), recloser(), failsafe(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || black_box(&ours).call(succeed).is_ok()),
        Contestant::new(Side::Peer, "nobreak", move || black_box(&nobreak).call(succeed).is_ok()),
        Contestant::new(Side::Peer, "recloser", move || black_box(&recloser).call(succeed).is_ok()),
        Contestant::new(Side::Peer, "failsafe", move || black_box(&failsafe).call(succeed).is_ok()),
        tower(false),
        Contestant::new(Side::Floor, "bare call", || succeed().is_ok()),
    ]
}

/// The two-step form, next to calls of peers without such a form.
pub(crate) fn permit() -> Vec<Contestant> {
    let (ours, recloser, nobreak) = (ours(None), recloser(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || match black_box(&ours).try_acquire() {
            Ok(permit) => {
                let succeeded = succeed().is_ok();
                permit.success();
                succeeded
            }
            Err(_) => false,
        }),
        Contestant::new(Side::Peer, "nobreak, call", move || black_box(&nobreak).call(succeed).is_ok()),
        Contestant::new(Side::Peer, "recloser, call", move || black_box(&recloser).call(succeed).is_ok()),
    ]
}

/// A call that fails, and then one that succeeds.
pub(crate) fn failing() -> Vec<Contestant> {
    let (ours, failsafe, nobreak) = (ours(None), failsafe(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            let breaker = black_box(&ours);
            breaker.call(fail).is_err() && breaker.call(succeed).is_ok()
        }),
        Contestant::new(Side::Peer, "nobreak", move || {
            let breaker = black_box(&nobreak);
            breaker.call(fail).is_err() && breaker.call(succeed).is_ok()
        }),
        Contestant::new(Side::Peer, "failsafe", move || {
            let breaker = black_box(&failsafe);
            breaker.call(fail).is_err() && breaker.call(succeed).is_ok()
        }),
    ]
}

/// Calls that are rejected by an open breaker.
pub(crate) fn open() -> Vec<Contestant> {
    let (ours, named, recloser, failsafe, nobreak) =
        (ours(None), ours(Some("payment-api")), recloser(), failsafe(), nobreak());
    // Enough failures for the peer that needs most of them to open.
    for _ in 0..200 {
        let _ = ours.call(fail);
        let _ = named.call(fail);
        let _ = recloser.call(fail);
        let _ = failsafe.call(fail);
        let _ = nobreak.call(fail);
    }
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            matches!(black_box(&ours).call(succeed), Err(CallError::Rejected(_)))
        }),
        Contestant::new(Side::OursToo, "backstay, named", move || {
            matches!(black_box(&named).call(succeed), Err(CallError::Rejected(_)))
        }),
        Contestant::new(Side::Peer, "nobreak", move || {
            matches!(black_box(&nobreak).call(succeed), Err(nobreak::CircuitError::Open))
        }),
        Contestant::new(Side::Peer, "recloser", move || {
            matches!(black_box(&recloser).call(succeed), Err(recloser::Error::Rejected))
        }),
        Contestant::new(Side::Peer, "failsafe", move || {
            matches!(black_box(&failsafe).call(succeed), Err(failsafe::Error::Rejected))
        }),
        tower(true),
    ]
}

pub(super) fn ours(name: Option<&str>) -> CircuitBreaker {
    let builder = CircuitBreaker::builder().max_failures(FAILURES).reset_timeout(OPEN).half_open_max_calls(1);
    let builder = match name {
        Some(name) => builder.name(name),
        None => builder,
    };
    builder.build().expect("the arguments are valid")
}

pub(super) fn recloser() -> recloser::Recloser {
    recloser::Recloser::custom().open_wait(OPEN).build()
}

/// Uses the one of its two policies that reads no clock; it is also ours.
fn failsafe() -> impl failsafe::CircuitBreaker + Send + Sync {
    let policy = failsafe::failure_policy::consecutive_failures(FAILURES, failsafe::backoff::constant(OPEN));
    failsafe::Config::new().failure_policy(policy).build()
}

pub(super) fn nobreak() -> nobreak::CircuitBreaker {
    nobreak::builder().with_failure_threshold(FAILURES as usize).with_open_duration(OPEN).build()
}

#[derive(Clone)]
pub(super) struct TestService(pub(super) bool);

impl Service<()> for TestService {
    type Response = u64;
    type Error = u64;
    type Future = std::future::Ready<Result<u64, u64>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), u64>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(service(self.0))
    }
}

/// Polls the future of `call` until it is ready, without a runtime, which costs less than waking a task.
///
/// Leaves out `poll_ready`: it sleeps for a millisecond on an open breaker while another thread holds the lock. Both
/// choices favour the peer.
fn tower(open: bool) -> Contestant {
    let layer = CircuitBreakerLayer::builder().wait_duration_in_open(OPEN).build().expect("the arguments are valid");
    let mut service = layer.layer_fn(TestService(!open));
    if open {
        while service.state_sync() == CircuitState::Closed {
            let _ = call(&mut service);
        }
    }
    Contestant::with(
        Side::Peer,
        "tower-resilience",
        move |_| service.clone(),
        move |service| match call(service) {
            Ok(_) => !open,
            Err(error) => open && matches!(error, CircuitBreakerError::OpenCircuit),
        },
    )
}

pub(super) fn call<S: Service<(), Future: Unpin>>(service: &mut S) -> Result<S::Response, S::Error> {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = service.call(());
    loop {
        match std::pin::Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::hint::spin_loop(),
        }
    }
}
