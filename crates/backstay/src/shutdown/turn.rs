//! One callback's turn: running it where it can hang without holding up the others, and learning how it ended.
//!
//! # Memory ordering
//! `flags` is one word so that no ordering between two words is needed: of an execution that ends and an abort, the
//! later one sees the earlier. Both are read-modify-write with acquire and release, as is the look at `BUSY`, so that
//! the thread of the run sees everything that the callback did before it came back. `poller` and [`ABORTED`] pair by the
//! lock of `poller`: see [`Drive::poll`].

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backstay_core::shutdown::Outcome;
#[cfg(feature = "tokio")]
use backstay_core::shutdown::first_poll_within;

use super::registration::{Cleanup, CleanupFuture, Work};
#[cfg(not(feature = "tokio"))]
use crate::callback::block_on;
use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_in_background;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, Wake};
use crate::threads;

thread_local! {
    /// The shutdowns whose callbacks this thread is inside of.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Whether the calling thread runs, or polls, a callback of that shutdown.
pub(super) fn is_inside(shutdown: usize) -> bool {
    INSIDE.try_with(|inside| inside.borrow().contains(&shutdown)).unwrap_or(false)
}

fn inside<T>(shutdown: usize, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
        }
    }
    let entered = INSIDE.try_with(|inside| inside.borrow_mut().push(shutdown)).is_ok();
    let _leave = entered.then_some(Leave);
    f()
}

/// A turn, shared by the thread that waits for its end and by whoever runs the callback.
pub(super) struct Turn {
    shutdown: usize,
    waiter: Wake,
    ended: Mutex<Option<Result<(), String>>>,
    /// [`BUSY`] and [`ABORTED`].
    flags: AtomicU8,
    /// An async callback that nobody has begun to poll.
    untouched: Mutex<Option<CleanupFuture>>,
    /// The task that was to poll it is gone without having begun.
    forsaken: AtomicBool,
    poller: Mutex<Option<Waker>>,
}

/// The callback's own code is being executed at this moment.
const BUSY: u8 = 1;
/// The time is up: an async callback is dropped instead of polled.
const ABORTED: u8 = 2;

impl Turn {
    /// One without a future is as good as executing: its thread may be late, but nothing takes it back.
    fn new(shutdown: usize, untouched: Option<CleanupFuture>) -> Arc<Self> {
        Arc::new(Self {
            shutdown,
            waiter: Wake::this_thread(),
            ended: Mutex::new(None),
            flags: AtomicU8::new(if untouched.is_none() { BUSY } else { 0 }),
            untouched: Mutex::new(untouched),
            forsaken: AtomicBool::new(false),
            poller: Mutex::new(None),
        })
    }

    /// Whether the callback's code is being executed at this moment.
    pub(super) fn is_busy(&self) -> bool {
        self.flags.load(Ordering::Acquire) & BUSY != 0
    }

    /// Waits, on the thread of the run, for the callback's code to come back; whether it has by `deadline`.
    pub(super) fn comes_back(&self, clock: &Clock, deadline: Moment) -> bool {
        self.wait(clock, deadline, |turn| (!turn.is_busy()).then_some(())).is_some()
    }

    /// Executes some of the callback's code; a panic comes back as its message.
    fn execute<T>(&self, f: impl FnOnce() -> T) -> Result<T, String> {
        self.flags.fetch_or(BUSY, Ordering::AcqRel);
        let result = inside(self.shutdown, || caught(f));
        if self.flags.fetch_and(!BUSY, Ordering::AcqRel) & ABORTED != 0 {
            self.waiter.clone().wake();
        }
        result.map_err(|panic| format!("panicked: {panic}"))
    }

    /// The first end counts.
    fn end(&self, result: Result<(), String>) {
        let mut ended = self.ended.lock();
        if ended.is_none() {
            *ended = Some(result);
        }
        drop(ended);
        self.waiter.clone().wake();
    }

    /// As the driver of an async callback says: `None` where that has been taken back.
    fn end_with(&self, result: Option<Result<(), String>>) {
        if let Some(result) = result {
            self.end(result);
        }
    }

    fn abort(&self) {
        self.flags.fetch_or(ABORTED, Ordering::AcqRel);
        let poller = self.poller.lock().take();
        if let Some(poller) = poller {
            poller.wake();
        }
    }

    /// Blocks until `check` gives something, or until `deadline`.
    fn wait<T>(&self, clock: &Clock, deadline: Moment, check: impl Fn(&Self) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = check(self) {
                return Some(found);
            }
            if clock.now() >= deadline {
                return None;
            }
            clock.park_until(deadline);
        }
    }
}

/// Where an async callback may run.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, Default)]
pub(super) struct Runtimes {
    /// The one on which the shutdown was triggered.
    pub(super) found: Option<tokio::runtime::Handle>,
    /// One that the trigger blocks.
    pub(super) blocked: Option<tokio::runtime::Id>,
}

#[cfg(feature = "tokio")]
impl Runtimes {
    fn choose(&self, own: Option<&tokio::runtime::Handle>) -> Option<tokio::runtime::Handle> {
        let usable = |runtime: &&tokio::runtime::Handle| Some(runtime.id()) != self.blocked;
        own.filter(usable).or(self.found.as_ref().filter(usable)).cloned()
    }
}

