//! The breaker, closed and well, and open.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backstay::{CallError, CircuitBreaker};
use failsafe::CircuitBreaker as _;
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer, CircuitState};
use tower_service::Service;

use crate::harness::{Contestant, Side};

/// Long enough that an open breaker stays open while it is measured.
const OPEN: Duration = Duration::from_secs(3600);
const FAILURES: u32 = 5;

/// What is called: next to nothing, but the compiler must not know the result. It stays in registers: a result that is
/// written by the byte and read by the word would cost more than what is measured here.
#[inline]
fn service(well: bool) -> Result<u64, u64> {
    if black_box(well) { Ok(black_box(1)) } else { Err(black_box(1)) }
}

#[inline]
pub(super) fn well() -> Result<u64, u64> {
    service(true)
}

pub(super) fn ill() -> Result<u64, u64> {
    service(false)
}

/// Calls that succeed, through a breaker that is closed.
pub(crate) fn closed() -> Vec<Contestant> {
    let (ours, recloser, failsafe, nobreak) = (ours(None), recloser(), failsafe(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || black_box(&ours).call(well).is_ok()),
        Contestant::new(Side::Peer, "nobreak", move || black_box(&nobreak).call(well).is_ok()),
        Contestant::new(Side::Peer, "recloser", move || black_box(&recloser).call(well).is_ok()),
        Contestant::new(Side::Peer, "failsafe", move || black_box(&failsafe).call(well).is_ok()),
        tower(false),
        Contestant::new(Side::Floor, "bare call", || well().is_ok()),
    ]
}

/// The two-step form, beside the calls of those who have no such form.
pub(crate) fn permit() -> Vec<Contestant> {
    let (ours, recloser, nobreak) = (ours(None), recloser(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || match black_box(&ours).try_acquire() {
            Ok(permit) => {
                let well = well().is_ok();
                permit.success();
                well
            }
            Err(_) => false,
        }),
        Contestant::new(Side::Peer, "nobreak, call", move || black_box(&nobreak).call(well).is_ok()),
        Contestant::new(Side::Peer, "recloser, call", move || black_box(&recloser).call(well).is_ok()),
    ]
}

/// A call that fails, and then one that succeeds.
pub(crate) fn failing() -> Vec<Contestant> {
    let (ours, failsafe, nobreak) = (ours(None), failsafe(), nobreak());
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            let breaker = black_box(&ours);
            breaker.call(ill).is_err() && breaker.call(well).is_ok()
        }),
        Contestant::new(Side::Peer, "nobreak", move || {
            let breaker = black_box(&nobreak);
            breaker.call(ill).is_err() && breaker.call(well).is_ok()
        }),
        Contestant::new(Side::Peer, "failsafe", move || {
            let breaker = black_box(&failsafe);
            breaker.call(ill).is_err() && breaker.call(well).is_ok()
        }),
    ]
}

/// Calls that are turned away, by a breaker that is open.
pub(crate) fn open() -> Vec<Contestant> {
    let (ours, named, recloser, failsafe, nobreak) =
        (ours(None), ours(Some("payment-api")), recloser(), failsafe(), nobreak());
    // As many failures as the slowest to open wants to see.
    for _ in 0..200 {
        let _ = ours.call(ill);
        let _ = named.call(ill);
        let _ = recloser.call(ill);
        let _ = failsafe.call(ill);
        let _ = nobreak.call(ill);
    }
    vec![
        Contestant::new(Side::Ours, "backstay", move || {
            matches!(black_box(&ours).call(well), Err(CallError::Rejected(_)))
        }),
        Contestant::new(Side::OursToo, "backstay, named", move || {
            matches!(black_box(&named).call(well), Err(CallError::Rejected(_)))
        }),
        Contestant::new(Side::Peer, "nobreak", move || {
            matches!(black_box(&nobreak).call(well), Err(nobreak::CircuitError::Open))
        }),
        Contestant::new(Side::Peer, "recloser", move || {
            matches!(black_box(&recloser).call(well), Err(recloser::Error::Rejected))
        }),
        Contestant::new(Side::Peer, "failsafe", move || {
            matches!(black_box(&failsafe).call(well), Err(failsafe::Error::Rejected))
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
    builder.build().expect("the numbers are sensible")
}

pub(super) fn recloser() -> recloser::Recloser {
    recloser::Recloser::custom().open_wait(OPEN).build()
}

/// With the one policy of the two it offers that reads no clock, and that is also ours.
fn failsafe() -> impl failsafe::CircuitBreaker + Send + Sync {
    let policy = failsafe::failure_policy::consecutive_failures(FAILURES, failsafe::backoff::constant(OPEN));
    failsafe::Config::new().failure_policy(policy).build()
}

pub(super) fn nobreak() -> nobreak::CircuitBreaker {
    nobreak::builder().with_failure_threshold(FAILURES as usize).with_open_duration(OPEN).build()
}

#[derive(Clone)]
pub(super) struct Well(pub(super) bool);

impl Service<()> for Well {
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

/// The future of `call`, polled until it is ready, without a runtime: that costs less than being woken. Both in its favour:
/// `poll_ready` is left out, since on an open breaker that another thread holds at the moment it sleeps a millisecond.
fn tower(open: bool) -> Contestant {
    let layer = CircuitBreakerLayer::builder().wait_duration_in_open(OPEN).build().expect("the numbers are sensible");
    let mut service = layer.layer_fn(Well(!open));
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
