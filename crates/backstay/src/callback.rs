//! Running user callbacks, which may panic, block or be async. Never call these functions under a lock.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "tokio")]
use crate::log::log_in_background;
#[cfg(feature = "tokio")]
use crate::process::this_process;

/// A boxed future.
pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A sync or async callback with an argument `A`. Cheap to clone.
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

    /// Runs the callback to completion on this thread; an async one on its own runtime. Returns the message of a panic.
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

/// Calls `f` and returns the message of a panic as an error.
///
/// The panic's payload may panic again when it is dropped. That is caught as well.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let message = panic_message(&*panic);
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        message
    })
}

/// Returns the message of a panic's payload.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// Runs `future` to completion on a new tokio runtime, while this thread waits.
#[cfg(feature = "tokio")]
pub(crate) fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    OwnRuntime::new_or_without_io().block_on(future)
}

/// A single-threaded tokio runtime of this library. Its thread is the one that waits for a future.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct OwnRuntime {
    /// `None` only in the destructor.
    runtime: Option<tokio::runtime::Runtime>,
    process: u32,
}

#[cfg(feature = "tokio")]
impl OwnRuntime {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self::from(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    /// Creates a runtime, without I/O if no file descriptor is free.
    ///
    /// Without I/O, futures can wait and sleep, but not use tokio's sockets, pipes and processes.
    pub(crate) fn new_or_without_io() -> Self {
        Self::new().unwrap_or_else(|error| {
            log_in_background(
                move || tracing::error!(target: "backstay", %error, "no file descriptor is free: an async callback runs on a runtime without I/O"),
            );
            let without = tokio::runtime::Builder::new_current_thread().enable_time().build();
            Self::from(without.expect("a runtime without I/O needs no descriptor"))
        })
    }

    /// Returns whether it was created in this process. A forked child must not use the parent's descriptors.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == this_process()
    }

    /// Runs `future` to completion while this thread waits.
    ///
    /// A thread that is inside a runtime cannot enter another one, so a new thread runs the future in that case.
    pub(crate) fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let runtime = self.runtime.as_ref().expect("present until the drop");
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
            // Unlike a drop, this is allowed in a task.
            runtime.shutdown_background();
        } else {
            // The parent's locks may be held for ever here.
            std::mem::forget(runtime);
        }
    }
}

/// Runs `future` to completion on this thread.
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
