//! A runtime for async callbacks that find no other, made when the first of them is registered.

use std::io;
use std::sync::Arc;

use crate::callback::OwnRuntime;
use crate::sync::Mutex;

/// Holds that runtime: it needs descriptors, and a service that shuts down because none is free must still clean up.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserve(Arc<Mutex<Option<OwnRuntime>>>);

impl Reserve {
    /// Makes the runtime, unless this process has one. It is never taken out for that: a callback may need it at this
    /// moment.
    pub(super) fn fill(&self) -> io::Result<()> {
        let is_full = self.0.lock().as_ref().is_some_and(OwnRuntime::is_ours);
        if !is_full {
            self.put_back(OwnRuntime::new()?);
        }
        Ok(())
    }

    /// Runs `future` to its end on this thread: on the reserved runtime or, while an earlier callback still uses that one,
    /// on a new one.
    pub(super) fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let runtime = self.take().unwrap_or_else(OwnRuntime::new_or_without_io);
        let output = runtime.block_on(future);
        self.put_back(runtime);
        output
    }

    /// Drops the runtime, with the tasks that callbacks have left on it.
    pub(super) fn empty(&self) {
        drop(self.take());
    }

    /// Takes the runtime out; `None` if it is in use, or a parent process's.
    fn take(&self) -> Option<OwnRuntime> {
        let runtime = self.0.lock().take();
        runtime.filter(OwnRuntime::is_ours)
    }

    fn put_back(&self, runtime: OwnRuntime) {
        let other = self.0.lock().replace(runtime);
        drop(other);
    }
}
