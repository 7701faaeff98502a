//! One run of a callback, on a thread or runtime where it can hang without delaying the callbacks after it.
//!
//! # Memory ordering
//! `flags` holds both flags in one word, so that no ordering between two words is needed: of an execution that ends and
//! an abort, the later one sees the earlier. Both are read-modify-write operations with `AcqRel`; the load of
//! [`EXECUTING`] is an acquire. So the shutdown thread sees everything that the callback did before it returned.
//! `poller` and [`ABORTED`] are ordered by the lock of `poller`: see [`CallbackDriver::poll`]. `dropped_unpolled` is
//! `SeqCst`: it is set at most once, before the wake-up after which the shutdown thread loads it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backstay_core::shutdown::CallbackOutcome;
#[cfg(feature = "tokio")]
use backstay_core::shutdown::first_poll_within;

use super::registration::{CallbackFn, Cleanup, CleanupFuture};
#[cfg(not(feature = "tokio"))]
use crate::callback::block_on;
use crate::callback::caught;
use crate::clock::{Clock, Moment};
use crate::log::log_in_background;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, Wake};
use crate::threads;

thread_local! {
    /// The shutdowns of the callbacks that this thread is executing, innermost last.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Returns whether the calling thread is executing a callback of this shutdown.
pub(super) fn is_inside_callback(shutdown: usize) -> bool {
    INSIDE.try_with(|inside| inside.borrow().contains(&shutdown)).unwrap_or(false)
}

fn inside<T>(shutdown: usize, f: impl FnOnce() -> T) -> T {
    struct PopOnDrop;
    impl Drop for PopOnDrop {
        fn drop(&mut self) {
            let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
        }
    }
    let entered = INSIDE.try_with(|inside| inside.borrow_mut().push(shutdown)).is_ok();
    let _pop = entered.then_some(PopOnDrop);
    f()
}

/// The run of a callback, shared by the shutdown thread and the thread or task that executes the callback.
pub(super) struct CallbackRun {
    shutdown: usize,
    waiter: Wake,
    ended: Mutex<Option<Result<(), String>>>,
    /// [`EXECUTING`] and [`ABORTED`].
    flags: AtomicU8,
    /// An async callback before its first poll.
    unpolled: Mutex<Option<CleanupFuture>>,
    /// The runtime has dropped the task before its first poll.
    dropped_unpolled: AtomicBool,
    poller: Mutex<Option<Waker>>,
}

/// Flag: a thread is executing the callback's code.
const EXECUTING: u8 = 1;
/// Flag: the timeout is up, so an async callback is dropped instead of polled.
const ABORTED: u8 = 2;

impl CallbackRun {
    /// Creates the run. Without a future it counts as executing from the start: its thread may start late, but will
    /// start.
    fn new(shutdown: usize, unpolled: Option<CleanupFuture>) -> Arc<Self> {
        Arc::new(Self {
            shutdown,
            waiter: Wake::this_thread(),
            ended: Mutex::new(None),
            flags: AtomicU8::new(if unpolled.is_none() { EXECUTING } else { 0 }),
            unpolled: Mutex::new(unpolled),
            dropped_unpolled: AtomicBool::new(false),
            poller: Mutex::new(None),
        })
    }

    /// Returns whether a thread is executing the callback's code.
    pub(super) fn is_executing(&self) -> bool {
        self.flags.load(Ordering::Acquire) & EXECUTING != 0
    }

    /// Waits on the shutdown thread until no code of the callback is executing, and returns whether that was so by
    /// `deadline`.
    pub(super) fn returns_by(&self, clock: &Clock, deadline: Moment) -> bool {
        self.wait(clock, deadline, |run| (!run.is_executing()).then_some(())).is_some()
    }

    /// Executes code of the callback. A panic is returned as its message.
    fn execute<T>(&self, f: impl FnOnce() -> T) -> Result<T, String> {
        self.flags.fetch_or(EXECUTING, Ordering::AcqRel);
        let result = inside(self.shutdown, || caught(f));
        if self.flags.fetch_and(!EXECUTING, Ordering::AcqRel) & ABORTED != 0 {
            self.waiter.clone().wake();
        }
        result.map_err(|panic| format!("panicked: {panic}"))
    }

    /// Sets the result, unless there is one.
    fn end(&self, result: Result<(), String>) {
        let mut ended = self.ended.lock();
        if ended.is_none() {
            *ended = Some(result);
        }
        drop(ended);
        self.waiter.clone().wake();
    }

    /// Sets the result of an async callback's driver; `None` sets nothing.
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

    /// Blocks until `check` returns a value, or until `deadline`.
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

/// The runtimes on which an async callback may run.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, Default)]
pub(super) struct Runtimes {
    /// The runtime on which the shutdown was triggered.
    pub(super) found: Option<tokio::runtime::Handle>,
    /// A runtime that is blocked by the call that triggered the shutdown.
    pub(super) blocked: Option<tokio::runtime::Id>,
}

#[cfg(feature = "tokio")]
impl Runtimes {
    fn choose(&self, own: Option<&tokio::runtime::Handle>) -> Option<tokio::runtime::Handle> {
        let usable = |runtime: &&tokio::runtime::Handle| Some(runtime.id()) != self.blocked;
        own.filter(usable).or(self.found.as_ref().filter(usable)).cloned()
    }
}

/// The runtimes on which an async callback may run: none without tokio, it runs on a thread of its own.
#[cfg(not(feature = "tokio"))]
#[derive(Clone, Debug, Default)]
pub(super) struct Runtimes {}

/// What all callbacks of one shutdown share.
pub(super) struct RunContext<'a> {
    pub(super) clock: &'a Clock,
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(super) runtimes: &'a Runtimes,
    #[cfg(feature = "tokio")]
    pub(super) reserved_runtime: &'a super::reserved_runtime::ReservedRuntime,
}

/// Runs `cleanup` for at most `timeout`. If it has not ended by then, the run is returned as well.
pub(super) fn run(
    shutdown: usize,
    name: &str,
    cleanup: Cleanup,
    timeout: Duration,
    context: &RunContext<'_>,
) -> (CallbackOutcome, Option<Arc<CallbackRun>>) {
    let clock = context.clock;
    let begun = clock.now();
    let run = match cleanup.callback {
        CallbackFn::Sync(callback) => {
            let run = CallbackRun::new(shutdown, None);
            let end = EndOnDrop(Arc::clone(&run));
            on_thread(name, move || {
                #[cfg(feature = "tokio")]
                let _context = cleanup.runtime.as_ref().map(tokio::runtime::Handle::enter);
                let result = end.0.execute(callback);
                end.0.end(result.and_then(|result| result));
            });
            run
        }
        CallbackFn::Async(future) => {
            let run = CallbackRun::new(shutdown, Some(future));
            #[cfg(feature = "tokio")]
            if let Some(runtime) = context.runtimes.choose(cleanup.runtime.as_ref()) {
                let (shared, driver) = (Arc::clone(&run), CallbackDriver { run: Arc::clone(&run), future: None });
                runtime.spawn(async move { shared.end_with(driver.await) });
                let deadline = begun + first_poll_within(timeout);
                run.wait(clock, deadline, |run| {
                    (run.unpolled.lock().is_none() || run.dropped_unpolled.load(Ordering::SeqCst)).then_some(())
                });
            }
            let future = run.unpolled.lock().take();
            if let Some(future) = future {
                let driver = CallbackDriver { run: Arc::clone(&run), future: Some(future) };
                let shared = Arc::clone(&run);
                #[cfg(feature = "tokio")]
                let block_on = {
                    let reserved_runtime = context.reserved_runtime.clone();
                    move |driver| reserved_runtime.block_on(driver)
                };
                // The result is set after the reserved runtime is put back: the next callback may need it.
                on_thread(name, move || shared.end_with(block_on(driver)));
            }
            run
        }
    };
    match run.wait(clock, begun + timeout, |run| run.ended.lock().take()) {
        Some(Ok(())) => (CallbackOutcome::Completed, None),
        Some(Err(why)) => (CallbackOutcome::Failed(why), None),
        None => {
            run.abort();
            (CallbackOutcome::TimedOut, Some(run))
        }
    }
}

/// Runs `job` on a new thread: that of the callback before may hang forever. If the system has no thread, `job` runs on
/// this one: better without a timeout than not at all.
pub(super) fn on_thread(name: &str, job: impl FnOnce() + Send + 'static) {
    let job = Arc::new(Mutex::new(Some(job)));
    let shared = Arc::clone(&job);
    let log = tracing::dispatcher::get_default(Clone::clone);
    let started = threads::named(name).spawn(move || {
        let job = shared.lock().take();
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

/// Sets an error as the result if the thread ends without one.
struct EndOnDrop(Arc<CallbackRun>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Err("its thread ended before the callback did".to_owned()));
    }
}

/// Polls an async callback to its end, on any runtime. The first poll takes the callback out of `unpolled`. The output
/// is `None` if another driver has taken the callback, or its timeout was up.
struct CallbackDriver {
    run: Arc<CallbackRun>,
    future: Option<CleanupFuture>,
}

impl CallbackDriver {
    fn discard(&mut self) {
        if let Some(future) = self.future.take() {
            let _ = self.run.execute(|| drop(future));
        }
    }
}

impl Future for CallbackDriver {
    type Output = Option<Result<(), String>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.future.is_none() {
            this.future = this.run.unpolled.lock().take();
        }
        let Some(future) = &mut this.future else { return Poll::Ready(None) };
        // First stores the waker, then checks the flag; `abort` first sets the flag, then takes the waker. So either
        // this poll sees the flag, or `abort` wakes this task.
        let old = this.run.poller.lock().replace(context.waker().clone());
        drop(old);
        if this.run.flags.load(Ordering::Acquire) & ABORTED != 0 {
            this.discard();
            return Poll::Ready(None);
        }
        let result = match this.run.execute(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(panic),
        };
        this.discard();
        Poll::Ready(Some(result))
    }
}

impl Drop for CallbackDriver {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.discard();
            self.run.end(Err("its runtime ended before the callback did".to_owned()));
        } else {
            self.run.dropped_unpolled.store(true, Ordering::SeqCst);
            self.run.waiter.clone().wake();
        }
    }
}

#[cfg(all(test, backstay_loom))]
mod loom_tests;
