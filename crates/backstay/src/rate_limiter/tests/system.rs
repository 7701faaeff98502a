//! Tasks on the system's clock share one wake-up: a waiter that leaves wakes no other, and all are woken in time.

use std::sync::mpsc;

use super::*;

/// Far longer than the tests take, far shorter than a lost wake-up would take.
const ENOUGH: Duration = Duration::from_secs(60);

struct Report(mpsc::Sender<usize>, usize);

impl Wake for Report {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(self.1);
    }
}

fn waker(sender: &mpsc::Sender<usize>, number: usize) -> Waker {
    Arc::new(Report(sender.clone(), number)).into()
}

/// A limiter without tokens that grants one per `gap`.
fn empty(gap: Duration) -> RateLimiter {
    let limiter = RateLimiter::builder(1).per(gap).burst(1).build().unwrap();
    assert!(limiter.try_acquire());
    limiter
}

fn listen(waiting: &mut Reservation, waker: &Waker) -> bool {
    pin!(waiting).poll(&mut Context::from_waker(waker)).is_pending()
}

// RL-4, RL-6: later waiters move up, and are woken when they are due now: an hour earlier than when they began.
#[test]
fn a_waiter_that_moves_up_is_woken_when_its_token_is_due() {
    let limiter = empty(SECOND / 50);
    let ahead = limiter.reserve(1, None).unwrap();
    let hour = limiter.set_rate(1, SECOND * 3600);
    hour.unwrap();
    let (sender, woken) = mpsc::channel();
    let crowd: Vec<_> = (0..1000).map(|_| limiter.reserve(1, None).unwrap()).collect();
    let mut staying: Vec<_> = (0..3).map(|_| limiter.reserve(1, None).unwrap()).collect();
    for (number, waiting) in staying.iter_mut().enumerate() {
        assert!(listen(waiting, &waker(&sender, number)));
    }
    drop((ahead, crowd));
    limiter.set_rate(1, SECOND / 50).unwrap();
    for (number, waiting) in staying.iter_mut().enumerate() {
        assert_eq!(woken.recv_timeout(ENOUGH), Ok(number));
        assert!(poll(waiting).is_ready());
    }
}

// RL-4: a task that is woken and never polled delays no later waiter.
#[test]
fn a_task_that_is_not_polled_delays_no_other_waiter() {
    let limiter = empty(SECOND / 50);
    let (sender, woken) = mpsc::channel();
    let mut waiting: Vec<_> = (0..5).map(|_| limiter.reserve(1, None).unwrap()).collect();
    for (number, waiting) in waiting.iter_mut().enumerate() {
        assert!(listen(waiting, &waker(&sender, number)));
    }
    for number in 0..5 {
        assert_eq!(woken.recv_timeout(ENOUGH), Ok(number));
    }
    assert!(poll(&mut waiting[4]).is_ready());
}

// RL-4, RL-6: a parked thread is woken, too, although its own timeout is later.
#[test]
fn a_thread_that_moves_up_is_woken() {
    let limiter = empty(SECOND * 3600);
    let ahead = limiter.reserve(1, None).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| limiter.acquire());
        while limiter.stats().waiting < 2 {
            std::thread::yield_now();
        }
        drop(ahead);
        limiter.set_rate(1000, SECOND).unwrap();
        waiting.join().unwrap();
    });
}

// RL-8
#[test]
fn reset_wakes_one_waiter_per_token() {
    let limiter = RateLimiter::builder(3).per(SECOND * 3600).build().unwrap();
    assert!(limiter.try_acquire_n(3));
    let (sender, woken) = mpsc::channel();
    let mut waiting: Vec<_> = (0..200).map(|_| limiter.reserve(1, None).unwrap()).collect();
    for (number, waiting) in waiting.iter_mut().enumerate() {
        assert!(listen(waiting, &waker(&sender, number)));
    }
    limiter.reset();
    assert_eq!(woken.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    let ready = waiting.iter_mut().map(|waiting| listen(waiting, Waker::noop())).filter(|pending| !pending).count();
    assert_eq!(ready, 3);
}

// RL-5: a lower rate moves the token behind the deadline, and the waiter is rejected at once.
#[test]
fn a_slower_rate_wakes_waiters_with_a_deadline() {
    let limiter = empty(SECOND * 10);
    let (sender, woken) = mpsc::channel();
    let mut waiting = limiter.reserve(1, Some(SECOND * 20)).unwrap();
    assert!(listen(&mut waiting, &waker(&sender, 7)));
    limiter.set_rate(1, SECOND * 3600).unwrap();
    assert_eq!(woken.try_recv(), Ok(7));
    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(_))));
}

// The shared wake-up does not keep the limiter alive.
#[test]
fn a_limiter_is_dropped_with_its_last_waiter() {
    let limiter = empty(SECOND * 3600);
    let mut waiting = limiter.reserve(1, None).unwrap();
    assert!(listen(&mut waiting, Waker::noop()));
    let shared = Arc::downgrade(&limiter.shared);
    drop((waiting, limiter));
    assert_eq!(shared.strong_count(), 0);
}
