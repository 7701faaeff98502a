//! Running what is not ours: callbacks that may panic, block or be futures. Never called under a lock.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "tokio")]
use crate::log::log_in_background;
#[cfg(feature = "tokio")]
use crate::per_process::this_process;

/// A future that owns what it needs.
pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A callback taking a report `A`, plain or async; cheap to clone.
pub(crate) enum Callback<A> {
    Plain(Arc<dyn Fn(&A) + Send + Sync>),
    Async(Arc<dyn Fn(&A) -> BoxFuture + Send + Sync>),
}

impl<A> Callback<A> {
    pub(crate) fn plain(f: impl Fn(&A) + Send + Sync + 'static) -> Self {
        Self::Plain(Arc::new(f))
    }

    pub(crate) fn future<F>(f: impl Fn(&A) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Async(Arc::new(move |report| Box::pin(f(report))))
    }

    /// Runs the callback to its end on this thread, a future on a runtime of its own; a panic comes back as its message.
    pub(crate) fn run(&self, report: &A) -> Result<(), String> {
        match self {
            Self::Plain(f) => caught(|| f(report)),
            Self::Async(f) => caught(|| block_on(f(report))),
        }
    }
}

impl<A> Clone for Callback<A> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(f) => Self::Plain(Arc::clone(f)),
            Self::Async(f) => Self::Async(Arc::clone(f)),
        }
    }
}

impl<A> fmt::Debug for Callback<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Callback::Plain",
            Self::Async(_) => "Callback::Async",
        })
    }
}

/// Calls `f`; a panic comes back as its message. What was thrown may panic once more when it is dropped: that ends here.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let message = panic_message(&*panic);
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        message
    })
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// Runs `future` to its end while this thread waits, on a small tokio runtime of its own.
#[cfg(feature = "tokio")]
pub(crate) fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    OwnRuntime::new_or_without_io().block_on(future)
}

/// A tokio runtime of the library's own, of one thread: that which waits for a future.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct OwnRuntime {
    /// Always there, but in the destructor.
    runtime: Option<tokio::runtime::Runtime>,
    process: u32,
}

#[cfg(feature = "tokio")]
impl OwnRuntime {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self::from(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    /// Where the system has no descriptor to give, a runtime that needs none: there futures may wait and sleep, but not
    /// use tokio's sockets, pipes and processes.
    pub(crate) fn new_or_without_io() -> Self {
        Self::new().unwrap_or_else(|error| {
            log_in_background(
                move || tracing::error!(target: "backstay", %error, "no descriptors for a runtime: an async callback runs on one without I/O"),
            );
            let without = tokio::runtime::Builder::new_current_thread().enable_time().build();
            Self::from(without.expect("a runtime without I/O asks nothing of the system"))
        })
    }

    /// Whether it was made in this process. A forked child shares the parent's descriptors, and must not use them.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == this_process()
    }

    /// Runs `future` to its end while this thread waits. A thread that is inside a runtime already may not enter another:
    /// there it waits for one that is not.
    pub(crate) fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        if tokio::runtime::Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        let run = || runtime.block_on(future);
        std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

#[cfg(feature = "tokio")]
impl From<tokio::runtime::Runtime> for OwnRuntime {
    fn from(runtime: tokio::runtime::Runtime) -> Self {
        Self { runtime: Some(runtime), process: this_process() }
    }
}

#[cfg(feature = "tokio")]
impl Drop for OwnRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.is_ours() {
            // Unlike dropping it, this is allowed in a task as well.
            runtime.shutdown_background();
        } else {
            // Its locks may be held for ever.
            std::mem::forget(runtime);
        }
    }
}

/// Runs `future` to its end on this thread.
#[cfg(not(feature = "tokio"))]
pub(crate) fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