/// Where an async callback may run: without tokio on its own thread alone.
#[cfg(not(feature = "tokio"))]
#[derive(Clone, Debug, Default)]
pub(super) struct Runtimes {}

/// What the turns of one run have in common.
pub(super) struct Room<'a> {
    pub(super) clock: &'a Clock,
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(super) runtimes: &'a Runtimes,
    #[cfg(feature = "tokio")]
    pub(super) reserve: &'a super::reserve::Reserve,
}

/// Runs `cleanup`, for at most `time`. Its turn comes back as well where it had not ended by then.
pub(super) fn run(
    shutdown: usize,
    name: &str,
    cleanup: Cleanup,
    time: Duration,
    room: &Room<'_>,
) -> (Outcome, Option<Arc<Turn>>) {
    let clock = room.clock;
    let begun = clock.now();
    let turn = match cleanup.work {
        Work::Plain(callback) => {
            let turn = Turn::new(shutdown, None);
            let last = EndsAnyway(Arc::clone(&turn));
            on_thread(name, move || {
                #[cfg(feature = "tokio")]
                let _context = cleanup.runtime.as_ref().map(tokio::runtime::Handle::enter);
                let result = last.0.execute(callback);
                last.0.end(result.and_then(|result| result));
            });
            turn
        }
        Work::Async(future) => {
            let turn = Turn::new(shutdown, Some(future));
            #[cfg(feature = "tokio")]
            if let Some(runtime) = room.runtimes.choose(cleanup.runtime.as_ref()) {
                let (theirs, drive) = (Arc::clone(&turn), Drive { turn: Arc::clone(&turn), future: None });
                runtime.spawn(async move { theirs.end_with(drive.await) });
                let patience = begun + first_poll_within(time);
                turn.wait(clock, patience, |turn| {
                    (turn.untouched.lock().is_none() || turn.forsaken.load(Ordering::SeqCst)).then_some(())
                });
            }
            let future = turn.untouched.lock().take();
            if let Some(future) = future {
                let drive = Drive { turn: Arc::clone(&turn), future: Some(future) };
                let theirs = Arc::clone(&turn);
                #[cfg(feature = "tokio")]
                let block_on = {
                    let reserve = room.reserve.clone();
                    move |drive| reserve.block_on(drive)
                };
                // The turn ends once the runtime is back in its place: the next callback may need it.
                on_thread(name, move || theirs.end_with(block_on(drive)));
            }
            turn
        }
    };
    match turn.wait(clock, begun + time, |turn| turn.ended.lock().take()) {
        Some(Ok(())) => (Outcome::Completed, None),
        Some(Err(why)) => (Outcome::Failed(why), None),
        None => {
            turn.abort();
            (Outcome::TimedOut, Some(turn))
        }
    }
}

/// Runs `job` on a fresh thread: the one before may hang for ever. Where the system has no thread to give, it runs here;
/// better without a timeout than not at all.
pub(super) fn on_thread(name: &str, job: impl FnOnce() + Send + 'static) {
    let job = Arc::new(Mutex::new(Some(job)));
    let theirs = Arc::clone(&job);
    let log = tracing::dispatcher::get_default(Clone::clone);
    let started = threads::named(name).spawn(move || {
        let job = theirs.lock().take();
        if let Some(job) = job {
            tracing::dispatcher::with_default(&log, job);
        }
    });
    if let Err(error) = started {
        log_in_background(
            move || tracing::warn!(target: "backstay", %error, "no thread for a shutdown callback: it runs without a timeout"),
        );
        let job = job.lock().take();
        if let Some(job) = job {
            let _ = caught(job);
        }
    }
}

/// Ends the turn of a callback whose thread was unwound past it.
struct EndsAnyway(Arc<Turn>);

impl Drop for EndsAnyway {
    fn drop(&mut self) {
        self.0.end(Err("its thread ended before it".to_owned()));
    }
}

/// Polls an async callback to its end, on whatever runtime; takes it when first polled. `None` where the callback was
/// taken by another, or its time was up.
struct Drive {
    turn: Arc<Turn>,
    future: Option<CleanupFuture>,
}

impl Drive {
    fn discard(&mut self) {
        if let Some(future) = self.future.take() {
            let _ = self.turn.execute(|| drop(future));
        }
    }
}

impl Future for Drive {
    type Output = Option<Result<(), String>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.future.is_none() {
            this.future = this.turn.untouched.lock().take();
        }
        let Some(future) = &mut this.future else { return Poll::Ready(None) };
        // First where to be woken, then whether to stop: `abort` does it the other way round.
        let old = this.turn.poller.lock().replace(context.waker().clone());
        drop(old);
        if this.turn.flags.load(Ordering::Acquire) & ABORTED != 0 {
            this.discard();
            return Poll::Ready(None);
        }
        let result = match this.turn.execute(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(panic),
        };
        this.discard();
        Poll::Ready(Some(result))
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.discard();
            self.turn.end(Err("its runtime ended before it".to_owned()));
        } else {
            self.turn.forsaken.store(true, Ordering::SeqCst);
            self.turn.waiter.clone().wake();
        }
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
